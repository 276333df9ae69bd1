from django.urls import path

from quotas.pages import views

urlpatterns = [
    path("workspaces/", views.workspaces, name="workspaces"),
    path("workspaces/new/", views.new_workspace, name="new-workspace"),
    path("workspaces/<uuid:pk>/", views.workspace, name="workspace"),
    path("workspaces/<uuid:pk>/settings/", views.workspace_settings, name="workspace-settings"),
    path("workspaces/<uuid:pk>/members/", views.add_member, name="add-member"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/", views.member, name="member"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/remove/", views.remove_member, name="remove-member"),
]

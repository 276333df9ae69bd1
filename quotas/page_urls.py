from django.urls import path

from quotas import pages

urlpatterns = [
    path("workspaces/", pages.workspaces, name="workspaces"),
    path("workspaces/new/", pages.new_workspace, name="new-workspace"),
    path("workspaces/<uuid:pk>/", pages.workspace, name="workspace"),
    path("workspaces/<uuid:pk>/settings/", pages.workspace_settings, name="workspace-settings"),
    path("workspaces/<uuid:pk>/members/", pages.add_member, name="add-member"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/", pages.member, name="member"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/remove/", pages.remove_member, name="remove-member"),
]

from django.urls import path

from quotas import views

urlpatterns = [
    path("workspaces/", views.WorkspaceList.as_view(), name="workspaces"),
    path("workspaces/<uuid:pk>/", views.WorkspaceDetail.as_view(), name="workspace"),
    path("workspaces/<uuid:pk>/members/", views.MemberList.as_view(), name="workspace-members"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/", views.MemberDetail.as_view(), name="workspace-member"),
    path("workspaces/<uuid:pk>/quota/", views.QuotaDetail.as_view(), name="workspace-quota"),
]

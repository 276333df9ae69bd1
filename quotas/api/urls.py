from django.urls import path

from quotas.api import views

urlpatterns = [
    path("workspaces/", views.WorkspaceList.as_view(), name="api-workspaces"),
    path("workspaces/<uuid:pk>/", views.WorkspaceDetail.as_view(), name="api-workspace"),
    path("workspaces/<uuid:pk>/members/", views.MemberList.as_view(), name="api-members"),
    path("workspaces/<uuid:pk>/members/<int:user_id>/", views.MemberDetail.as_view(), name="api-member"),
    path("workspaces/<uuid:pk>/quota/", views.QuotaDetail.as_view(), name="api-quota"),
]

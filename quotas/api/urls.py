from rest_framework.routers import SimpleRouter

from quotas.api import views

router = SimpleRouter(use_regex_path=False)
router.register("workspaces", views.WorkspaceViewSet, basename="api-workspace")
router.register("workspaces/<uuid:pk>/members", views.MemberViewSet, basename="api-member")
urlpatterns = router.urls

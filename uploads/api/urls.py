from rest_framework.routers import SimpleRouter

from uploads.actions import file_actions
from uploads.api import views
from uploads.api.direct_uploads import DirectUploadViewSet

for action in file_actions():
    if action.api_summary:
        setattr(views.UploadViewSet, action.name, views.endpoint_of(action))
router = SimpleRouter(use_regex_path=False)
router.register("uploads", views.UploadViewSet, basename="upload")
router.register("uploads/<uuid:pk>/events", views.UploadEventViewSet, basename="upload-event")
router.register("direct-uploads", DirectUploadViewSet, basename="direct-upload")
urlpatterns = router.urls

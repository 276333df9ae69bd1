from django.urls import path
from rest_framework.routers import SimpleRouter

from uploads.api import views
from uploads.api.direct_uploads import DirectUploadViewSet

router = SimpleRouter(use_regex_path=False)
router.register("uploads", views.UploadViewSet, basename="upload")
router.register("direct-uploads", DirectUploadViewSet, basename="direct-upload")
urlpatterns = [
    *router.urls,
    path("uploads/<uuid:pk>/events/", views.UploadEventList.as_view(), name="upload-events"),
]

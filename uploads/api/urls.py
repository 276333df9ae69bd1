from django.urls import path
from rest_framework.routers import SimpleRouter

from uploads.actions import file_actions
from uploads.api import views
from uploads.api.chunked_uploads import ChunkedUploadViewSet
from uploads.api.direct_uploads import DirectUploadViewSet
from uploads.api.tus import TusCreationView, TusUploadView
from uploads.api.upload_sessions import UploadSessionViewSet

for action in file_actions():
    if action.api_summary:
        setattr(views.UploadViewSet, action.name, views.endpoint_of(action))
router = SimpleRouter(use_regex_path=False)
router.register("uploads", views.UploadViewSet, basename="upload")
router.register("uploads/<uuid:pk>/events", views.UploadEventViewSet, basename="upload-event")
router.register("direct-uploads", DirectUploadViewSet, basename="direct-upload")
router.register("chunked-uploads", ChunkedUploadViewSet, basename="chunked-upload")
router.register("upload-sessions", UploadSessionViewSet, basename="upload-session")
urlpatterns = [
    *router.urls,
    path("tus/", TusCreationView.as_view(), name="tus"),
    path("tus/<uuid:pk>", TusUploadView.as_view(), name="tus-upload"),
]

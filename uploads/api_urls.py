from django.urls import path
from rest_framework.routers import SimpleRouter

from uploads import views

router = SimpleRouter(use_regex_path=False)
router.register("uploads", views.UploadViewSet, basename="upload")
urlpatterns = [
    *router.urls,
    path("uploads/<uuid:pk>/events/", views.UploadEventList.as_view(), name="upload-events"),
]

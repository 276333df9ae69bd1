from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from uploads import pages, views

urlpatterns = [
    path("", pages.files, name="files"),
    path("upload/", pages.upload, name="upload"),
    path("files/<uuid:pk>/", pages.file, name="file"),
    path("files/<uuid:pk>/delete/", pages.delete, name="delete-file"),
    path("files/<uuid:pk>/undelete/", pages.undelete, name="undelete-file"),
    path("storage/stats", views.StorageStatsView.as_view(), name="storage-stats"),
    path("sign-in/", LoginView.as_view(template_name="sign_in.html"), name="sign-in"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
]

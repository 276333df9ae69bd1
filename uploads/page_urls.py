from django.urls import path

from uploads import pages, views

urlpatterns = [
    path("", pages.files, name="files"),
    path("trash/", pages.trash, name="trash"),
    path("upload/", pages.upload, name="upload"),
    path("files/<uuid:pk>/", pages.file, name="file"),
    path("files/<uuid:pk>/delete/", pages.delete, name="delete-file"),
    path("files/<uuid:pk>/retry/", pages.retry, name="retry-file"),
    path("files/<uuid:pk>/undelete/", pages.undelete, name="undelete-file"),
    path("storage/stats", views.StorageStatsView.as_view(), name="storage-stats"),
]

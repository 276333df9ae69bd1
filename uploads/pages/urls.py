from django.urls import path

from uploads.actions.bulk import Action
from uploads.api import views
from uploads.pages import file, lists, selected, shared, upload

urlpatterns = [
    path("", lists.files, name="files"),
    path("files.csv", lists.files_csv, name="files-csv"),
    path("trash/", lists.trash, name="trash"),
    path("trash.csv", lists.trash_csv, name="trash-csv"),
    path("workspaces/<uuid:pk>/empty-trash/", selected.empty_trash, name="empty-trash"),
    path("selected/", selected.selected, name="selected-files"),
    path("upload/", upload.upload, name="upload"),
    path("files/<uuid:pk>/", file.file, name="file"),
    path("files/<uuid:pk>/rename/", file.rename, name="rename-file"),
    path("files/<uuid:pk>/link/", file.make_link, name="link-to-file"),
    path("files/<uuid:pk>/delete/", file.act, {"action": Action.DELETE}, name="delete-file"),
    path("files/<uuid:pk>/retry/", file.act, {"action": Action.RETRY}, name="retry-file"),
    path("files/<uuid:pk>/undelete/", file.act, {"action": Action.UNDELETE}, name="undelete-file"),
    path("listen/", shared.listen, name="listen"),
    path("storage/stats", views.StorageStatsView.as_view(), name="storage-stats"),
]

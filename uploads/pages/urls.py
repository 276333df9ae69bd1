from django.urls import path

from uploads.api import views
from uploads.pages import file, lists, selected, shared, upload
from uploads.pages.access import page_actions

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
    *(
        path(f"files/<uuid:pk>/{action.name}/", file.act, {"action": action}, name=f"{action.name}-file")
        for action in page_actions()
        if not action.asks_first
    ),
    path("listen/", shared.listen, name="listen"),
    path("storage/stats", views.StorageStatsViewSet.as_view({"get": "retrieve"}), name="storage-stats"),
]

"""What tests of moves between storages have in common."""

from pathlib import Path
from typing import Any

from objectstore import get_storage
from tests.uploads.life import assert_ledger_agrees, names_in, unneeded_names
from uploads.models import AudioUpload, Status
from uploads.upkeep.moving import MovedObject, StorageMove


def other_folder(settings: Any, tmp_path: Path, alias: str = "other") -> Path:
    """A second local storage, of this alias; its folder is not there yet."""
    root = tmp_path / alias
    entry = {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": root}}
    settings.STORAGES = {**settings.STORAGES, alias: entry}
    return root


def move(source: str = "local", target: str = "other", **options: Any) -> list[MovedObject]:
    """One run to its end."""
    return list(StorageMove(source, target, **options).run())


def read(upload: AudioUpload) -> bytes:
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as file:
        return file.read()


def assert_all_readable() -> None:
    """Each row's object and picture are where the row says, and the object has the row's size."""
    for upload in AudioUpload.objects.exclude(status__in=(Status.RECEIVING, Status.PURGED)):
        storage = get_storage(upload.storage_provider)
        assert storage.stat(upload.storage_path).size == upload.file_size
        picture = upload.thumbnail_object
        assert picture is None or get_storage(picture.storage_provider).exists(picture.storage_path)
    assert_ledger_agrees()


def assert_all_lies_in(alias: str, *, but_not_in: str) -> None:
    """Every file is readable in this storage, which has nothing else; what the other one has is in its grace period."""
    assert_all_readable()
    uploads = AudioUpload.objects.exclude(status__in=(Status.RECEIVING, Status.PURGED))
    assert set(uploads.values_list("storage_provider", flat=True)) <= {alias}
    needed = {name for row in uploads.values_list("storage_path", "thumbnail_path") for name in row if name}
    assert names_in(alias) - unneeded_names(alias) == needed
    assert names_in(but_not_in) == unneeded_names(but_not_in)
    pictures = uploads.exclude(thumbnail_object=None).values_list("thumbnail_object__storage_provider", flat=True)
    assert set(pictures) <= {alias}

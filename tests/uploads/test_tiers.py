"""What a provider did by its own rules is brought into the rows."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import structlog
from django.core.files.base import ContentFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from objectstore.base import Availability, ObjectStat
from objectstore.capabilities import StorageClasses
from objectstore.errors import ObjectNotFound, TransientStorageError
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.moto import running_moto
from tests.uploads.life import actions, row, unneeded_object
from uploads.lifecycle.sentences import describe
from uploads.models import AudioUpload, Status, StoredObject, UploadEvent
from uploads.tasks import note_storage_classes
from uploads.upkeep import tiers


class Tiered(LocalStorage):
    """A storage with what a test says. GLACIER is read only when it is restored, of which its listing is silent."""

    objects: ClassVar[dict[str, str]] = {}
    restored: ClassVar[set[str]] = set()
    stats = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.classes = StorageClasses(self)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        for name, storage_class in self.objects.items():
            if storage_class == "broken":
                raise TransientStorageError
            if name.startswith(prefix):
                yield replace(stat_of(name, storage_class), availability=Availability.READABLE)

    def stat(self, name: str) -> ObjectStat:
        type(self).stats += 1
        if name not in self.objects:
            raise ObjectNotFound
        stat = stat_of(name, self.objects[name])
        if name in self.restored:
            return replace(stat, availability=Availability.READABLE, restored_until=timezone.now())
        return stat


def stat_of(name: str, storage_class: str) -> ObjectStat:
    availability = Availability.ARCHIVED if storage_class == "GLACIER" else Availability.READABLE
    return ObjectStat(name, 10, timezone.now(), storage_class, availability=availability)


@pytest.fixture(autouse=True)
def listing(settings: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    settings.STORAGES = {
        **settings.STORAGES,
        "s3": {"BACKEND": "tests.uploads.test_tiers.Tiered", "OPTIONS": {"location": tmp_path}},
    }
    objects: dict[str, str] = {}
    monkeypatch.setattr(Tiered, "objects", objects)
    monkeypatch.setattr(Tiered, "restored", set())
    monkeypatch.setattr(Tiered, "stats", 0)
    return objects


def stored(workspace: Workspace, status: Status = Status.COMPLETED, **columns: Any) -> AudioUpload:
    return row(workspace, status, storage_provider="s3", **{"storage_class": "STANDARD", **columns})


def class_of(upload: AudioUpload) -> str:
    return AudioUpload.objects.values_list("storage_class", flat=True).get(pk=upload.pk)


def test_rows_learn_what_the_provider_did(workspace: Workspace, listing: dict[str, str]) -> None:
    moved, same = stored(workspace), stored(workspace)
    listing |= {moved.storage_path: "STANDARD_IA", same.storage_path: "STANDARD", "audio/nobodys/audio.wav": "GLACIER"}
    assert note_storage_classes() == {"objects": 3, "changed": 1, "unreadable": 0}
    assert (class_of(moved), class_of(same)) == ("STANDARD_IA", "STANDARD")
    event = UploadEvent.objects.get(upload_id=moved.pk)
    assert (event.action, event.details) == ("storage_class_changed", {"from": "STANDARD", "to": "STANDARD_IA"})
    assert "from class “STANDARD” to class “STANDARD_IA”" in describe(event)
    assert actions(same) == []


def test_a_second_look_finds_and_writes_nothing(workspace: Workspace, listing: dict[str, str]) -> None:
    upload = stored(workspace)
    listing[upload.storage_path] = "STANDARD_IA"
    note_storage_classes()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert note_storage_classes()["changed"] == 0
    written = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert [sql for sql in written if "task_leases" not in sql] == []
    assert actions(upload) == ["storage_class_changed"]


def test_all_who_share_an_object_learn_it(workspace: Workspace, listing: dict[str, str]) -> None:
    first = stored(workspace)
    twin = stored(workspace, storage_path=first.storage_path, duplicate_of=first)
    in_trash = stored(workspace, Status.DELETED, storage_path=first.storage_path)
    gone = stored(workspace, Status.PURGED, storage_path=first.storage_path)
    elsewhere = row(workspace, Status.COMPLETED, storage_path=first.storage_path, storage_class="STANDARD")
    listing[first.storage_path] = "STANDARD_IA"
    assert note_storage_classes()["changed"] == 3
    assert {class_of(upload) for upload in (first, twin, in_trash)} == {"STANDARD_IA"}
    assert {class_of(upload) for upload in (gone, elsewhere)} == {"STANDARD"}


def test_a_class_that_was_not_known_is_no_change(workspace: Workspace, listing: dict[str, str]) -> None:
    upload = stored(workspace, storage_class="")
    listing[upload.storage_path] = "STANDARD"
    assert note_storage_classes()["changed"] == 1
    assert class_of(upload) == "STANDARD"
    assert actions(upload) == []


def test_a_file_that_became_unreadable_is_an_error_and_keeps_its_status(
    workspace: Workspace, listing: dict[str, str]
) -> None:
    upload = stored(workspace)
    listing[upload.storage_path] = "GLACIER"
    with structlog.testing.capture_logs() as logs:
        assert note_storage_classes() == {"objects": 1, "changed": 1, "unreadable": 1}
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert (line["event"], line["upload_id"], line["storage_class"]) == (
        "stored_object_archived",
        str(upload.pk),
        "GLACIER",
    )
    upload.refresh_from_db()
    assert (upload.status, upload.storage_class) == (Status.COMPLETED, "GLACIER")
    assert actions(upload) == ["storage_class_changed", "found_archived"]
    found = UploadEvent.objects.get(upload_id=upload.pk, action="found_archived")
    assert "cannot be read" in describe(found)
    note_storage_classes()
    assert actions(upload) == ["storage_class_changed", "found_archived"]


@pytest.mark.parametrize("status", [Status.ARCHIVED, Status.ARCHIVING, Status.RESTORING])
def test_an_archive_that_becomes_deeper_is_no_error(
    workspace: Workspace, listing: dict[str, str], status: Status
) -> None:
    upload = stored(workspace, status, storage_path="archive/1/1.wav", storage_class="DEEP_ARCHIVE")
    listing[upload.storage_path] = "GLACIER"
    assert note_storage_classes() == {"objects": 1, "changed": 1, "unreadable": 0}
    assert actions(upload) == ["storage_class_changed"]
    assert Tiered.stats == 0


def test_an_object_that_is_restored_for_some_days_is_no_error(workspace: Workspace, listing: dict[str, str]) -> None:
    restored, lost = stored(workspace), stored(workspace)
    listing |= {restored.storage_path: "GLACIER", lost.storage_path: "GLACIER"}
    Tiered.restored.add(restored.storage_path)
    assert note_storage_classes() == {"objects": 2, "changed": 2, "unreadable": 1}
    assert actions(restored) == ["storage_class_changed"]
    assert actions(lost) == ["storage_class_changed", "found_archived"]


def test_objects_of_a_class_that_is_read_at_once_are_not_asked_for_one_by_one(
    workspace: Workspace, listing: dict[str, str]
) -> None:
    for _ in range(5):
        listing[stored(workspace).storage_path] = "STANDARD_IA"
    assert note_storage_classes() == {"objects": 5, "changed": 5, "unreadable": 0}
    assert Tiered.stats == 1


@pytest.mark.parametrize(
    "meanwhile", [{"storage_path": "audio/elsewhere/audio.wav"}, {"storage_class": "GLACIER"}], ids=["moved", "noted"]
)
def test_a_row_that_changed_meanwhile_is_left_alone(
    workspace: Workspace, listing: dict[str, str], monkeypatch: pytest.MonkeyPatch, meanwhile: dict[str, str]
) -> None:
    """By a move or by another such run, when the listing has been read and the row is not locked yet."""
    upload = stored(workspace)
    listing[upload.storage_path] = "GLACIER"

    def change_then_ask(*of: Any) -> bool:
        if "storage_class" in meanwhile:
            StoredObject.objects.update(**meanwhile)
            AudioUpload.objects.filter(pk=upload.pk).update(**meanwhile)
        else:
            elsewhere = unneeded_object(meanwhile["storage_path"], storage_provider="s3", unneeded_since=None)
            AudioUpload.objects.filter(pk=upload.pk).update(stored_object=elsewhere, **meanwhile)
        return True

    monkeypatch.setattr(tiers, "cannot_be_read", change_then_ask)
    assert note_storage_classes() == {"objects": 1, "changed": 0, "unreadable": 0}
    assert class_of(upload) == meanwhile.get("storage_class", "STANDARD")
    assert actions(upload) == []


def test_of_those_who_share_an_object_only_files_in_use_are_unreadable(
    workspace: Workspace, listing: dict[str, str]
) -> None:
    in_use = stored(workspace)
    archived = stored(workspace, Status.ARCHIVED, storage_path=in_use.storage_path)
    listing[in_use.storage_path] = "GLACIER"
    assert note_storage_classes() == {"objects": 1, "changed": 2, "unreadable": 1}
    assert actions(in_use) == ["storage_class_changed", "found_archived"]
    assert actions(archived) == ["storage_class_changed"]


def test_a_storage_that_fails_does_not_hold_up_the_others(
    workspace: Workspace, settings: Any, tmp_path: Any, listing: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = stored(workspace)
    listing[upload.storage_path] = "STANDARD_IA"
    broken = {"BACKEND": "tests.uploads.test_tiers.Broken", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {"gcs": broken, **settings.STORAGES}
    with pytest.raises(TransientStorageError):
        note_storage_classes()
    assert class_of(upload) == "STANDARD_IA"


class Broken(Tiered):
    objects: ClassVar[dict[str, str]] = {"audio/1/audio.wav": "broken"}


@pytest.fixture(scope="module")
def moto() -> Iterator[ObjectServer]:
    with running_moto() as server:
        yield server


def test_an_s3_bucket_tells_classes_and_which_of_them_are_read_at_once(
    workspace: Workspace, settings: Any, moto: ObjectServer
) -> None:
    storage = configure(settings, moto)
    cool, lost = stored(workspace), stored(workspace)
    storage.save(cool.storage_path, ContentFile(b"cool"), storage_class="STANDARD_IA")
    storage.save(lost.storage_path, ContentFile(b"cold"), storage_class="DEEP_ARCHIVE")
    assert note_storage_classes() == {"objects": 2, "changed": 2, "unreadable": 1}
    assert (class_of(cool), class_of(lost)) == ("STANDARD_IA", "DEEP_ARCHIVE")
    assert actions(cool) == ["storage_class_changed"]
    assert actions(lost) == ["storage_class_changed", "found_archived"]


def test_a_local_storage_is_not_even_listed(
    workspace: Workspace, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalStorage, "list", lambda self, prefix="": pytest.fail("listed"))
    settings.STORAGES = {alias: entry for alias, entry in settings.STORAGES.items() if alias != "s3"}
    assert note_storage_classes() == {"objects": 0, "changed": 0, "unreadable": 0}


@pytest.mark.django_db
def test_many_objects_are_looked_at_in_the_memory_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    note_storage_classes()

    def endless(self: Tiered, prefix: str = "") -> Iterator[ObjectStat]:
        nonlocal seen
        for number in range(30_000 if prefix == "audio/" else 0):
            seen = number
            yield stat_of(f"{prefix}{number:036d}/audio.wav", "STANDARD_IA")

    monkeypatch.setattr(Tiered, "list", endless)
    tracemalloc.start()
    try:
        assert note_storage_classes()["objects"] == 30_000
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == 29_999
    assert peak_bytes < 4 * 1024**2

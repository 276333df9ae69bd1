"""Reading a stored object again: what is whole, what is missing, what is damaged, and rows that change meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from audiotricks.errors import NotFound
from objectstore.errors import PermanentStorageError
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_wav
from tests.factories import UserFactory
from tests.uploads.life import actions, arrive, complete, row, sweep_after_grace
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.lifecycle.transitions import TransitionRefused
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects import read
from uploads.processing.runner import process_upload
from uploads.upkeep.verification import verify_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


def last_event(upload: AudioUpload) -> UploadEvent:
    return UploadEvent.objects.filter(upload_id=upload.pk).latest("id")


def test_a_whole_object_is_told_with_when_and_by_whom(workspace: Workspace) -> None:
    upload, actor, before = complete(workspace), UserFactory(), timezone.now()
    verify_upload(upload, actor=actor)
    assert upload.verified_at is not None and upload.verified_at >= before
    event = last_event(upload)
    assert (event.action, event.actor, event.details["sha256"]) == ("verified", actor, upload.checksum_sha256)
    assert upload.status == Status.COMPLETED


def test_a_missing_object_is_an_event_and_an_error(workspace: Workspace, audio_root: Path) -> None:
    """Promise 10. Missing is not damaged."""
    upload = complete(workspace)
    (audio_root / upload.storage_path).unlink()
    with pytest.raises(ObjectLost):
        verify_upload(upload)
    event = last_event(upload)
    assert (event.action, event.actor, event.details) == ("found_missing", None, {"name": upload.storage_path})
    assert upload.verified_at is None


@pytest.mark.parametrize(
    ("damage", "what"),
    [(lambda data: data[:-1], "size"), (lambda data: data + b"\0", "size"), (lambda data: b"\1" + data[1:], "sha256")],
)
def test_a_damaged_object_is_told_with_what_is_wrong(
    damage: Any, what: str, workspace: Workspace, audio_root: Path
) -> None:
    """Promise 10. A wrong size and a wrong hash are told apart."""
    upload = complete(workspace)
    path = audio_root / upload.storage_path
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ObjectDamaged) as raised:
        verify_upload(upload)
    assert raised.value.members["what"] == what
    event = last_event(upload)
    assert (event.action, event.details["what"]) == ("found_damaged", what)


def test_a_file_in_the_trash_can_be_verified_too(workspace: Workspace) -> None:
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    verify_upload(upload)
    assert upload.verified_at is not None


@pytest.mark.parametrize("status", [Status.RECEIVING, Status.PURGED])
def test_what_has_no_object_now_is_refused(status: Status, workspace: Workspace) -> None:
    upload = row(workspace, status)
    with pytest.raises(TransitionRefused):
        verify_upload(upload)
    assert actions(upload) == []


def test_a_file_whose_row_is_gone_is_not_found(workspace: Workspace) -> None:
    upload = complete(workspace)
    AudioUpload.objects.filter(pk=upload.pk).delete()
    with pytest.raises(NotFound):
        verify_upload(upload)


def test_a_disk_that_cannot_be_read_says_nothing_about_the_object(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = complete(workspace)

    def broken(*args: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(read, "digest_object", broken)
    with pytest.raises(PermanentStorageError):
        verify_upload(upload)
    assert "found_missing" not in actions(upload) and "found_damaged" not in actions(upload)


def while_it_reads(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    """``happens`` once, after the row was looked at and before its object is opened."""
    digest_object, left = read.digest_object, [happens]

    def digest(upload: AudioUpload) -> Any:
        if left:
            left.pop()()
        return digest_object(upload)

    monkeypatch.setattr(read, "digest_object", digest)


def test_a_duplicate_that_moves_to_its_twins_object_meanwhile_is_read_there(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. Its own object goes with the sweep, and that is no loss."""
    complete(workspace)
    second = arrive(workspace)
    own = second.storage_path
    while_it_reads(monkeypatch, lambda: (process_upload(str(second.pk)), sweep_after_grace(audio_root)))
    verify_upload(second)
    assert second.storage_path != own and not (audio_root / own).exists()
    assert last_event(second).action == "verified"


def test_a_file_that_is_purged_meanwhile_is_not_called_missing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    purged = AudioUpload.objects.get(pk=upload.pk)
    while_it_reads(monkeypatch, lambda: purge_upload(purged, actor=None))
    with pytest.raises(NotFound):
        verify_upload(upload)
    assert "found_missing" not in actions(upload)


def test_no_connection_is_held_while_the_object_is_read(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, held = complete(workspace), []
    read = LocalStorage.open_range

    def look(*args: Any, **options: Any) -> Any:
        held.append(connection.connection is not None)
        return read(*args, **options)

    monkeypatch.setattr(LocalStorage, "open_range", look)
    verify_upload(upload)
    assert held == [False]


def test_what_came_without_hashes_is_held_against_its_size_alone(workspace: Workspace) -> None:
    upload = arrive(workspace, make_wav())
    AudioUpload.objects.filter(pk=upload.pk).update(checksum_sha256="", checksum_md5="")
    verify_upload(upload)
    assert upload.verified_at is not None

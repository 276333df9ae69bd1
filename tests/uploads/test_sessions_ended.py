"""Uploads over several requests that nobody continues: the sweep, many of them, storages that do not answer."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from audiotricks.errors import PermissionDenied
from objectstore.errors import StorageFull, TransientStorageError
from objectstore.local import LocalStorage
from objectstore.local.parts import LocalParts
from quotas.models import Membership, QuotaReservation, Workspace
from quotas.reservations import change_quota
from tests.uploads.life import assert_books_balance, counted
from tests.uploads.sending import files_under
from tests.uploads.sessions import again, begin, editor_of, recording, send
from uploads.intake.sessions.complete import complete, end_session, offset_to_tell
from uploads.intake.sessions.concatenate import concatenate
from uploads.intake.sessions.errors import (
    FinalUpload,
    NotConcatenable,
    SessionEnded,
    SessionLocked,
    UploadFinished,
)
from uploads.models import AudioUpload, StorageCondition, UploadSession
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

DATA = recording(150_000)


class Failing(LocalStorage):
    """A disk whose parts fail with ``error`` at the methods ``at``."""

    error: Exception = TransientStorageError()
    at: frozenset[str] = frozenset()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parts = FailingParts(self)


class FailingParts(LocalParts):
    def __getattribute__(self, name: str) -> Any:
        if name in Failing.at:
            raise Failing.error
        return super().__getattribute__(name)


@pytest.fixture
def failing(settings: Any, audio_root: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    entry = {"BACKEND": f"{Failing.__module__}.{Failing.__qualname__}", "OPTIONS": {"location": audio_root}}
    settings.STORAGES = {**settings.STORAGES, "local": entry}
    return monkeypatch


def expire(*sessions: UploadSession) -> None:
    past = Now() - timedelta(hours=1)
    UploadSession.objects.filter(pk__in=[session.pk for session in sessions]).update(expires_at=past)
    QuotaReservation.objects.update(expires_at=past)


def parts_of(data: bytes, workspace: Workspace, owner: Any, count: int = 3) -> list[UploadSession]:
    size = -(-len(data) // count)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [send(begin(workspace, piece, owner=owner, is_partial=True), piece) for piece in pieces]


def test_the_sweep_takes_uploads_that_nobody_continued(workspace: Workspace, audio_root: Path) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota. Promise 16: their bytes are reclaimed."""
    owner = editor_of(workspace)
    abandoned = [send(begin(workspace, DATA, owner=owner, is_partial=partial), DATA[:9]) for partial in (True, False)]
    alive = send(begin(workspace, DATA, owner=owner), DATA[:9])
    assert sweep_stale_reservations()["abandoned"] == 0
    past = Now() - timedelta(hours=1)
    for session in abandoned:
        found = again(session)
        UploadSession.objects.filter(pk=session.pk).update(expires_at=past)
        assert found.held_reservation is not None
        QuotaReservation.objects.filter(pk=found.held_reservation.pk).update(expires_at=past)
    counts = sweep_stale_reservations()
    assert (counts["abandoned"], counts["partials_ended"]) == (1, 1)
    for session in abandoned:
        with pytest.raises(SessionEnded) as ended:
            offset_to_tell(session, actor=owner)
        assert ended.value.members == {"reason": "upload_expired"}
    assert counted(workspace) == (0, 0, len(DATA), 1)
    assert len(files_under(audio_root)) == 1
    send(alive, DATA[9:], offset=9)
    assert_books_balance(workspace)
    UploadSession.objects.update(expires_at=past)
    assert sweep_stale_reservations()["sessions_forgotten"] == 3
    assert not UploadSession.objects.exists() and AudioUpload.objects.count() == 1


def test_progress_extends_an_upload_and_its_reservation_alike(workspace: Workspace) -> None:
    session = begin(workspace, DATA)
    soon = Now() + timedelta(minutes=5)
    UploadSession.objects.update(expires_at=soon)
    QuotaReservation.objects.update(expires_at=soon)
    send(session, DATA[:9])
    found = again(session)
    assert found.held_reservation is not None
    assert found.expires_at == found.held_reservation.expires_at
    assert found.expires_at > session.expires_at - timedelta(minutes=1)
    UploadSession.objects.update(created_at=Now() - timedelta(days=6, hours=22), expires_at=soon)
    send(session, DATA[9:10], offset=9)
    found = again(session)
    assert found.expires_at == found.created_at + timedelta(days=6, hours=23)


def test_more_abandoned_uploads_than_a_batch_go_in_one_run(workspace: Workspace, audio_root: Path) -> None:
    """Promise 22. Expiry and DELETE release bytes and quota."""
    owner = editor_of(workspace)
    sessions = [begin(workspace, b"123", owner=owner, is_partial=number % 2 == 0) for number in range(6)]
    UploadSession.objects.bulk_create(
        UploadSession(
            kind="tus",
            workspace=workspace,
            owner=owner,
            is_partial=True,
            storage_provider="local",
            storage_path=f"partials/sessions/{number}/partial",
            handle="0" * 16,
            part_bytes=8,
            expires_at=sessions[0].expires_at,
        )
        for number in range(505)
    )
    expire(*UploadSession.objects.all())
    counts = sweep_stale_reservations()
    assert (counts["abandoned"], counts["partials_ended"]) == (3, 508)
    assert counted(workspace) == (0, 0, 0, 0) and not files_under(audio_root)
    assert not UploadSession.objects.open().exists() and not UploadSession.objects.uncleaned().exists()


def test_an_upload_whose_client_left_after_the_last_byte_becomes_a_file(
    workspace: Workspace, audio_root: Path, failing: pytest.MonkeyPatch
) -> None:
    failing.setattr(Failing, "at", frozenset({"complete"}))
    session = begin(workspace, DATA)
    with pytest.raises(TransientStorageError):
        send(session, DATA)
    assert again(session).is_open and again(session).received_bytes == len(DATA)
    with pytest.raises(SessionLocked):
        offset_to_tell(session, actor=session.owner)
    assert sweep_stale_reservations()["completed"] == 0
    failing.setattr(Failing, "at", frozenset())
    assert sweep_stale_reservations()["completed"] == 1
    assert offset_to_tell(session, actor=session.owner).state == UploadSession.State.COMPLETED
    assert (audio_root / AudioUpload.objects.get().storage_path).read_bytes() == DATA
    assert_books_balance(workspace)


@pytest.mark.parametrize("method", ["write_soon", "sync"])
def test_a_full_disk_keeps_what_is_there_and_goes_on(
    workspace: Workspace, audio_root: Path, failing: pytest.MonkeyPatch, method: str
) -> None:
    session = send(begin(workspace, DATA), DATA[:1000])
    failing.setattr(Failing, "error", StorageFull())
    failing.setattr(Failing, "at", frozenset({method}))
    with pytest.raises(StorageFull):
        send(session, DATA[1000:], offset=1000)
    assert offset_to_tell(session, actor=session.owner).received_bytes == 1000
    failing.setattr(Failing, "at", frozenset())
    send(session, DATA[1000:], offset=1000)
    assert (audio_root / AudioUpload.objects.get().storage_path).read_bytes() == DATA


def test_bytes_that_cannot_be_removed_now_are_removed_later(
    workspace: Workspace, audio_root: Path, failing: pytest.MonkeyPatch
) -> None:
    """Promise 16. Abandoned parts and temporary files are reclaimed; promise 22: the quota at once."""
    sessions = [send(begin(workspace, DATA, is_partial=partial), DATA[:9]) for partial in (False, True)]
    failing.setattr(Failing, "at", frozenset({"abort"}))
    for session in sessions:
        end_session(session, "upload_terminated")
    assert counted(workspace) == (0, 0, 0, 0)
    assert UploadSession.objects.uncleaned().count() == 2 and len(files_under(audio_root)) == 2
    expire(*sessions)
    sweep_stale_reservations()
    assert UploadSession.objects.uncleaned().count() == 2
    failing.setattr(Failing, "at", frozenset())
    StorageCondition.objects.all().delete()
    counts = sweep_stale_reservations()
    assert (counts["sessions_cleaned"], counts["sessions_forgotten"]) == (2, 2)
    assert not files_under(audio_root)


# Joined uploads


def test_only_whole_uploads_of_ones_own_are_joined(workspace: Workspace) -> None:
    owner = editor_of(workspace)
    first, second, third = parts_of(DATA, workspace, owner)
    unfinished = begin(workspace, DATA, owner=owner, is_partial=True)
    foreign = parts_of(DATA, workspace, editor_of(workspace), 1)[0]
    plain = begin(workspace, DATA, owner=owner)
    for wrong in ([], [first, first], [first, unfinished], [first, foreign], [first, plain]):
        with pytest.raises(NotConcatenable):
            concatenate(wrong, workspace=workspace, owner=owner, filename="tone.wav")
    concatenate([first, second], workspace=workspace, owner=owner, filename="tone.wav")
    for wrong in ([second, first], [first, third], [first]):
        with pytest.raises(NotConcatenable):
            concatenate(wrong, workspace=workspace, owner=owner, filename="tone.wav")


def test_a_partial_upload_belongs_to_its_final(workspace: Workspace) -> None:
    """Promise 24: a finished upload never changes."""
    owner = editor_of(workspace)
    partials = parts_of(DATA, workspace, owner)
    final, _ = concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    for session in (*partials, final):
        assert offset_to_tell(session, actor=owner).is_whole
        with pytest.raises(FinalUpload):
            send(session, b"", offset=session.received_bytes)
        with pytest.raises(UploadFinished):
            end_session(session, "upload_terminated")


def test_a_refusal_at_the_joining_leaves_the_partial_uploads(workspace: Workspace, audio_root: Path) -> None:
    """Promise 23. Permission and quota are checked again at the end."""
    owner = editor_of(workspace)
    partials = parts_of(DATA, workspace, owner)
    change_quota(workspace, changes={"max_file_count": 0})
    with pytest.raises(Exception) as refused:
        concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert getattr(refused.value, "code", "") == "quota_exceeded"
    assert counted(workspace) == (0, 0, len(DATA), 0)
    change_quota(workspace, changes={"max_file_count": 1})
    concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert (audio_root / AudioUpload.objects.get().storage_path).read_bytes() == DATA
    assert_books_balance(workspace)


def test_a_final_that_fails_ends_its_partial_uploads(workspace: Workspace, audio_root: Path) -> None:
    owner = editor_of(workspace)
    partials = parts_of(DATA, workspace, owner)
    Membership.objects.filter(user=owner).update(role=Membership.Role.VIEWER)
    with pytest.raises(PermissionDenied):
        concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert {again(partial).error_code for partial in partials} == {"permission_denied"}
    assert counted(workspace) == (0, 0, 0, 0) and not files_under(audio_root)


def test_a_joining_that_was_interrupted_goes_on(
    workspace: Workspace, audio_root: Path, failing: pytest.MonkeyPatch
) -> None:
    """Promise 24. Concatenation keeps order and sum."""
    owner = editor_of(workspace)
    partials = parts_of(DATA, workspace, owner)
    failing.setattr(Failing, "at", frozenset({"complete"}))
    with pytest.raises(TransientStorageError):
        concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    expire(*partials)
    QuotaReservation.objects.update(expires_at=Now() + timedelta(hours=1))
    sweep_stale_reservations()
    assert counted(workspace) == (0, 0, len(DATA), 1)
    failing.setattr(Failing, "at", frozenset())
    final, is_new = concatenate(partials, workspace=workspace, owner=owner, filename="tone.wav")
    assert not is_new and complete(final, actor=owner) == AudioUpload.objects.get()
    assert (audio_root / AudioUpload.objects.get().storage_path).read_bytes() == DATA
    assert_books_balance(workspace)

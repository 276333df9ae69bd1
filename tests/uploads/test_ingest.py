"""The one way in: what it promises when it succeeds, and that nothing stays when it does not."""

import base64
import errno
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models.functions import Now
from structlog.testing import capture_logs

from audiotricks.errors import DomainError
from objectstore import get_storage
from objectstore.base import ObjectStat
from objectstore.errors import ObjectExists, ObjectNotFound, StorageFull
from objectstore.local import LocalStorage, disk
from quotas.errors import FileTooLarge, QuotaExceeded, ReservationGone
from quotas.models import QuotaReservation, StorageQuota, Workspace
from quotas.workspaces import personal_workspace
from tests.audio import make_mp3, make_png, make_wav
from tests.factories import StorageQuotaFactory, UserFactory, client_for
from tests.servers import wait_until
from tests.uploads.life import Bytes, assert_books_balance, new_workspace
from tests.uploads.sending import file_part, files_under, post_form, post_raw, what_is_there
from uploads.intake import ingest
from uploads.intake.arrivals import AudioIdTaken, UploadTakenBack
from uploads.intake.ingest import StoredObjectDiffers, ingest_audio
from uploads.models import AudioUpload, Status
from uploads.objects.marks import look_at_mark
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = pytest.mark.django_db

WAV = make_wav(seconds=20)


class Pieces(Bytes):
    """Bytes that come in pieces, with something happening before one of them."""

    def __init__(
        self, data: bytes = WAV, *, size: int | None = None, before: dict[int, Callable[[], Any]] | None = None
    ) -> None:
        super().__init__(data)
        self.size = len(data) if size is None else size
        self.before = before or {}

    def chunks(self) -> Iterator[bytes]:
        for number, at in enumerate(range(0, len(self.data), 65_536)):
            self.before.get(number, lambda: None)()
            yield self.data[at : at + 65_536]


def take_in(source: Any, workspace: Workspace, **options: Any) -> AudioUpload:
    return ingest_audio(source, workspace=workspace, owner=UserFactory(), door="test", **options)


def raise_(error: BaseException) -> Any:
    raise error


# What "uploaded" means


def test_an_uploaded_file_is_stored_whole_with_both_checksums_and_counted(audio_root: Path) -> None:
    """Promise 1. In pieces, with a picture, and with a digest of the client's."""
    workspace = new_workspace()
    source = Pieces()
    source.thumbnail = make_png()
    upload = take_in(source, workspace, expected_sha256=hashlib.sha256(WAV).hexdigest())
    assert (upload.status, upload.file_size, upload.original_size) == (Status.UPLOADED, len(WAV), len(WAV))
    assert upload.checksum_sha256 == hashlib.sha256(WAV).hexdigest()
    assert upload.checksum_md5 == hashlib.md5(WAV).hexdigest()
    assert (audio_root / upload.storage_path).read_bytes() == WAV
    assert files_under(audio_root) == sorted([upload.storage_path, upload.thumbnail_path])
    assert upload.uploaded_at is not None and upload.reservation is None
    assert_books_balance(workspace)


def test_the_clients_digest_is_held_against_what_arrived() -> None:
    """Promise 1. A right one is accepted by both kinds of body; wrong ones are among the bad uploads."""
    digest = base64.b64encode(hashlib.sha256(WAV).digest()).decode()
    client = client_for(UserFactory())
    headers = {"Repr-Digest": f"sha-256=:{digest}:"}
    assert post_raw(client, WAV, "one.wav", **headers).status_code == 201
    assert post_form(client, file_part(WAV, "one.wav"), headers=headers).status_code == 201


def lying_stat(real: Callable[..., ObjectStat]) -> Callable[..., ObjectStat]:
    def stat(self: LocalStorage, name: str) -> ObjectStat:
        found = real(self, name)
        return replace(found, size=found.size - 1)

    return stat


def test_a_storage_that_holds_less_than_was_written_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 1. The stored size is looked at before the row says uploaded."""
    workspace = new_workspace()
    monkeypatch.setattr(LocalStorage, "stat", lying_stat(LocalStorage.stat))
    with pytest.raises(StoredObjectDiffers):
        take_in(Pieces(), workspace)
    assert what_is_there(audio_root) == {}


def test_a_storage_that_lost_what_was_written_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 1. Nor is a row made of an object that is not there."""
    workspace = new_workspace()
    stat, answers = LocalStorage.stat, chain([ObjectNotFound()], repeat(None))

    def stat_or_lost(self: LocalStorage, name: str) -> ObjectStat:
        return raise_(lost) if (lost := next(answers)) else stat(self, name)

    monkeypatch.setattr(LocalStorage, "stat", stat_or_lost)
    with pytest.raises(StoredObjectDiffers):
        take_in(Pieces(), workspace)
    assert what_is_there(audio_root) == {}


# What may go wrong on the way


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), SystemExit(1), DomainError("x"), OSError(5)])
def test_whatever_breaks_while_bytes_come_leaves_nothing(error: BaseException, audio_root: Path) -> None:
    """Promise 16. From the first piece on, and in the middle."""
    workspace = new_workspace()
    for number in (0, 2):
        with pytest.raises(type(error)):
            take_in(Pieces(before={number: lambda: raise_(error)}), workspace)
        assert what_is_there(audio_root) == {}


@pytest.mark.parametrize(
    "step",
    [
        "ingest._compared",
        "ingest.save_thumbnail",
        "arrivals.settle_reservation",
        "arrivals.move",
        "arrivals.send_on_commit",
    ],
)
def test_whatever_breaks_after_the_object_is_stored_leaves_nothing(
    step: str, monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 16. Row, object, thumbnail and reservation go."""
    workspace = new_workspace()
    monkeypatch.setattr(f"uploads.intake.{step}", lambda *args, **kwargs: raise_(RuntimeError(step)))
    source = Pieces()
    source.thumbnail = make_png()
    with pytest.raises(RuntimeError, match=step):
        take_in(source, workspace)
    assert what_is_there(audio_root) == {}


def test_what_the_caller_stores_beside_the_row_stands_or_falls_with_it(audio_root: Path) -> None:
    """Promise 29. ``on_stored`` runs in the row's transaction."""
    workspace = new_workspace()
    with pytest.raises(RuntimeError):
        take_in(Pieces(), workspace, on_stored=lambda upload: raise_(RuntimeError("x")))
    assert what_is_there(audio_root) == {}


def test_a_commit_whose_answer_was_lost_removes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 2. The row may have arrived; it did, so row, object and count stay."""
    workspace = new_workspace()
    finish = ingest.finish_receiving

    def commit_and_lose_the_answer(*args: Any, **kwargs: Any) -> None:
        finish(*args, **kwargs)
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(ingest, "finish_receiving", commit_and_lose_the_answer)
    with pytest.raises(OperationalError):
        take_in(Pieces(), workspace)
    assert AudioUpload.objects.get().status == Status.UPLOADED
    assert_books_balance(workspace)


# Quota


def test_bytes_beyond_the_declared_size_are_reserved_as_they_come(audio_root: Path) -> None:
    """Promise 46. An understated size slips under no limit."""
    for limit, error in (("max_storage_bytes", QuotaExceeded), ("max_file_size", FileTooLarge)):
        tight = new_workspace(**{limit: len(WAV) - 1})
        with pytest.raises(error):
            take_in(Pieces(size=10), tight)
        assert what_is_there(audio_root) == {}
    workspace = new_workspace(max_storage_bytes=len(WAV), max_file_size=len(WAV))
    assert take_in(Pieces(size=10), workspace).file_size == len(WAV)
    assert_books_balance(workspace)


def test_an_overstated_size_is_counted_as_what_came() -> None:
    workspace = new_workspace()
    take_in(Pieces(size=10 * len(WAV)), workspace)
    quota = StorageQuota.objects.get(workspace=workspace)
    assert (quota.current_storage_bytes, quota.monthly_upload_bytes) == (len(WAV), len(WAV))
    assert_books_balance(workspace)


def test_while_bytes_come_the_declared_size_is_reserved_and_the_row_hidden() -> None:
    """Promise 28. One reservation for one receiving row, which nobody sees."""
    user = UserFactory()
    workspace = personal_workspace(user)
    client = client_for(user)
    seen: list[Any] = []

    def look() -> None:
        quota = StorageQuota.objects.get(workspace=workspace)
        row = AudioUpload.objects.get()
        listed = client.get("/api/v1/uploads/").json()["results"]
        shown = client.get(f"/api/v1/uploads/{row.pk}/").status_code
        seen.append((quota.reserved_bytes, quota.reserved_files, row.status, bool(row.storage_path), listed, shown))

    take_in(Pieces(before={1: look}), workspace)
    assert seen == [(len(WAV), 1, "receiving", True, [], 404)]


# Disk (Promise 5)


def test_a_disk_that_is_full_half_way_is_a_507_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 5. Temporary file and reservation go, and there is room for the next one."""
    user = UserFactory()
    StorageQuotaFactory(workspace=personal_workspace(user))
    write, room = os.write, [len(WAV) // 2]

    def write_while_there_is_room(descriptor: int, data: Any) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(disk.os, "write", write_while_there_is_room)
    answer = post_raw(client_for(user), WAV, "one.wav")
    monkeypatch.undo()
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert room[0] <= 0
    assert what_is_there(audio_root) == {}
    assert post_raw(client_for(user), WAV, "one.wav").status_code == 201


def test_an_upload_that_would_leave_too_little_room_is_refused_before_its_bytes(
    settings: Any, audio_root: Path
) -> None:
    """Promise 5. DISK_RESERVE_BYTES stay free."""
    workspace = new_workspace()
    space = get_storage("local").space()
    assert space is not None
    settings.DISK_RESERVE_BYTES = 2 * space.total_bytes
    taken: list[str] = []
    with pytest.raises(StorageFull):
        take_in(Pieces(before={0: lambda: taken.append("a piece")}), workspace)
    assert taken == []
    assert what_is_there(audio_root) == {}


def test_a_disk_that_is_nearly_full_is_told_in_the_log(settings: Any) -> None:
    space = get_storage("local").space()
    assert space is not None
    settings.DISK_WARNING_BYTES = 2 * space.total_bytes
    with capture_logs() as logs:
        take_in(Pieces(), new_workspace())
    assert [entry["required_bytes"] for entry in logs if entry["event"] == "disk_nearly_full"] == [len(WAV)]


def test_a_file_that_the_quota_refuses_is_refused_by_the_quota_though_no_disk_could_hold_it(audio_root: Path) -> None:
    """The client can do something about the first; the second would only alarm the operator."""
    with pytest.raises(FileTooLarge):
        take_in(Pieces(size=10**17), new_workspace(max_file_size=100))
    assert what_is_there(audio_root) == {}


# Ids and objects (Promise 12)


def test_an_id_that_is_taken_is_refused_and_its_file_stays(audio_root: Path) -> None:
    """Promise 12. In another workspace too."""
    workspace = new_workspace()
    upload = take_in(Pieces(), workspace)
    for other in (workspace, new_workspace()):
        with pytest.raises(AudioIdTaken):
            take_in(Pieces(make_mp3() * 3), other, audio_id=upload.pk)
    assert (audio_root / upload.storage_path).read_bytes() == WAV
    assert AudioUpload.objects.count() == 1
    assert_books_balance(workspace)


def test_an_object_is_never_overwritten(audio_root: Path) -> None:
    """Promise 12. One that no row knows, either: it may be all that is left of a file."""
    look_at_mark("local")
    pk = uuid.uuid4()
    path = audio_root / "audio" / str(pk) / "audio.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"somebody's")
    with pytest.raises(ObjectExists):
        take_in(Pieces(), new_workspace(), audio_id=pk)
    assert path.read_bytes() == b"somebody's"
    assert what_is_there(audio_root) == {"files": [f"audio/{pk}/audio.wav"]}


# Slow uploads and the sweep (Promise 2)


def expire_reservations() -> None:
    assert QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1)) == 1


@pytest.mark.django_db(transaction=True)
def test_an_upload_that_goes_on_is_not_swept(settings: Any) -> None:
    """Promise 9. Its reservation is kept for as long as its process lives, however slowly bytes come."""
    settings.RESERVATION_SECONDS = 2
    swept: list[Any] = []

    def wait_for_longer_than_the_reservation() -> None:
        begun = QuotaReservation.objects.get().expires_at
        wait_until(lambda: QuotaReservation.objects.get().expires_at > begun + timedelta(seconds=2))
        swept.append(sweep_stale_reservations()["abandoned"])

    upload = take_in(Pieces(before={1: wait_for_longer_than_the_reservation}), new_workspace())
    assert (upload.status, swept) == (Status.UPLOADED, [0])


def test_an_upload_that_stood_still_too_long_is_taken_back_once(audio_root: Path) -> None:
    """Promise 9, Promise 28. The sweep takes row and reservation; the upload finds out and takes its object along."""
    for at in (0, 1):
        workspace = new_workspace()

        def sweep() -> None:
            expire_reservations()
            assert sweep_stale_reservations()["abandoned"] == 1

        with pytest.raises(UploadTakenBack):
            take_in(Pieces(before={at: sweep}), workspace)
        assert what_is_there(audio_root) == {}


def test_an_upload_that_needs_more_after_it_was_taken_back_is_refused(audio_root: Path) -> None:
    workspace = new_workspace()

    def sweep() -> None:
        expire_reservations()
        assert sweep_stale_reservations()["abandoned"] == 1

    with pytest.raises(ReservationGone):
        take_in(Pieces(size=70_000, before={1: sweep}), workspace)
    assert what_is_there(audio_root) == {}

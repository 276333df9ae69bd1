"""What looks after lost work, abandoned uploads and orphaned objects, and what it must leave alone."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from audiotricks import clock
from quotas.models import QuotaReservation, StorageQuota, Workspace
from quotas.reservations import reserve_storage, touch_reservation
from tests.audio import make_jpeg, make_wav
from tests.quotas.threads import at_once
from tests.uploads.life import (
    Bytes,
    actions,
    arrive,
    assert_books_balance,
    complete,
    counted,
    new_workspace,
    row,
    stored_names,
    validating_only,
)
from uploads import ingest, sweeps, tasks
from uploads.lifecycle import claim_upload, delete_upload, purge_upload
from uploads.models import AudioUpload, OrphanedObject, Status, UploadEvent
from uploads.processing import process_upload
from uploads.sweeps import (
    expire_uploads,
    purge_trash,
    sweep_orphaned_objects,
    sweep_stale_reservations,
    sweep_stale_work,
)

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


@pytest.fixture(autouse=True)
def without_decoding(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    validating_only(settings, monkeypatch)


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The uploads whose tasks the sweep sent again."""
    sent: list[str] = []

    def send(name: str, pk: Any) -> bool:
        assert name == "uploads.tasks.process_upload"
        sent.append(str(pk))
        return True

    monkeypatch.setattr(sweeps, "send_once", send)
    monkeypatch.setattr(sweeps, "waiting_tasks", lambda: 0)
    return sent


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


# Work


def test_the_file_of_a_dead_worker_is_taken_back_and_finished_by_another(workspace: Workspace) -> None:
    """Promise 31. Its steps are finished once, by the next worker."""
    upload = arrive(workspace)
    assert claim_upload(str(upload.pk))
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    assert sweep_stale_work()["taken_back"] == 1
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("uploaded", "worker_lost")
    event = UploadEvent.objects.filter(upload_id=upload.pk).last()
    assert event is not None
    assert (event.action, event.from_status, event.actor) == ("taken_back", "validating", None)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code, upload.retry_count) == ("completed", "", 1)


def test_a_file_that_kills_its_worker_each_time_stops_after_its_retries(workspace: Workspace) -> None:
    """Promise 32. It is failed then, with a reason, and no task is sent for it any more."""
    upload = arrive(workspace)
    attempts = 0
    while claim_upload(str(upload.pk)) is not None:
        attempts += 1
        AudioUpload.objects.update(claimable_at=ago(seconds=1))
        sweep_stale_work()
    upload.refresh_from_db()
    assert attempts == 1 + upload.max_retries
    assert (upload.status, upload.error_code) == ("failed", "worker_lost")
    assert upload.error_message == "The worker that processed the file was lost."
    AudioUpload.objects.update(claimable_at=ago(days=1))
    assert sweep_stale_work() == {"taken_back": 0, "sent_again": 0, "purges_finished": 0}


def test_the_file_of_a_living_worker_is_left_to_it(workspace: Workspace) -> None:
    """Promise 9. While its claim lasts, the file is in flight."""
    upload = arrive(workspace)
    assert claim_upload(str(upload.pk))
    assert sweep_stale_work() == {"taken_back": 0, "sent_again": 0, "purges_finished": 0}


def test_a_claim_that_is_extended_while_the_sweep_looks_is_left_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. The worker was only cut off from the database for a while."""
    upload = arrive(workspace)
    assert claim_upload(str(upload.pk))
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    give_back = sweeps.give_back

    def extended_meanwhile(found: AudioUpload, **given: Any) -> None:
        AudioUpload.objects.update(claimable_at=timezone.now() + timedelta(seconds=60))
        give_back(found, **given)

    monkeypatch.setattr(sweeps, "give_back", extended_meanwhile)
    assert sweep_stale_work()["taken_back"] == 0
    assert actions(upload) == ["uploaded", "validating"]


def test_a_crash_after_the_commit_is_found_and_its_task_sent_again(
    workspace: Workspace, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 30. The row says that there is work; a minute later the sweep believes it."""
    monkeypatch.setattr("uploads.ingest.send_on_commit", lambda *task: None)
    upload = arrive(workspace)
    assert sweep_stale_work()["sent_again"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=59))
    assert sweep_stale_work()["sent_again"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=61))
    assert sweep_stale_work()["sent_again"] == 1
    assert sent == [str(upload.pk)]


def test_a_rollback_sends_no_task(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 30. A task is sent after the commit of what it is about, and never otherwise."""
    tasks_sent: list[Any] = []

    def send(name: str, args: list[Any], **options: Any) -> None:
        (seen,) = at_once(lambda: AudioUpload.objects.filter(pk=args[0], status="uploaded").exists())
        tasks_sent.append((name, args[0], seen))

    monkeypatch.setattr("audiotricks.celery.app.send_task", send)

    def refuse(upload: AudioUpload) -> None:
        raise RuntimeError("the answer could not be stored")

    with pytest.raises(RuntimeError):
        ingest.ingest_audio(
            Bytes(make_wav()), workspace=workspace, owner=arrive(workspace).owner, door="test", on_stored=refuse
        )
    assert len(tasks_sent) == 1
    tasks_sent.clear()
    with pytest.raises(RuntimeError), transaction.atomic():
        arrive(workspace, make_wav(seed=1))
        raise RuntimeError
    assert tasks_sent == []
    upload = arrive(workspace, make_wav(seed=2))
    assert tasks_sent == [("uploads.tasks.process_upload", str(upload.pk), True)]


def test_the_longest_waiting_are_sent_first_and_none_while_the_queue_is_long(
    workspace: Workspace, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = [row(workspace, Status.UPLOADED, claimable_at=ago(hours=hours)) for hours in (1, 3, 2)]
    monkeypatch.setattr(sweeps, "waiting_tasks", lambda: sweeps.BATCH_SIZE)
    assert sweep_stale_work()["sent_again"] == 0
    monkeypatch.setattr(sweeps, "waiting_tasks", lambda: sweeps.BATCH_SIZE - 2)
    assert sweep_stale_work()["sent_again"] == 2
    assert sent == [str(uploads[1].pk), str(uploads[2].pk)]


# Uploads that stand still


def receiving(workspace: Workspace, *, expired: bool, size: int = 500) -> AudioUpload:
    upload = row(workspace, Status.RECEIVING, file_size=size)
    reservation = reserve_storage(workspace, size_bytes=size)
    AudioUpload.objects.filter(pk=upload.pk).update(reservation=reservation)
    if expired:
        QuotaReservation.objects.filter(pk=reservation.pk).update(expires_at=ago(seconds=1))
    upload.refresh_from_db()
    return upload


def test_an_upload_that_stands_still_gives_back_its_room_and_its_object_becomes_an_orphan(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 9. One that still moves is spared, and what the other had stored has its grace period."""
    dead, alive = receiving(workspace, expired=True), receiving(workspace, expired=False)
    for upload in (dead, alive):
        (audio_root / upload.storage_path).parent.mkdir(parents=True)
        (audio_root / upload.storage_path).write_bytes(b"x" * 500)
    assert counted(workspace) == (0, 0, 1000, 2)
    assert sweep_stale_reservations()["abandoned"] == 1
    assert AudioUpload.objects.get() == alive
    assert counted(workspace) == (0, 0, 500, 1)
    assert stored_names() == {alive.storage_path, dead.storage_path}
    age_all(audio_root)
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0}
    assert OrphanedObject.objects.get().storage_path == dead.storage_path
    assert sweep_stale_reservations() == {"abandoned": 0, "released": 0, "partials_removed": 0}


def test_an_upload_that_moves_while_the_sweep_looks_is_spared(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. The reservation is looked at again under the lock."""
    upload = receiving(workspace, expired=True)
    abandon = sweeps.abandon_receiving

    def touched_meanwhile(found: AudioUpload, **given: Any) -> bool:
        assert found.reservation is not None
        touch_reservation(found.reservation)
        return abandon(found, **given)

    monkeypatch.setattr(sweeps, "abandon_receiving", touched_meanwhile)
    assert sweep_stale_reservations()["abandoned"] == 0
    assert AudioUpload.objects.get() == upload
    assert_books_balance(workspace)


def test_a_reservation_that_nobody_holds_is_released_when_it_is_over(workspace: Workspace) -> None:
    over, lasting = (reserve_storage(workspace, size_bytes=70) for _ in range(2))
    QuotaReservation.objects.filter(pk=over.pk).update(expires_at=ago(seconds=1))
    assert sweep_stale_reservations()["released"] == 1
    assert QuotaReservation.objects.get() == lasting
    assert counted(workspace) == (0, 0, 70, 1)


def test_the_sweep_and_the_end_of_an_upload_at_once_count_once(workspace: Workspace) -> None:
    """Promise 33. The upload arrived or was taken back, never half of each."""
    for _ in range(8):
        outcomes = at_once(lambda: arrive_slowly(workspace), sweep_stale_reservations)
        assert isinstance(outcomes[0], AudioUpload | ingest.UploadTakenBack), outcomes
        assert isinstance(outcomes[1], dict)
        assert_books_balance(workspace)


def arrive_slowly(workspace: Workspace) -> AudioUpload:
    """An upload whose reservation runs out just before its end."""

    class Slow(Bytes):
        def chunks(self) -> Any:
            yield self.data
            QuotaReservation.objects.update(expires_at=ago(seconds=1))

    owner = arrive(workspace).owner
    return ingest.ingest_audio(Slow(make_wav()), workspace=workspace, owner=owner, door="test")


# Orphans


def put(audio_root: Path, name: str, *, age: timedelta = 2 * DAY) -> str:
    path = audio_root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"orphan")
    moment = time.time() - age.total_seconds()
    os.utime(path, (moment, moment))
    return name


def age_all(audio_root: Path) -> None:
    moment = time.time() - 2 * 86_400
    for path in audio_root.rglob("*"):
        os.utime(path, (moment, moment))


ID = "6f1d7a4e-2f53-4a55-9f0a-0d8f3f3f7d11"
ORPHAN = f"audio/{ID}/audio.wav"


def test_an_orphan_goes_after_its_grace_period_and_not_before(audio_root: Path, db: None) -> None:
    """Promise 2. The period begins when the orphan is first seen, whatever the object's own age."""
    put(audio_root, ORPHAN)
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0}
    OrphanedObject.objects.update(first_seen_at=ago(hours=23, minutes=59))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    assert stored_names() == {ORPHAN}
    OrphanedObject.objects.update(first_seen_at=ago(hours=24, minutes=1))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 1}
    assert stored_names() == set()
    assert not OrphanedObject.objects.exists()


def test_a_young_object_is_not_even_noted(audio_root: Path, db: None) -> None:
    """Promise 9. Its row may be about to be committed."""
    put(audio_root, ORPHAN, age=timedelta(hours=23))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}


def test_what_rows_need_is_never_an_orphan(workspace: Workspace, audio_root: Path, settings: Any) -> None:
    """Promise 9. In whichever state: in the trash, failed, shared, a tombstone, on its way in."""
    uploads = [complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg()) for seed in range(3)]
    complete(workspace, make_wav(seed=0), thumbnail=make_jpeg())
    settings.AUDIO_STORAGE_LAYOUT = "by-user-date"
    complete(workspace, make_wav(seed=3), thumbnail=make_jpeg())
    delete_upload(uploads[0], actor=None)
    AudioUpload.objects.filter(pk=uploads[1].pk).update(status=Status.FAILED)
    AudioUpload.objects.filter(pk=uploads[2].pk).update(status=Status.PURGED, claimable_at=timezone.now())
    on_its_way = receiving(workspace, expired=False)
    put(audio_root, on_its_way.storage_path)
    put(audio_root, f"audio/{on_its_way.pk}/thumbnail.jpg")
    before = stored_names()
    age_all(audio_root)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    OrphanedObject.objects.bulk_create(
        [
            OrphanedObject(storage_provider="local", storage_path=name, size=1, first_seen_at=ago(days=9))
            for name in before
        ]
    )
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    assert stored_names() == before
    assert not OrphanedObject.objects.exists()


def test_the_picture_that_its_row_no_longer_names_is_an_orphan(workspace: Workspace, audio_root: Path) -> None:
    upload = complete(workspace)
    left_over = put(audio_root, f"audio/{upload.pk}/thumbnail.png")
    age_all(audio_root)
    sweep_orphaned_objects()
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    assert sweep_orphaned_objects()["removed"] == 1
    assert stored_names() == {upload.storage_path} and left_over not in stored_names()


@pytest.mark.parametrize("name", ["audio/readme.txt", "other/audio.wav", f"audio/{ID}/notes.txt", "uploads/a/b.wav"])
def test_names_that_are_not_ours_are_left_alone(audio_root: Path, db: None, name: str) -> None:
    put(audio_root, name)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    assert (audio_root / name).exists()


def test_an_orphan_that_is_written_anew_begins_again(audio_root: Path, db: None) -> None:
    put(audio_root, ORPHAN)
    sweep_orphaned_objects()
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    put(audio_root, ORPHAN, age=timedelta(0))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    assert stored_names() == {ORPHAN}


def test_after_an_older_database_is_restored_the_files_it_lacks_get_the_full_grace_period(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 17. Objects of years ago look like orphans then; the newer rows may still be brought back."""
    older = complete(workspace, make_wav(seed=1))
    newer = complete(workspace, make_wav(seed=2))
    age_all(audio_root)
    kept = AudioUpload.objects.get(pk=newer.pk)
    AudioUpload.objects.filter(pk=newer.pk).delete()
    assert sweep_orphaned_objects() == {"noted": 1, "removed": 0}
    for _ in range(3):
        assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    kept.save(force_insert=True)
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0}
    assert stored_names() == {older.storage_path, newer.storage_path}
    assert_books_balance(workspace)


def test_two_orphan_sweeps_at_once_remove_once(audio_root: Path, db: None) -> None:
    """Promise 33. Each orphan is noted once and removed once."""
    names = [put(audio_root, f"audio/{ID[:-2]}{number:02}/audio.wav") for number in range(30)]
    outcomes = at_once(*[sweep_orphaned_objects] * 4)
    assert all(isinstance(outcome, dict) for outcome in outcomes), outcomes
    assert OrphanedObject.objects.count() == 30
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    outcomes = at_once(*[sweep_orphaned_objects] * 4)
    assert sum(outcome["removed"] for outcome in outcomes) == len(names)
    assert stored_names() == set()


# Clocks


@pytest.fixture
def vault(workspace: Workspace, audio_root: Path) -> Workspace:
    """One of everything that a sweep removes, each half a day before its time."""
    half = timedelta(hours=12)
    StorageQuota.objects.update(retention_days=10, auto_cleanup=True)
    uploads = [complete(workspace, make_wav(seed=seed)) for seed in range(4)]
    AudioUpload.objects.filter(pk=uploads[0].pk).update(uploaded_at=timezone.now() - timedelta(days=10) + half)
    delete_upload(uploads[1], actor=None)
    AudioUpload.objects.filter(pk=uploads[1].pk).update(deleted_at=timezone.now() - timedelta(days=30) + half)
    put(audio_root, ORPHAN)
    OrphanedObject.objects.create(
        storage_provider="local", storage_path=ORPHAN, size=6, first_seen_at=timezone.now() - DAY + half
    )
    moving = receiving(workspace, expired=False)
    QuotaReservation.objects.update(expires_at=timezone.now() + half)
    claimed = arrive(workspace, make_wav(seed=9))
    assert claim_upload(str(claimed.pk)) and moving.reservation
    AudioUpload.objects.filter(pk=claimed.pk).update(claimable_at=timezone.now() + half)
    return workspace


def sweep_everything() -> dict[str, int]:
    done: dict[str, int] = {}
    for sweep in (sweep_stale_work, sweep_stale_reservations, expire_uploads, purge_trash, sweep_orphaned_objects):
        done |= {name: count for name, count in sweep().items() if count}
    return done


NOTHING: dict[str, int] = {}


@pytest.mark.parametrize("which", ["wall_clock", "database_clock", "elapsed_clock"])
def test_one_clock_a_day_ahead_removes_nothing_early(
    vault: Workspace, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Promise 37. Of the worker's clock, the database's and the time since the start, the earliest counts."""
    true: Callable[[], Any] = getattr(clock, which)
    monkeypatch.setattr(clock, which, lambda: true() + (86_400 if which == "elapsed_clock" else DAY))
    assert sweep_everything() == NOTHING


@pytest.mark.parametrize("which", ["wall_clock", "database_clock"])
def test_a_clock_a_day_behind_removes_nothing_early(
    vault: Workspace, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """Promise 37. Sweeps are late then, never early."""
    true: Callable[[], Any] = getattr(clock, which)
    monkeypatch.setattr(clock, which, lambda: true() - DAY)
    assert sweep_everything() == NOTHING


@pytest.mark.parametrize("error", [-DAY, DAY])
def test_a_worker_whose_clock_is_set_wrong_while_it_runs_removes_nothing_early(
    vault: Workspace, error: timedelta
) -> None:
    """Promise 37. Whatever asks the time, in whichever way."""
    with time_machine.travel(datetime.now(UTC) + error):
        assert sweep_everything() == NOTHING


def test_when_its_time_has_come_all_of_it_goes(vault: Workspace) -> None:
    """The counterpart of the two above: what they spared was within reach."""
    later = timedelta(days=-1)
    AudioUpload.objects.update(
        uploaded_at=F("uploaded_at") + later,
        deleted_at=F("deleted_at") + later,
        claimable_at=F("claimable_at") + later,
    )
    OrphanedObject.objects.update(first_seen_at=F("first_seen_at") + later)
    QuotaReservation.objects.update(expires_at=F("expires_at") + later)
    assert sweep_everything() == {"taken_back": 1, "abandoned": 1, "expired": 1, "purged": 1, "removed": 1}


@pytest.mark.parametrize("error", [-DAY, DAY])
def test_a_worker_whose_clock_is_a_day_off_keeps_and_gives_back_its_files_in_time(
    workspace: Workspace, error: timedelta
) -> None:
    """Promise 37. Claims run by the database's clock: nobody takes a living worker's file, and no file waits a day."""
    upload = arrive(workspace)
    with time_machine.travel(datetime.now(UTC) + error):
        claimed = claim_upload(str(upload.pk))
    assert claimed is not None
    assert timedelta(seconds=30) < claimed.claimable_at - timezone.now() < timedelta(seconds=90)
    assert sweep_stale_work()["taken_back"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    with time_machine.travel(datetime.now(UTC) + error):
        sweeps.give_back(AudioUpload.objects.get(), error_code="x", reason="y")
    assert claim_upload(str(upload.pk)) is not None


@pytest.mark.parametrize("error", [-DAY, DAY])
def test_a_file_that_came_by_a_server_whose_clock_is_a_day_off_is_processed_now(
    workspace: Workspace, error: timedelta
) -> None:
    """Promise 37. What a row waits for is told by the database's clock."""
    with time_machine.travel(datetime.now(UTC) + error):
        upload = arrive(workspace)
    assert upload.uploaded_at is not None
    assert abs(upload.uploaded_at - timezone.now()) < timedelta(minutes=1)
    assert claim_upload(str(upload.pk)) is not None


# Every task


def test_every_task_is_safe_twice_and_twice_at_once(workspace: Workspace, audio_root: Path) -> None:
    """Promise 33. One of everything that a task acts on; each is done once, and the books balance."""
    StorageQuota.objects.update(retention_days=10, auto_cleanup=True)
    waiting = arrive(workspace, make_wav(seed=1))
    expired, trashed, tombstone = (complete(workspace, make_wav(seed=seed)) for seed in (2, 3, 4))
    AudioUpload.objects.filter(pk=expired.pk).update(uploaded_at=ago(days=11))
    delete_upload(trashed, actor=None)
    AudioUpload.objects.filter(pk=trashed.pk).update(deleted_at=ago(days=31))
    delete_upload(tombstone, actor=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("uploads.lifecycle.finish_purge", lambda upload: False)
        purge_upload(tombstone, actor=None)
    AudioUpload.objects.filter(pk=tombstone.pk).update(claimable_at=ago(hours=1))
    lost = arrive(workspace, make_wav(seed=5))
    assert claim_upload(str(lost.pk))
    AudioUpload.objects.filter(pk=lost.pk).update(claimable_at=ago(seconds=1))
    dead = receiving(workspace, expired=True)
    put(audio_root, ORPHAN)
    OrphanedObject.objects.create(storage_provider="local", storage_path=ORPHAN, size=6, first_seen_at=ago(days=2))
    StorageQuota.objects.update(reserved_bytes=F("reserved_bytes") + 7)
    doors: list[Callable[[], object]] = [
        tasks.sweep_stale_reservations,
        tasks.sweep_stale_work,
        tasks.expire_uploads,
        tasks.purge_trash,
        tasks.sweep_orphaned_objects,
        tasks.recalculate_quotas,
        lambda: tasks.process_upload(str(waiting.pk)),
        lambda: tasks.process_upload(str(lost.pk)),
    ]

    for _ in range(2):
        for door in doors:
            assert not [outcome for outcome in at_once(door, door) if isinstance(outcome, Exception)]

    left = dict(AudioUpload.objects.values_list("pk", "status"))
    assert left == {waiting.pk: "completed", expired.pk: "deleted", lost.pk: "completed"}
    assert stored_names() == {upload.storage_path for upload in (waiting, expired, lost)}
    assert_books_balance(workspace)
    told = UploadEvent.objects.values_list("upload_id", "action", "to_status")
    moves = [event for event in told if event[2]]
    assert len(moves) == len(set(moves)) + 1, "only the lost file was validating twice"
    assert dead.pk not in {event[0] for event in told}

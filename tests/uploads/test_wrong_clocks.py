"""A clock that is a day off removes nothing early, and holds nothing up."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.db.models import F
from django.utils import timezone

from audiotricks import clock
from quotas.models import QuotaReservation, StorageQuota, Workspace
from tests.audio import make_wav
from tests.uploads.life import ORPHAN, ago, arrive, complete, put_orphan, receiving, unneeded_object
from uploads.lifecycle.trash import delete_upload
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, StoredObject
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import (
    expire_uploads,
    purge_trash,
    sweep_stale_reservations,
    sweep_stale_work,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

DAY = timedelta(days=1)


@pytest.fixture
def vault(workspace: Workspace, audio_root: Path) -> Workspace:
    """One of everything that a sweep removes, each half a day before its time."""
    half = timedelta(hours=12)
    StorageQuota.objects.update(retention_days=10, auto_cleanup=True)
    uploads = [complete(workspace, make_wav(seed=seed)) for seed in range(4)]
    AudioUpload.objects.filter(pk=uploads[0].pk).update(uploaded_at=timezone.now() - timedelta(days=10) + half)
    delete_upload(uploads[1], actor=None)
    AudioUpload.objects.filter(pk=uploads[1].pk).update(deleted_at=timezone.now() - timedelta(days=30) + half)
    put_orphan(audio_root)
    unneeded_object(ORPHAN, size_bytes=6, unneeded_since=timezone.now() - DAY + half)
    moving = receiving(workspace, expired=False)
    QuotaReservation.objects.update(expires_at=timezone.now() + half)
    claimed = arrive(workspace, make_wav(seed=9))
    assert take_upload(str(claimed.pk)) and moving.reservation
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
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") + later)
    QuotaReservation.objects.update(expires_at=F("expires_at") + later)
    assert sweep_everything() == {"taken_back": 1, "abandoned": 1, "expired": 1, "purged": 1, "removed": 1}


@pytest.mark.parametrize("error", [-DAY, DAY])
def test_a_worker_whose_clock_is_a_day_off_keeps_and_gives_back_its_files_in_time(
    workspace: Workspace, error: timedelta
) -> None:
    """Promise 37. Claims run by the database's clock: nobody takes a living worker's file, and no file waits a day."""
    upload = arrive(workspace)
    with time_machine.travel(datetime.now(UTC) + error):
        claimed = take_upload(str(upload.pk))
    assert claimed is not None
    assert timedelta(seconds=30) < claimed.claimable_at - timezone.now() < timedelta(seconds=90)
    assert sweep_stale_work()["taken_back"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    with time_machine.travel(datetime.now(UTC) + error):
        sweeps.give_back(AudioUpload.objects.get(), error_code="x", reason="y")
    assert take_upload(str(upload.pk)) is not None


@pytest.mark.parametrize("error", [-DAY, DAY])
def test_a_file_that_came_by_a_server_whose_clock_is_a_day_off_is_processed_now(
    workspace: Workspace, error: timedelta
) -> None:
    """Promise 37. What a row waits for is told by the database's clock."""
    with time_machine.travel(datetime.now(UTC) + error):
        upload = arrive(workspace)
    assert upload.uploaded_at is not None
    assert abs(upload.uploaded_at - timezone.now()) < timedelta(minutes=1)
    assert take_upload(str(upload.pk)) is not None

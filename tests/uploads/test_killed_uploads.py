"""Uploads whose process is killed: nothing that was acknowledged is lost, and what is left over goes after its time."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from quotas.models import QuotaReservation
from quotas.workspaces import personal_workspace
from tests.factories import UserFactory
from tests.forked import Prepared
from tests.uploads import dying
from tests.uploads.dying import DATA, MOMENTS
from tests.uploads.life import assert_books_balance, counted, stored_names
from tests.uploads.sending import files_under, what_is_there
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = pytest.mark.django_db(transaction=True)

BEFORE_COMMIT = [moment for moment in MOMENTS if moment not in ("committed", "never")]
WITH_OBJECT = BEFORE_COMMIT[2:]


def expire_reservations() -> None:
    QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1))


def age(root: Path, hours: float) -> None:
    """Everything in the storage was written so long ago."""
    then = time.time() - hours * 3600
    for name in files_under(root):
        os.utime(root / name, (then, then))


@pytest.mark.parametrize("moment", BEFORE_COMMIT)
def test_what_a_killed_upload_left_goes_after_its_time_and_never_before(
    moment: str, audio_root: Path, settings: Any, prepared: Prepared
) -> None:
    """Promise 2, Promise 16. Row and reservation with the reservation's end, bytes with the orphans' grace period."""
    workspace = personal_workspace(UserFactory())
    done = prepared.run(dying.main, moment)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, ""), done.stderr
    (row,) = AudioUpload.objects.all()
    assert row.status == Status.RECEIVING
    assert counted(workspace) == (0, 0, len(DATA), 1)
    assert (row.storage_path in stored_names()) == (moment in WITH_OBJECT)
    left = files_under(audio_root)
    assert len(left) == {"row made": 0, "half of the bytes written": 1, "object stored": 1}.get(moment, 2)

    # Not before its time, whatever the age of the files
    age(audio_root, settings.ORPHAN_GRACE_HOURS + 1)
    sweep_stale_reservations()
    sweep_orphaned_objects()
    row.refresh_from_db()
    assert counted(workspace) == (0, 0, len(DATA), 1)
    assert files_under(audio_root) == (left if moment in WITH_OBJECT else [])

    # The reservation ends: the row goes, the object is not known for long enough yet
    expire_reservations()
    assert sweep_stale_reservations()["abandoned"] == 1
    sweep_orphaned_objects()
    assert not AudioUpload.objects.exists()
    assert counted(workspace) == (0, 0, 0, 0)
    assert files_under(audio_root) == (left if moment in WITH_OBJECT else [])

    # The grace period ends
    StoredObject.objects.unneeded().update(
        unneeded_since=Now() - timedelta(hours=settings.ORPHAN_GRACE_HOURS, seconds=1)
    )
    sweep_orphaned_objects()
    assert what_is_there(audio_root) == {}


@pytest.mark.parametrize("moment", ["committed", "never"])
def test_what_was_committed_stays_whatever_the_sweeps_do(
    moment: str, audio_root: Path, settings: Any, prepared: Prepared
) -> None:
    """Promise 2. Answered or not: what is committed has its object."""
    workspace = personal_workspace(UserFactory())
    done = prepared.run(dying.main, moment)
    assert done.returncode == (0 if moment == "never" else -signal.SIGKILL), done.stderr
    (row,) = AudioUpload.objects.all()
    assert row.status == Status.UPLOADED
    assert done.stdout.strip() in ("", str(row.pk))
    age(audio_root, settings.ORPHAN_GRACE_HOURS + 1)
    for _ in range(2):
        sweep_stale_reservations()
        sweep_orphaned_objects()
        StoredObject.objects.unneeded().update(
            unneeded_since=Now() - timedelta(hours=settings.ORPHAN_GRACE_HOURS, seconds=1)
        )
    assert (audio_root / row.storage_path).read_bytes() == DATA
    assert_books_balance(workspace)


def test_an_upload_that_goes_on_between_the_sweeps_look_and_its_lock_is_spared(
    audio_root: Path, monkeypatch: pytest.MonkeyPatch, prepared: Prepared
) -> None:
    """Promise 9. It stood still, was found, and moved again."""
    workspace = personal_workspace(UserFactory())
    prepared.run(dying.main, "object stored")
    expire_reservations()
    abandon = sweeps.abandon_receiving

    def extend_first(upload: AudioUpload, **options: Any) -> bool:
        QuotaReservation.objects.update(expires_at=Now() + timedelta(minutes=15))
        return abandon(upload, **options)

    monkeypatch.setattr(sweeps, "abandon_receiving", extend_first)
    assert sweep_stale_reservations()["abandoned"] == 0
    assert AudioUpload.objects.get().status == Status.RECEIVING
    assert counted(workspace) == (0, 0, len(DATA), 1)
    assert len(stored_names()) == 1


def test_an_upload_that_is_taken_back_twice_is_given_back_once(audio_root: Path, prepared: Prepared) -> None:
    """Promise 28, Promise 33. The second time finds nothing to release."""
    workspace = personal_workspace(UserFactory())
    prepared.run(dying.main, "row made")
    expire_reservations()
    (row,) = AudioUpload.objects.all()
    assert [sweeps.abandon_receiving(row), sweeps.abandon_receiving(row)] == [True, False]
    assert sweep_stale_reservations()["abandoned"] == 0
    assert counted(workspace) == (0, 0, 0, 0)
    assert what_is_there(audio_root) == {}

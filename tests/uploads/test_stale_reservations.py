"""Uploads that stand still, and reservations that nobody holds any more."""

from pathlib import Path
from typing import Any

import pytest

from quotas.models import QuotaReservation, Workspace
from quotas.reservations import extend_reservation, reserve_storage
from tests.audio import make_wav
from tests.quotas.threads import at_once
from tests.uploads.life import Bytes, age_all, ago, arrive, assert_books_balance, counted, receiving, stored_names
from uploads.intake import arrivals, ingest
from uploads.models import AudioUpload, StoredObject
from uploads.objects.marks import look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


def test_an_upload_that_stands_still_gives_back_its_room_and_its_object_becomes_an_orphan(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 9. One that still moves is spared, and what the other had stored has its grace period."""
    look_at_mark("local")
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
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert StoredObject.objects.unneeded().get().storage_path == dead.storage_path
    assert sweep_stale_reservations().items() >= {"abandoned": 0, "released": 0, "partials_removed": 0}.items()


def test_an_upload_that_moves_while_the_sweep_looks_is_spared(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. The reservation is looked at again under the lock."""
    upload = receiving(workspace, expired=True)
    abandon = sweeps.abandon_receiving

    def touched_meanwhile(found: AudioUpload, **given: Any) -> bool:
        assert found.reservation is not None
        extend_reservation(found.reservation)
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
        assert isinstance(outcomes[0], AudioUpload | arrivals.UploadTakenBack), outcomes
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

"""A reservation's life: made, extended, settled as use, released or swept, and never twice."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import IntegrityError, transaction
from django.utils import timezone
from structlog.testing import capture_logs

from audiotricks.clock import database_clock
from quotas import reservations
from quotas.errors import ReservationGone
from quotas.models import QuotaReservation, StorageQuota
from quotas.reservations import (
    extend_reservation,
    release_expired,
    release_reservation,
    reserve_storage,
    settle_reservation,
)
from tests.quotas.counted import counters, settle, workspace_with

pytestmark = pytest.mark.django_db


def test_a_reservation_counts_as_reserved_until_it_is_settled_as_used() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=100)
    assert counters(workspace) == {"reserved_bytes": 100, "reserved_files": 1}
    assert settle(reservation, size_bytes=80) is True
    assert counters(workspace) == {
        "current_storage_bytes": 80,
        "current_file_count": 1,
        "monthly_uploads": 1,
        "monthly_upload_bytes": 80,
    }
    assert not QuotaReservation.objects.exists()


def test_the_stored_reservation_is_the_one_that_was_returned() -> None:
    workspace = workspace_with()
    now = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    reservation = reserve_storage(workspace, size_bytes=7, files=2, seconds=60, now=now)
    columns = ("workspace_id", "bytes", "files", "month", "expires_at", "created_at")
    stored = QuotaReservation.objects.values_list(*columns).get(pk=reservation.pk)
    assert stored == tuple(getattr(reservation, name) for name in columns)
    assert stored[3:] == (now.date().replace(day=1), now + timedelta(seconds=60), now)


def test_a_reservation_that_is_settled_or_released_does_nothing_the_second_time() -> None:
    workspace = workspace_with()
    settled, released = (reserve_storage(workspace, size_bytes=10) for _ in range(2))
    assert settle(settled, size_bytes=10) is True
    assert release_reservation(released.pk) is True
    after = counters(workspace)
    assert settle(settled, size_bytes=10) is False
    assert release_reservation(settled) is False
    assert settle(released, size_bytes=10) is False
    assert release_reservation(released) is False
    assert release_reservation(uuid.uuid4()) is False
    assert counters(workspace) == after


@pytest.mark.parametrize(("size", "files"), [(-1, 1), (1, -1)])
def test_negative_sizes_and_counts_are_refused(size: int, files: int) -> None:
    with pytest.raises(ValueError, match="cannot reserve"):
        reserve_storage(workspace_with(), size_bytes=size, files=files)


def test_extending_reserves_only_what_is_more_and_never_shrinks() -> None:
    workspace = workspace_with(max_storage_bytes=100, max_file_count=1)
    reservation = reserve_storage(workspace, size_bytes=40)
    now = timezone.now()
    extend_reservation(reservation, size_bytes=100, seconds=3600, now=now)
    assert counters(workspace) == {"reserved_bytes": 100, "reserved_files": 1}
    extend_reservation(reservation, size_bytes=10, seconds=3600, now=now)
    assert counters(workspace) == {"reserved_bytes": 100, "reserved_files": 1}
    reservation.refresh_from_db()
    assert (reservation.bytes, reservation.expires_at) == (100, now + timedelta(seconds=3600))
    release_reservation(reservation)
    assert counters(workspace) == {}


def test_touching_moves_the_expiry_and_nothing_else() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=40)
    now = timezone.now()
    extend_reservation(reservation, seconds=5000, now=now)
    assert QuotaReservation.objects.get().expires_at == reservation.expires_at == now + timedelta(seconds=5000)
    assert counters(workspace) == {"reserved_bytes": 40, "reserved_files": 1}


def test_a_reservation_that_is_gone_can_be_neither_touched_nor_extended() -> None:
    reservation = reserve_storage(workspace_with(), size_bytes=40)
    release_reservation(reservation)
    with pytest.raises(ReservationGone):
        extend_reservation(reservation)
    with pytest.raises(ReservationGone):
        extend_reservation(reservation, size_bytes=50)


def test_more_bytes_than_reserved_cannot_be_settled() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=10)
    for size in (11, -1):
        with pytest.raises(ValueError, match="10 were reserved"):
            settle(reservation, size_bytes=size)
    assert QuotaReservation.objects.filter(pk=reservation.pk).exists()
    assert counters(workspace) == {"reserved_bytes": 10, "reserved_files": 1}


def test_a_settled_file_that_rolls_back_is_reserved_as_before() -> None:
    """Promise 28. The counters move with the rows that they count, or not at all."""
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=10)
    with pytest.raises(RuntimeError), transaction.atomic():
        settle_reservation(reservation, size_bytes=10)
        raise RuntimeError
    assert counters(workspace) == {"reserved_bytes": 10, "reserved_files": 1}
    assert settle(reservation, size_bytes=10) is True


def test_only_what_expired_is_swept_and_only_among_what_is_given() -> None:
    """Promise 9. The sweep spares reservations that somebody holds, and those whose time has not come."""
    workspace = workspace_with()
    now = timezone.now()
    gone, held, alive = (
        reserve_storage(workspace, size_bytes=size, seconds=seconds, now=now)
        for size, seconds in ((1, 60), (20, 60), (300, 61))
    )
    later = now + timedelta(seconds=60)
    assert release_expired(QuotaReservation.objects.exclude(pk=held.pk), now=later - timedelta(seconds=1)) == 0
    assert release_expired(QuotaReservation.objects.exclude(pk=held.pk), now=later) == 1
    assert set(QuotaReservation.objects.values_list("pk", flat=True)) == {held.pk, alive.pk}
    assert not QuotaReservation.objects.filter(pk=gone.pk).exists()
    assert counters(workspace) == {"reserved_bytes": 320, "reserved_files": 2}


def test_a_reservation_that_is_extended_after_the_sweep_looked_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 9. The sweep checks again when it acts, not only when it looks."""
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=10, seconds=1)
    release = reservations._release

    def extend_first(*args: Any, **values: Any) -> bool:
        extend_reservation(reservation, seconds=3600)
        return release(*args, **values)

    monkeypatch.setattr(reservations, "_release", extend_first)
    assert release_expired(QuotaReservation.objects.all(), now=timezone.now() + timedelta(seconds=60)) == 0
    assert counters(workspace) == {"reserved_bytes": 10, "reserved_files": 1}


@pytest.mark.parametrize("counter", ["current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files"])
def test_no_counter_can_be_written_below_zero(counter: str) -> None:
    """Promise 28. The database itself refuses a count that cannot be."""
    workspace = workspace_with()
    with pytest.raises(IntegrityError), transaction.atomic():
        StorageQuota.objects.filter(workspace=workspace).update(**{counter: -1})


@pytest.mark.parametrize("days", [-1, 1])
def test_a_web_server_whose_clock_is_a_day_off_gives_its_uploads_their_time(days: int) -> None:
    """Promise 37. A reservation lives by the database's clock, which sweeps compare with, from its first byte on."""
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        made, extended, touched = (reserve_storage(workspace_with(), size_bytes=1, seconds=600) for _ in range(3))
        extend_reservation(extended, size_bytes=2, seconds=600)
        extend_reservation(touched, seconds=600)
    now = database_clock()
    for reservation in (made, extended, touched):
        assert QuotaReservation.objects.get(pk=reservation.pk).expires_at == reservation.expires_at
        assert timedelta(seconds=600) <= reservation.expires_at - now < timedelta(seconds=660)
    assert release_expired(QuotaReservation.objects.all(), now=now) == 0


def test_what_is_given_back_although_too_little_was_reserved_leaves_nothing_reserved() -> None:
    """A counter that somebody set too low must not keep an upload from ending, one way or the other."""
    workspace = workspace_with()
    released, settled = (reserve_storage(workspace, size_bytes=10) for _ in range(2))
    StorageQuota.objects.update(reserved_bytes=5, reserved_files=0)
    with capture_logs() as logs:
        assert release_reservation(released) is True
        assert counters(workspace) == {}
        assert settle(settled, size_bytes=10) is True
    assert counters(workspace) == {
        "current_storage_bytes": 10,
        "current_file_count": 1,
        "monthly_uploads": 1,
        "monthly_upload_bytes": 10,
    }
    assert [line["event"] for line in logs] == ["counter_below_zero"] * 2

"""What reserving, extending, settling and giving back do to the counters, one call at a time."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from quotas import reservations
from quotas.errors import FileTooLarge, QuotaExceeded, ReservationGone
from quotas.models import LARGEST, QuotaReservation, StorageQuota, Workspace
from quotas.reservations import (
    change_quota,
    check_room,
    count_in,
    count_out,
    ensure_quota,
    extend_reservation,
    lock_quota,
    release_expired,
    release_reservation,
    reserve_storage,
    settle_reservation,
    touch_reservation,
)
from tests.factories import StorageQuotaFactory, WorkspaceFactory

pytestmark = pytest.mark.django_db

LIMITS = ("max_storage_bytes", "max_file_count", "max_file_size", "max_monthly_uploads", "max_monthly_upload_bytes")


def workspace_with(**columns: Any) -> Workspace:
    return StorageQuotaFactory(**columns).workspace


def counters(workspace: Workspace) -> dict[str, int]:
    names = ("current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files")
    names += ("monthly_uploads", "monthly_upload_bytes")
    row = StorageQuota.objects.values(*names).get(workspace=workspace)
    return {name: value for name, value in row.items() if value}


def settle(reservation: QuotaReservation, *, size_bytes: int) -> bool:
    with transaction.atomic():
        return settle_reservation(reservation, size_bytes=size_bytes)


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


@pytest.mark.parametrize("limit", LIMITS)
def test_none_is_unlimited(limit: str) -> None:
    """Promise 27. No limit means none, for each limit by itself."""
    workspace = workspace_with(**{name: 10**6 for name in LIMITS if name != limit}, **{limit: None})
    reserve_storage(workspace, size_bytes=10**6)
    with pytest.raises((QuotaExceeded, FileTooLarge)):
        reserve_storage(workspace, size_bytes=10**6)
    StorageQuota.objects.update(**dict.fromkeys(LIMITS))
    reserve_storage(workspace, size_bytes=10**15)


@pytest.mark.parametrize("limit", LIMITS)
def test_zero_is_none_at_all(limit: str) -> None:
    """Promise 27. A limit of 0 lets nothing in: it is neither unlimited nor the default."""
    workspace = workspace_with(**{limit: 0})
    with pytest.raises((QuotaExceeded, FileTooLarge)) as refusal:
        reserve_storage(workspace, size_bytes=1)
    assert refusal.value.members["limit"] == limit
    assert counters(workspace) == {}
    assert not QuotaReservation.objects.exists()


@pytest.mark.parametrize(
    ("limit", "maximum", "used", "asked"),
    [
        ("max_storage_bytes", 1000, 300, 300),
        ("max_file_count", 3, 1, 1),
        ("max_monthly_uploads", 3, 1, 1),
        ("max_monthly_upload_bytes", 1000, 300, 300),
    ],
)
def test_the_last_place_can_be_had_and_the_refusal_behind_it_names_its_limit(
    limit: str, maximum: int, used: int, asked: int
) -> None:
    """Promise 27. What is reserved counts like what is used, exactly up to the limit."""
    workspace = workspace_with(**{limit: maximum})
    settle(reserve_storage(workspace, size_bytes=300), size_bytes=300)
    reserve_storage(workspace, size_bytes=300)
    reserve_storage(workspace, size_bytes=400)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=300)
    assert refusal.value.members == {
        "limit": limit,
        "maximum": maximum,
        "used": used,
        "reserved": maximum - used,
        "asked": asked,
        "left": 0,
    }
    assert (refusal.value.status, refusal.value.code) == (413, "quota_exceeded")


def test_a_file_above_the_single_file_limit_is_too_large() -> None:
    workspace = workspace_with(max_file_size=100)
    reserve_storage(workspace, size_bytes=100)
    with pytest.raises(FileTooLarge) as refusal:
        reserve_storage(workspace, size_bytes=101)
    expected = {"limit": "max_file_size", "maximum": 100, "used": 0, "reserved": 0, "asked": 101, "left": 100}
    assert refusal.value.members == expected


def test_the_first_limit_that_fails_is_named() -> None:
    workspace = workspace_with(max_storage_bytes=10, max_file_count=0, max_monthly_uploads=0)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=11)
    assert refusal.value.members["limit"] == "max_storage_bytes"
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=10)
    assert refusal.value.members["limit"] == "max_file_count"


def test_a_limit_below_what_is_used_refuses_more_and_leaves_no_less_than_zero() -> None:
    workspace = workspace_with()
    settle(reserve_storage(workspace, size_bytes=500), size_bytes=500)
    change_quota(workspace, changes={"max_storage_bytes": 100})
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=1)
    assert refusal.value.members["left"] == 0
    assert counters(workspace)["current_storage_bytes"] == 500


@pytest.mark.parametrize("size", [LARGEST + 1, 2**63, 10**30])
def test_a_size_that_no_column_could_hold_is_too_large_even_when_unlimited(size: int) -> None:
    workspace = workspace_with()
    with pytest.raises(FileTooLarge):
        reserve_storage(workspace, size_bytes=size)
    reservation = reserve_storage(workspace, size_bytes=1)
    with pytest.raises(FileTooLarge):
        extend_reservation(reservation, size_bytes=size)
    assert counters(workspace) == {"reserved_bytes": 1, "reserved_files": 1}


def test_unlimited_quotas_never_overflow_their_counters() -> None:
    workspace = workspace_with()
    settle(reserve_storage(workspace, size_bytes=LARGEST), size_bytes=LARGEST)
    with pytest.raises(QuotaExceeded):
        reserve_storage(workspace, size_bytes=1)


@pytest.mark.parametrize(("size", "files"), [(-1, 1), (1, 0), (1, -1)])
def test_negative_sizes_and_no_files_are_refused(size: int, files: int) -> None:
    with pytest.raises(ValueError, match="cannot reserve"):
        reserve_storage(workspace_with(), size_bytes=size, files=files)


def test_a_workspace_without_a_quota_gets_the_default_one_with_its_first_reservation(settings: Any) -> None:
    settings.DEFAULT_MAX_STORAGE_BYTES = 1000
    settings.DEFAULT_MAX_FILE_COUNT = None
    settings.DEFAULT_MAX_FILE_SIZE = 0
    workspace = WorkspaceFactory()
    with pytest.raises(FileTooLarge):
        reserve_storage(workspace, size_bytes=1)
    settings.DEFAULT_MAX_FILE_SIZE = 600
    reserve_storage(workspace, size_bytes=600)
    quota = ensure_quota(workspace)
    assert (quota.max_storage_bytes, quota.max_file_count, quota.max_file_size) == (1000, None, 600)
    assert (quota.reserved_bytes, quota.reserved_files) == (600, 1)


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


@pytest.mark.parametrize(
    ("limit", "error", "asked"),
    [
        ("max_storage_bytes", QuotaExceeded, 61),
        ("max_monthly_upload_bytes", QuotaExceeded, 61),
        ("max_file_size", FileTooLarge, 101),
    ],
)
def test_extending_beyond_a_limit_is_refused_and_changes_nothing(
    limit: str, error: type[QuotaExceeded | FileTooLarge], asked: int
) -> None:
    """Promise 27. Growing is held against the limits like beginning."""
    workspace = workspace_with(**{limit: 100})
    reservation = reserve_storage(workspace, size_bytes=40)
    before = QuotaReservation.objects.values().get()
    with pytest.raises(error) as refusal:
        extend_reservation(reservation, size_bytes=101, seconds=10_000)
    assert (refusal.value.members["limit"], refusal.value.members["asked"]) == (limit, asked)
    assert QuotaReservation.objects.values().get() == before
    assert reservation.bytes == 40
    assert counters(workspace) == {"reserved_bytes": 40, "reserved_files": 1}


def test_a_reservation_may_be_extended_although_the_file_count_was_lowered_meanwhile() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=40)
    change_quota(workspace, changes={"max_file_count": 0, "max_monthly_uploads": 0})
    extend_reservation(reservation, size_bytes=50)
    assert counters(workspace)["reserved_bytes"] == 50
    change_quota(workspace, changes={"max_monthly_upload_bytes": 50})
    with pytest.raises(QuotaExceeded) as refusal:
        extend_reservation(reservation, size_bytes=51)
    assert refusal.value.members["limit"] == "max_monthly_upload_bytes"


def test_touching_moves_the_expiry_and_nothing_else() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=40)
    now = timezone.now()
    touch_reservation(reservation, seconds=5000, now=now)
    assert QuotaReservation.objects.get().expires_at == reservation.expires_at == now + timedelta(seconds=5000)
    assert counters(workspace) == {"reserved_bytes": 40, "reserved_files": 1}


def test_a_reservation_that_is_gone_can_be_neither_touched_nor_extended() -> None:
    reservation = reserve_storage(workspace_with(), size_bytes=40)
    release_reservation(reservation)
    with pytest.raises(ReservationGone):
        touch_reservation(reservation)
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


@pytest.mark.django_db(transaction=True)
def test_counting_outside_of_the_callers_transaction_is_refused() -> None:
    workspace = workspace_with()
    reservation = reserve_storage(workspace, size_bytes=10)
    with pytest.raises(transaction.TransactionManagementError):
        settle_reservation(reservation, size_bytes=10)
    with pytest.raises(transaction.TransactionManagementError):
        count_in(workspace.pk, size_bytes=1)
    with pytest.raises(transaction.TransactionManagementError):
        count_out(workspace.pk, size_bytes=1)
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


def test_undelete_counts_again_against_storage_but_not_against_the_month() -> None:
    workspace = workspace_with(
        max_storage_bytes=100, max_file_count=2, max_file_size=90, max_monthly_uploads=1, max_monthly_upload_bytes=90
    )
    settle(reserve_storage(workspace, size_bytes=90), size_bytes=90)
    with transaction.atomic():
        count_out(workspace.pk, size_bytes=90)
    change_quota(workspace, changes={"max_file_size": 1})
    assert counters(workspace) == {"monthly_uploads": 1, "monthly_upload_bytes": 90}
    with transaction.atomic():
        count_in(workspace.pk, size_bytes=90)
    assert counters(workspace) == {
        "current_storage_bytes": 90,
        "current_file_count": 1,
        "monthly_uploads": 1,
        "monthly_upload_bytes": 90,
    }


@pytest.mark.parametrize("limit", ["max_storage_bytes", "max_file_count"])
def test_undelete_is_refused_where_there_is_no_room_any_more(limit: str) -> None:
    """Promise 27. What was reserved meanwhile is in the way of what comes back."""
    workspace = workspace_with(**{limit: 100 if limit == "max_storage_bytes" else 1})
    reserve_storage(workspace, size_bytes=60)
    with pytest.raises(QuotaExceeded) as refusal, transaction.atomic():
        count_in(workspace.pk, size_bytes=60)
    assert refusal.value.members["limit"] == limit
    assert counters(workspace) == {"reserved_bytes": 60, "reserved_files": 1}


def test_no_counter_can_be_written_below_zero() -> None:
    """Promise 28. The database itself refuses a count that cannot be."""
    workspace = workspace_with()
    with pytest.raises(IntegrityError), transaction.atomic():
        count_out(workspace.pk, size_bytes=1, files=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        count_out(workspace.pk, size_bytes=0, files=1)


def test_a_count_without_its_quota_row_is_an_error_and_not_lost() -> None:
    workspace = WorkspaceFactory()
    with pytest.raises(StorageQuota.DoesNotExist), transaction.atomic():
        count_out(workspace.pk, size_bytes=1)


def test_locking_makes_the_default_quota_where_there_is_none() -> None:
    workspace = WorkspaceFactory()
    with transaction.atomic():
        assert lock_quota(workspace.pk) == StorageQuota.objects.get(workspace=workspace)


def test_changing_limits_keeps_counters_that_moved_since_the_row_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = workspace_with()
    stale = ensure_quota(workspace)
    reserve_storage(workspace, size_bytes=10)
    monkeypatch.setattr("quotas.reservations.ensure_quota", lambda workspace: stale)
    change_quota(workspace, changes={"max_storage_bytes": 5})
    assert counters(workspace) == {"reserved_bytes": 10, "reserved_files": 1}
    assert StorageQuota.objects.get().max_storage_bytes == 5


def test_looking_ahead_refuses_what_reserving_would_and_promises_nothing() -> None:
    workspace = workspace_with(max_storage_bytes=100, max_file_count=3, max_file_size=70)
    reserve_storage(workspace, size_bytes=10)
    quota = ensure_quota(workspace)
    check_room(quota, size_bytes=70)
    check_room(quota, size_bytes=60, other_bytes=30, other_files=1)
    with pytest.raises(QuotaExceeded) as refusal:
        check_room(quota, size_bytes=61, other_bytes=30, other_files=1)
    assert refusal.value.members["limit"] == "max_storage_bytes"
    with pytest.raises(QuotaExceeded) as refusal:
        check_room(quota, size_bytes=1, other_bytes=2, other_files=2)
    assert refusal.value.members["limit"] == "max_file_count"
    with pytest.raises(FileTooLarge):
        check_room(quota, size_bytes=71)
    assert counters(workspace) == {"reserved_bytes": 10, "reserved_files": 1}

"""What limits allow and refuse, in words that name them."""

from typing import Any

import pytest

from quotas.errors import FileTooLarge, QuotaExceeded
from quotas.models import LARGEST, QuotaReservation, StorageQuota
from quotas.reservations import change_quota, check_room, ensure_quota, extend_reservation, reserve_storage
from tests.factories import WorkspaceFactory
from tests.quotas.counted import counters, settle, workspace_with

pytestmark = pytest.mark.django_db

LIMITS = ("max_storage_bytes", "max_file_count", "max_file_size", "max_monthly_uploads", "max_monthly_upload_bytes")


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


def test_a_refusal_says_in_words_what_there_is_and_what_to_do() -> None:
    workspace = workspace_with(max_storage_bytes=5 * 1024**3, current_storage_bytes=3 * 1024**3, max_file_count=7)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=4 * 1024**3)
    assert str(refusal.value).replace("\xa0", " ") == (
        "The workspace may hold 5.0 GB: 3.0 GB used, 0 bytes reserved for uploads under way, 4.0 GB asked for. "
        "Delete files, or ask an administrator for more room."
    )
    StorageQuota.objects.update(current_file_count=7)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=1)
    assert str(refusal.value).startswith("The workspace may hold 7 files: 7 there, 0 on their way.")

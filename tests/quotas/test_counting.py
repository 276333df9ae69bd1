"""What goes into the trash and comes out of it is counted out and in."""

import pytest
from django.db import transaction
from structlog.testing import capture_logs

from quotas.errors import QuotaExceeded
from quotas.models import StorageQuota
from quotas.reservations import change_quota, count_in, count_out, lock_quota, reserve_storage, settle_reservation
from tests.factories import WorkspaceFactory
from tests.quotas.counted import counters, settle, workspace_with

pytestmark = pytest.mark.django_db


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


def test_a_count_without_its_quota_row_is_an_error_and_not_lost() -> None:
    workspace = WorkspaceFactory()
    with pytest.raises(StorageQuota.DoesNotExist), transaction.atomic():
        count_out(workspace.pk, size_bytes=1)


def test_locking_makes_the_default_quota_where_there_is_none() -> None:
    workspace = WorkspaceFactory()
    with transaction.atomic():
        assert lock_quota(workspace.pk) == StorageQuota.objects.get(workspace=workspace)


@pytest.mark.parametrize(
    ("too_low", "left"),
    [
        ({"current_storage_bytes": 30}, {"current_file_count": 1}),
        ({"current_file_count": 0}, {"current_storage_bytes": 60}),
        ({"current_storage_bytes": 0, "current_file_count": 0}, {}),
    ],
)
def test_a_counter_that_is_too_low_stops_at_zero_and_says_so_instead_of_keeping_the_file(
    too_low: dict[str, int], left: dict[str, int]
) -> None:
    """Whoever set a counter by hand may be gone; the owner's delete must not wait for the next recalculation."""
    workspace = workspace_with(current_storage_bytes=100, current_file_count=2)
    StorageQuota.objects.update(**too_low)
    with capture_logs() as logs, transaction.atomic():
        count_out(workspace.pk, size_bytes=40)
    assert counters(workspace) == left
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("counter_below_zero", "warning")
    assert line["taken"] == {"bytes": 40, "files": 1}
    assert (
        line["held"]
        == {
            "current_storage_bytes": 100,
            "current_file_count": 2,
            "reserved_bytes": 0,
            "reserved_files": 0,
        }
        | too_low
    )


def test_counting_out_what_is_there_says_nothing() -> None:
    workspace = workspace_with(current_storage_bytes=40, current_file_count=1)
    with capture_logs() as logs, transaction.atomic():
        count_out(workspace.pk, size_bytes=40)
    assert counters(workspace) == {}
    assert logs == []

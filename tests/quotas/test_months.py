"""Monthly counters rise within their month and begin anew with the next one."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import transaction

from audiotricks.clock import wall_clock
from quotas.errors import QuotaExceeded
from quotas.models import QuotaReservation, StorageQuota, Workspace, this_month
from quotas.reservations import count_out, ensure_quota, extend_reservation, reserve_storage, settle_reservation
from tests.factories import StorageQuotaFactory, WorkspaceFactory

pytestmark = pytest.mark.django_db

LAST_SECOND = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Stands still one second before February, the database's too."""
    monkeypatch.setattr("audiotricks.clock.database_clock", wall_clock)
    with time_machine.travel(LAST_SECOND, tick=False) as traveller:
        yield traveller


def upload(workspace: Workspace, *, size_bytes: int) -> None:
    settle(reserve_storage(workspace, size_bytes=size_bytes), size_bytes=size_bytes)


def settle(reservation: QuotaReservation, *, size_bytes: int) -> None:
    with transaction.atomic():
        assert settle_reservation(reservation, size_bytes=size_bytes)


def month_of_quota() -> tuple[date, int, int]:
    return StorageQuota.objects.values_list("month", "monthly_uploads", "monthly_upload_bytes").get()


def test_a_month_that_is_full_opens_again_with_the_next_one(clock: Any) -> None:
    """Promise 27. The month's limits hold to its last second and are whole again in the first of the next."""
    workspace = StorageQuotaFactory(max_monthly_uploads=2, max_monthly_upload_bytes=100).workspace
    upload(workspace, size_bytes=50)
    upload(workspace, size_bytes=50)
    with pytest.raises(QuotaExceeded):
        upload(workspace, size_bytes=1)
    clock.shift(timedelta(seconds=1))
    upload(workspace, size_bytes=100)
    assert month_of_quota() == (date(2026, 2, 1), 1, 100)
    with pytest.raises(QuotaExceeded) as refusal:
        upload(workspace, size_bytes=1)
    assert refusal.value.members["limit"] == "max_monthly_upload_bytes"
    assert refusal.value.members["used"] == 100


def test_a_refusal_in_a_new_month_does_not_count_the_old_one(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_uploads=1, max_monthly_upload_bytes=100).workspace
    upload(workspace, size_bytes=60)
    clock.shift(timedelta(seconds=1))
    with pytest.raises(QuotaExceeded) as refusal:
        reserve_storage(workspace, size_bytes=101)
    assert refusal.value.members["used"] == 0
    assert refusal.value.members["left"] == 100


def test_deleting_gives_nothing_of_the_month_back(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_uploads=1).workspace
    upload(workspace, size_bytes=50)
    with transaction.atomic():
        count_out(workspace.pk, size_bytes=50)
    with pytest.raises(QuotaExceeded):
        reserve_storage(workspace, size_bytes=1)


def test_what_failed_costs_nothing_of_the_month(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_uploads=1).workspace
    reserve_storage(workspace, size_bytes=50)
    assert month_of_quota()[1:] == (0, 0)


def test_an_upload_is_charged_to_the_month_in_which_it_began(clock: Any) -> None:
    """Promise 27. What was reserved before midnight takes nothing of the month that has begun since."""
    workspace = StorageQuotaFactory(max_monthly_uploads=2).workspace
    over_midnight = reserve_storage(workspace, size_bytes=50)
    clock.shift(timedelta(seconds=1))
    upload(workspace, size_bytes=7)
    settle(over_midnight, size_bytes=50)
    assert month_of_quota() == (date(2026, 2, 1), 1, 7)
    assert StorageQuota.objects.get().current_storage_bytes == 57


def test_an_upload_over_midnight_is_charged_to_its_month_while_that_is_still_the_quotas(clock: Any) -> None:
    workspace = StorageQuotaFactory().workspace
    over_midnight = reserve_storage(workspace, size_bytes=50)
    clock.shift(timedelta(seconds=1))
    settle(over_midnight, size_bytes=50)
    assert month_of_quota() == (date(2026, 1, 1), 1, 50)
    assert ensure_quota(workspace).as_of(this_month()).monthly_uploads == 0


def test_a_reservation_counts_against_the_month_while_it_lives(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_uploads=1).workspace
    reserve_storage(workspace, size_bytes=50)
    clock.shift(timedelta(seconds=1))
    with pytest.raises(QuotaExceeded):
        reserve_storage(workspace, size_bytes=1)


def test_extending_in_a_new_month_rolls_it_over_too(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_upload_bytes=100).workspace
    upload(workspace, size_bytes=90)
    reservation = reserve_storage(workspace, size_bytes=10)
    clock.shift(timedelta(seconds=1))
    extend_reservation(reservation, size_bytes=100)
    assert month_of_quota() == (date(2026, 2, 1), 0, 0)


def test_a_clock_that_is_behind_does_not_empty_the_month(clock: Any) -> None:
    """Promise 27. Two servers that disagree about midnight cannot reset the month to and fro."""
    workspace = StorageQuotaFactory(max_monthly_uploads=1).workspace
    clock.shift(timedelta(seconds=1))
    upload(workspace, size_bytes=50)
    clock.shift(timedelta(days=-1))
    with pytest.raises(QuotaExceeded):
        upload(workspace, size_bytes=50)
    assert month_of_quota() == (date(2026, 2, 1), 1, 50)


def test_a_month_of_a_clock_that_was_ahead_is_put_right(clock: Any) -> None:
    """Promise 27. One request of a server whose clock was years ahead does not end the limit for good."""
    workspace = StorageQuotaFactory(max_monthly_uploads=1, month=date(2031, 5, 1), monthly_uploads=1).workspace
    upload(workspace, size_bytes=1)
    assert month_of_quota() == (date(2026, 1, 1), 1, 1)
    with pytest.raises(QuotaExceeded) as refusal:
        upload(workspace, size_bytes=1)
    assert refusal.value.members["used"] == 1


def test_who_waited_while_a_month_ended_leaves_the_new_one(clock: Any) -> None:
    workspace = StorageQuotaFactory(max_monthly_uploads=3, month=date(2026, 2, 1), monthly_uploads=1).workspace
    upload(workspace, size_bytes=1)
    assert month_of_quota()[:2] == (date(2026, 2, 1), 1)


def test_the_month_is_that_of_the_database_and_not_of_a_web_server(settings: Any) -> None:
    """Promise 37. Also for the refusal, and for the row that a workspace gets with its first file."""
    with time_machine.travel(datetime(2041, 7, 1, tzinfo=UTC), tick=False):
        workspace = WorkspaceFactory()
        settings.DEFAULT_MAX_MONTHLY_UPLOADS = 1
        upload(workspace, size_bytes=1)
        with pytest.raises(QuotaExceeded):
            upload(workspace, size_bytes=1)
    assert month_of_quota() == (this_month(), 1, 1)
    assert QuotaReservation.objects.count() == 0

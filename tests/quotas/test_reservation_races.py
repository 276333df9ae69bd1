"""Many threads at one quota row, on PostgreSQL."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction
from django.utils import timezone

from quotas.errors import QuotaExceeded
from quotas.models import QuotaReservation, StorageQuota
from quotas.reservations import (
    count_in,
    ensure_quota,
    extend_reservation,
    release_expired,
    release_reservation,
    reserve_storage,
    settle_reservation,
)
from tests.factories import StorageQuotaFactory, WorkspaceFactory
from tests.quotas.threads import at_once, kinds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_storage_bytes": 20 * 1000 + 999},
        {"max_file_count": 20},
        {"max_monthly_uploads": 20},
        {"max_monthly_upload_bytes": 20 * 1000 + 999},
    ],
    ids=lambda limits: next(iter(limits)),
)
def test_fifty_threads_never_reserve_more_than_there_is(limits: dict[str, int]) -> None:
    """Promise 27. Parallel uploads get exactly the places that there are, whichever limit makes them scarce."""
    workspace = StorageQuotaFactory(**limits).workspace
    outcomes = at_once(*[partial(reserve_storage, workspace, size_bytes=1000)] * 50)
    assert kinds(outcomes) == {"QuotaReservation": 20, "QuotaExceeded": 30}
    quota = ensure_quota(workspace)
    assert (quota.reserved_bytes, quota.reserved_files) == (20_000, 20)
    assert QuotaReservation.objects.count() == 20


def test_threads_that_reserve_settle_and_release_leave_exactly_what_arrived() -> None:
    """Promise 28. After the storm the counters are the sum of what was settled, and nothing is reserved."""
    workspace = StorageQuotaFactory(max_file_count=30, max_storage_bytes=30_000).workspace

    def one_upload(number: int) -> bool:
        reservation = reserve_storage(workspace, size_bytes=1000)
        if number % 3 == 0:
            release_reservation(reservation)
            return False
        with transaction.atomic():
            return settle_reservation(reservation, size_bytes=number)

    outcomes = at_once(*[partial(one_upload, number) for number in range(50)])
    arrived = [number for number, outcome in enumerate(outcomes) if outcome is True]
    assert arrived
    assert set(kinds(outcomes)) <= {"bool", "QuotaExceeded"}
    quota = ensure_quota(workspace)
    assert (quota.current_file_count, quota.current_storage_bytes) == (len(arrived), sum(arrived))
    assert (quota.monthly_uploads, quota.monthly_upload_bytes) == (len(arrived), sum(arrived))
    assert (quota.reserved_files, quota.reserved_bytes) == (0, 0)
    assert quota.current_file_count <= 30


@pytest.mark.parametrize("run", range(5))
def test_of_settling_releasing_and_expiring_at_once_exactly_one_acts(run: int) -> None:
    """Promise 28. Nothing is given back twice, whoever comes first."""
    workspace = StorageQuotaFactory().workspace
    spare = reserve_storage(workspace, size_bytes=7)
    reservation = reserve_storage(workspace, size_bytes=1000, seconds=1)
    later = timezone.now() + timedelta(seconds=60)
    expired = QuotaReservation.objects.exclude(pk=spare.pk)

    def settle() -> bool:
        with transaction.atomic():
            return settle_reservation(reservation, size_bytes=900)

    def release() -> bool:
        return release_reservation(reservation)

    def expire() -> bool:
        return release_expired(expired, now=later) == 1

    outcomes = at_once(*[settle, release, expire] * 4)
    assert outcomes.count(True) == 1
    assert outcomes.count(False) == 11
    quota = ensure_quota(workspace)
    settled = outcomes.index(True) % 3 == 0
    assert quota.current_storage_bytes == (900 if settled else 0)
    assert (quota.reserved_bytes, quota.reserved_files) == (7, 1)


def test_parallel_extensions_never_exceed_the_limit() -> None:
    """Promise 27. Uploads that grow compete for the same room."""
    workspace = StorageQuotaFactory(max_storage_bytes=1000).workspace
    reservations = [reserve_storage(workspace, size_bytes=10) for _ in range(20)]
    outcomes = at_once(*[partial(extend_reservation, each, size_bytes=110) for each in reservations])
    assert kinds(outcomes) == {"NoneType": 8, "QuotaExceeded": 12}
    assert ensure_quota(workspace).reserved_bytes == 1000 == sum(row.bytes for row in QuotaReservation.objects.all())


@pytest.mark.parametrize("run", range(3))
def test_extending_and_releasing_one_reservation_at_once_counts_it_once(run: int) -> None:
    """Promise 28. Two requests for the same upload do not reserve its growth twice, nor leave it behind."""
    workspace = StorageQuotaFactory().workspace
    reservation = reserve_storage(workspace, size_bytes=10)
    outcomes = at_once(*[partial(extend_reservation, reservation, size_bytes=110)] * 8)
    assert kinds(outcomes) == {"NoneType": 8}
    assert ensure_quota(workspace).reserved_bytes == 110
    grow = partial(extend_reservation, reservation, size_bytes=500)
    outcomes = at_once(*[grow] * 4, *[partial(release_reservation, reservation)] * 4)
    assert set(kinds(outcomes)) <= {"NoneType", "ReservationGone", "bool"}
    assert outcomes.count(True) == 1
    assert ensure_quota(workspace).reserved_bytes == 0


def test_undelete_and_uploads_compete_for_the_same_room() -> None:
    """Promise 27. Coming back from the trash cannot overfill the workspace either."""
    workspace = StorageQuotaFactory(max_storage_bytes=10_000).workspace

    def undelete() -> bool:
        with transaction.atomic():
            count_in(workspace.pk, size_bytes=1000)
        return True

    outcomes = at_once(*[undelete, partial(reserve_storage, workspace, size_bytes=1000)] * 10)
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 10
    quota = ensure_quota(workspace)
    assert quota.current_storage_bytes + quota.reserved_bytes == 10_000
    assert quota.current_storage_bytes == 1000 * outcomes.count(True)


def test_first_reservations_at_once_make_one_default_quota() -> None:
    """Promise 27. A new workspace cannot be entered through a quota that is not there yet."""
    workspace = WorkspaceFactory()
    outcomes = at_once(*[partial(reserve_storage, workspace, size_bytes=1)] * 20)
    assert kinds(outcomes) == {"QuotaReservation": 20}
    assert StorageQuota.objects.get(workspace=workspace).reserved_files == 20

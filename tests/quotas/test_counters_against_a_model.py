"""Any sequence of operations leaves the counters that a plain model of them has."""

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quotas.errors import FileTooLarge, QuotaExceeded, ReservationGone
from quotas.models import QuotaReservation, StorageQuota
from quotas.reservations import (
    change_quota,
    count_in,
    count_out,
    extend_reservation,
    release_expired,
    release_reservation,
    reserve_storage,
    settle_reservation,
)
from tests.factories import WorkspaceFactory

LIMITS = ("max_file_size", "max_storage_bytes", "max_file_count", "max_monthly_uploads", "max_monthly_upload_bytes")
LIFETIME = timedelta(days=3)
sizes = st.integers(0, 40)
picks = st.integers(0, 1000)


class Counters(RuleBasedStateMachine):
    """The model holds reservations, files and trash as lists, and adds them up anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.now = datetime(2026, 1, 20, tzinfo=UTC)
        self.workspace = WorkspaceFactory()
        StorageQuota.objects.create(workspace=self.workspace, month=self.month)
        self.limits: dict[str, int | None] = dict.fromkeys(LIMITS)
        self.reserved: dict[uuid.UUID, dict[str, Any]] = {}
        self.gone: list[uuid.UUID] = []
        self.files: list[int] = []
        self.trash: list[int] = []
        self.arrived: list[int] = []
        self.arrived_in = self.month

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    @property
    def month(self) -> date:
        return self.now.date().replace(day=1)

    def refusal(self, *, size: int, files: int, file_size: int) -> str | None:
        arrived = self.arrived if self.arrived_in == self.month else []
        held_bytes, held_files = sum(row["bytes"] for row in self.reserved.values()), len(self.reserved)
        asked = {
            "max_file_size": (0, file_size),
            "max_storage_bytes": (sum(self.files) + held_bytes, size),
            "max_file_count": (len(self.files) + held_files, files),
            "max_monthly_uploads": (len(arrived) + held_files, files),
            "max_monthly_upload_bytes": (sum(arrived) + held_bytes, size),
        }
        for name in LIMITS:
            taken, more = asked[name]
            maximum = self.limits[name]
            if maximum is not None and more and taken + more > maximum:
                return name
        return None

    def roll_over(self) -> None:
        if self.arrived_in < self.month:
            self.arrived, self.arrived_in = [], self.month

    def picked(self, pick: int) -> uuid.UUID:
        return list(self.reserved)[pick % len(self.reserved)]

    @initialize(maxima=st.fixed_dictionaries({name: st.none() | st.integers(20, 100) for name in LIMITS}))
    def begin_with_limits(self, maxima: dict[str, int | None]) -> None:
        for name, maximum in maxima.items():
            self.set_limit(name, maximum)

    @rule(name=st.sampled_from(LIMITS), maximum=st.none() | st.integers(0, 120))
    def set_limit(self, name: str, maximum: int | None) -> None:
        if name.endswith(("count", "uploads")) and maximum is not None:
            maximum //= 12
        self.limits[name] = maximum
        change_quota(self.workspace, changes={name: maximum})

    @rule(size=sizes)
    def reserve(self, size: int) -> None:
        refusal = self.refusal(size=size, files=1, file_size=size)
        try:
            reservation = reserve_storage(
                self.workspace, size_bytes=size, seconds=int(LIFETIME.total_seconds()), now=self.now
            )
        except (QuotaExceeded, FileTooLarge) as error:
            assert error.members["limit"] == refusal
            return
        assert refusal is None
        self.roll_over()
        self.reserved[reservation.pk] = {"bytes": size, "month": self.month, "expires": self.now + LIFETIME}

    @precondition(lambda self: self.reserved)
    @rule(pick=picks, more=st.integers(-5, 40))
    def extend(self, pick: int, more: int) -> None:
        pk = self.picked(pick)
        row = self.reserved[pk]
        total = max(0, row["bytes"] + more)
        refusal = self.refusal(size=more, files=0, file_size=total) if more > 0 else None
        try:
            extend_reservation(
                QuotaReservation.objects.get(pk=pk),
                size_bytes=total,
                seconds=int(LIFETIME.total_seconds()),
                now=self.now,
            )
        except (QuotaExceeded, FileTooLarge) as error:
            assert error.members["limit"] == refusal
            return
        assert refusal is None
        if more > 0:
            self.roll_over()
        row["bytes"], row["expires"] = max(row["bytes"], total), self.now + LIFETIME

    @precondition(lambda self: self.reserved)
    @rule(pick=picks, less=st.integers(0, 5))
    def settle(self, pick: int, less: int) -> None:
        pk = self.picked(pick)
        row = self.reserved.pop(pk)
        size = max(0, row["bytes"] - less)
        with transaction.atomic():
            assert settle_reservation(pk, size_bytes=size)
        self.gone.append(pk)
        self.files.append(size)
        if row["month"] == self.arrived_in:
            self.arrived.append(size)

    @precondition(lambda self: self.reserved)
    @rule(pick=picks)
    def release(self, pick: int) -> None:
        pk = self.picked(pick)
        assert release_reservation(pk)
        del self.reserved[pk]
        self.gone.append(pk)

    @precondition(lambda self: self.gone)
    @rule(pick=picks)
    def use_what_is_gone(self, pick: int) -> None:
        pk = self.gone[pick % len(self.gone)]
        assert not release_reservation(pk)
        with transaction.atomic():
            assert not settle_reservation(pk, size_bytes=0)
        with pytest.raises(ReservationGone):
            extend_reservation(QuotaReservation(pk=pk), size_bytes=1)

    @rule(days=st.integers(1, 20))
    def time_passes(self, days: int) -> None:
        self.now += timedelta(days=days)

    @rule()
    def sweep(self) -> None:
        expired = [pk for pk, row in self.reserved.items() if row["expires"] <= self.now]
        rows = QuotaReservation.objects.filter(workspace=self.workspace)
        assert release_expired(rows, now=self.now) == len(expired)
        for pk in expired:
            del self.reserved[pk]
            self.gone.append(pk)

    @precondition(lambda self: self.files)
    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        size = self.files.pop(pick % len(self.files))
        count_out(self.workspace.pk, size_bytes=size)
        self.trash.append(size)

    @precondition(lambda self: self.trash)
    @rule(pick=picks)
    def undelete(self, pick: int) -> None:
        size = self.trash[pick % len(self.trash)]
        monthly = {name: self.limits.pop(name) for name in list(self.limits) if name not in LIMITS[1:3]}
        self.limits |= dict.fromkeys(monthly)
        refusal = self.refusal(size=size, files=1, file_size=size)
        self.limits |= monthly
        try:
            count_in(self.workspace.pk, size_bytes=size)
        except QuotaExceeded as error:
            assert error.members["limit"] == refusal
            return
        assert refusal is None
        self.trash.remove(size)
        self.files.append(size)

    @invariant()
    def counters_are_the_models(self) -> None:
        quota = StorageQuota.objects.get(workspace=self.workspace)
        rows = QuotaReservation.objects.filter(workspace=self.workspace).values_list("pk", "bytes")
        assert dict(rows) == {pk: row["bytes"] for pk, row in self.reserved.items()}
        assert quota.reserved_bytes == sum(row["bytes"] for row in self.reserved.values())
        assert quota.reserved_files == len(self.reserved)
        assert quota.current_storage_bytes == sum(self.files)
        assert quota.current_file_count == len(self.files)
        assert quota.month == self.arrived_in
        assert quota.monthly_uploads == len(self.arrived)
        assert quota.monthly_upload_bytes == sum(self.arrived)


@pytest.mark.django_db(transaction=True)
def test_any_sequence_of_operations_leaves_the_counters_of_the_model() -> None:
    """Promise 28. Counters are what the rows add up to, after any sequence of operations."""
    run_state_machine_as_test(
        Counters, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, database=None)
    )

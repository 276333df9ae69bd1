"""Leases: one holder at a time, by the database's clock, for as long as the holder lives."""

from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from audiotricks.clock import Now, database_clock
from audiotricks.leases import Lease, LeaseLost
from audiotricks.models import TaskLease
from tests.prepared import ran_on_sqlite
from tests.quotas.threads import at_once
from tests.servers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def lease(seconds: float = 60) -> Lease:
    """As a process makes it: of the row as it reads it now, with the time in it as the only proof."""
    return Lease(TaskLease.objects.get_or_create(task="work")[0], "held_until", seconds=seconds)


def end() -> None:
    TaskLease.objects.update(held_until=Now() - timedelta(seconds=1))


@pytest.mark.race
def test_of_processes_at_the_same_moment_one_has_the_lease() -> None:
    """Promise 33."""
    for _ in range(5):
        TaskLease.objects.all().delete()
        rivals = [lease() for _ in range(6)]
        assert sorted(at_once(*[rival.take for rival in rivals])) == [False] * 5 + [True]


@pytest.mark.race
def test_of_processes_that_find_an_ended_lease_one_takes_it_over() -> None:
    """Promise 33. The holder was killed; neither its late sign of life nor its end disturbs the next one."""
    for _ in range(5):
        killed = lease()
        killed.take()
        end()
        rivals = [lease() for _ in range(5)]
        *taken, extended = at_once(*[rival.take for rival in rivals], killed.extend)
        assert [*taken, extended].count(True) == 1
        killed.give_back() if not extended else None
        assert not lease().take()
        end()


def test_a_lease_that_was_given_back_can_be_taken_at_once() -> None:
    first = lease()
    assert first.take()
    assert not lease().take()
    first.give_back()
    assert lease().take()


def test_a_lease_is_kept_for_as_long_as_its_holder_works() -> None:
    held = lease(1)
    held.take()
    begun = TaskLease.objects.get().held_until
    assert begun
    with held.kept():
        wait_until(lambda: TaskLease.objects.filter(held_until__gt=begun + timedelta(seconds=1)).exists())
        assert not lease(1).take()
        held.ensure_held()
    wait_until(lease(1).take, what="the lease of a holder that ended to end")


def test_a_holder_whose_lease_another_one_took_notices_it() -> None:
    held = lease(0.2)
    held.take()
    with held.kept():
        TaskLease.objects.update(held_until=Now() + timedelta(seconds=60))
        wait_until(lambda: held.is_lost, what="the holder to notice")
    with pytest.raises(LeaseLost):
        held.ensure_held()
    held.give_back()
    assert not lease().take()


def test_a_holder_that_cannot_reach_the_database_for_longer_than_its_lease_takes_it_for_lost() -> None:
    """Until it has asked again: where nobody took the row meanwhile, the lease is still its own."""
    held = lease(0.4)
    held.take()
    with held.kept():
        with transaction.atomic():
            TaskLease.objects.select_for_update().get()
            wait_until(lambda: held.is_lost, what="the holder to give up")
        wait_until(lambda: not held.is_lost, what="the holder to find its lease again")
        held.ensure_held()


@pytest.mark.parametrize("days", [-2, 2])
def test_a_process_whose_clock_is_wrong_takes_and_keeps_a_lease_by_the_database_s(days: int) -> None:
    """Promise 37."""
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        held = lease()
        assert held.take()
        assert held.extend() and not held.is_lost
        assert not lease().take()
    ends = TaskLease.objects.get().held_until
    assert ends and timedelta(seconds=50) < ends - database_clock() <= timedelta(seconds=60)
    assert not lease().take()
    end()
    with time_machine.travel(timezone.now() + timedelta(days=days)):
        assert lease().take()


def test_a_time_that_no_clock_can_have_given_holds_nothing() -> None:
    """Promise 37. The database's own clock was ahead once."""
    lease()
    TaskLease.objects.update(held_until=Now() + timedelta(days=900))
    assert lease().take()


ON_SQLITE = """
import threading
import django
django.setup()
from datetime import timedelta
from django.db import connection
from audiotricks.clock import Now
from audiotricks.leases import Lease
from audiotricks.models import TaskLease
from tests.servers import wait_until

assert connection.vendor == "sqlite"
row = TaskLease.objects.create(task="work")
rivals = [Lease(row, "held_until", seconds=1) for _ in range(6)]
taken = []
def take(rival):
    if rival.take():
        taken.append(rival)
    connection.close()
threads = [threading.Thread(target=take, args=[rival]) for rival in rivals]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
(held,) = taken
begun = TaskLease.objects.get().held_until
with held.kept():
    wait_until(lambda: TaskLease.objects.filter(held_until__gt=begun + timedelta(seconds=1)).exists())
    assert not Lease(row, "held_until", seconds=1).take()
TaskLease.objects.update(held_until=Now() - timedelta(seconds=1))
assert not held.extend()
assert Lease(row, "held_until", seconds=60).take()
held.give_back()
assert not Lease(row, "held_until", seconds=60).take()
print("done")
"""


def test_leases_hold_on_sqlite_too(tmp_path: Path) -> None:
    ran_on_sqlite(ON_SQLITE, tmp_path)

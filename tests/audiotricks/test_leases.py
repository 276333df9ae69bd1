"""One run at a time of each periodic task, and one message at a time on its way."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from celery.beat import SchedulingError
from django_celery_beat.models import PeriodicTask

from audiotricks.celery import app
from audiotricks.clock import Now
from audiotricks.leases import guarded, note_sending, one_at_a_time, task_lease
from audiotricks.models import TaskLease
from audiotricks.plug import periodic_tasks
from audiotricks.running.beat import Scheduler
from audiotricks.running.schedules import seed_periodic_tasks
from tests.quotas.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)

SWEEP = "uploads.tasks.sweep_stale_work"


def test_every_periodic_task_is_guarded() -> None:
    app.loader.import_default_modules()
    assert {task for _, (task, _) in periodic_tasks()} <= guarded


@pytest.mark.race
def test_of_runs_at_the_same_moment_one_works_and_the_others_leave_it_to_that() -> None:
    """Promise 35."""
    inside = threading.Barrier(1)
    all_tried = threading.Barrier(6)

    @one_at_a_time
    def work() -> dict[str, int]:
        inside.wait()
        all_tried.wait(timeout=20)
        return {"worked": 1}

    def run() -> dict[str, int]:
        outcome = work()
        if "left_to_another_run" in outcome:
            all_tried.wait(timeout=20)
        return outcome

    outcomes = at_once(*[run] * 6)
    assert sorted(map(str, outcomes)) == ["{'left_to_another_run': 1}"] * 5 + ["{'worked': 1}"]
    with task_lease("work") as held:
        assert held


def test_a_run_that_failed_gives_its_lease_back() -> None:
    with pytest.raises(ZeroDivisionError), task_lease("work"):
        raise ZeroDivisionError
    with task_lease("work") as held:
        assert held


def test_the_lease_of_a_dead_run_ends() -> None:
    with task_lease("work") as held:
        assert held
        TaskLease.objects.update(held_until=Now() - timedelta(seconds=1))
        with task_lease("work") as second:
            assert second
            with task_lease("work") as third:
                assert not third


def test_the_first_run_does_not_give_back_what_a_second_one_took_over() -> None:
    first = task_lease("work")
    first.__enter__()
    TaskLease.objects.update(held_until=Now() - timedelta(seconds=1))
    with task_lease("work"):
        first.__exit__(None, None, None)
        with task_lease("work") as held:
            assert not held


def test_a_clock_that_was_once_ahead_stops_no_task() -> None:
    """Promise 37. What it wrote into the lease lies in the future, and nobody waits for that."""
    ahead = Now() + timedelta(days=900)
    TaskLease.objects.create(task="work", sent_at=ahead, begun_at=ahead)
    sent_at = note_sending("work")
    assert sent_at is not None
    with task_lease("work", sent_at=sent_at) as held:
        assert held
    TaskLease.objects.update(sent_at=ahead)
    assert note_sending("work") is not None
    TaskLease.objects.update(held_until=ahead)
    with task_lease("work") as held:
        assert held


def test_a_call_about_something_of_its_own_is_not_guarded() -> None:
    calls = []

    @one_at_a_time
    def work(which: str = "all") -> dict[str, int]:
        calls.append(which)
        return work("some") if which == "all" else {}

    assert work() == {}
    assert calls == ["all", "some"]


def test_messages_that_piled_up_are_one_run() -> None:
    """All of them were sent before the run began that the first one started."""
    sent = [note_sending("work")]
    for _ in range(3):
        TaskLease.objects.update(sent_at=Now() - timedelta(hours=1))
        sent.append(note_sending("work"))
    held = []
    for sent_at in sent:
        with task_lease("work", sent_at=sent_at) as mine:
            held.append(mine)
    assert held == [True, False, False, False]
    again = note_sending("work")
    with task_lease("work", sent_at=again) as mine:
        assert mine


class Beat(Scheduler):
    """A scheduler whose messages are kept instead of sent."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__(app=current_app._get_current_object(), lazy=True)

    def setup_schedule(self) -> None:
        """Nothing is read from the database."""

    def due(self, task: str) -> Any:
        entry = self.Entry(PeriodicTask.objects.get(task=task), app=self.app)
        return self.apply_async(entry, advance=False)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    messages: list[Any] = []
    app.loader.import_default_modules()
    seed_periodic_tasks()
    monkeypatch.setattr(app.tasks[SWEEP], "apply_async", lambda *args, **options: messages.append(options))
    return messages


def test_a_message_that_waits_is_not_sent_again_by_any_scheduler(sent: list[Any]) -> None:
    """Promise 35. A worker that is away for an hour does not come back to sixty of them."""
    one, two = Beat(), Beat()
    for beat in (one, two, one, two):
        beat.due(SWEEP)
    assert len(sent) == 1
    with task_lease(SWEEP):
        pass
    one.due(SWEEP)
    assert len(sent) == 2
    assert sent[1]["headers"]["sent_at"] > sent[0]["headers"]["sent_at"]


def test_a_message_that_was_lost_is_sent_again_after_a_while(sent: list[Any]) -> None:
    beat = Beat()
    beat.due(SWEEP)
    TaskLease.objects.update(sent_at=Now() - timedelta(minutes=3, seconds=1))
    beat.due(SWEEP)
    assert len(sent) == 2


def test_a_message_that_the_broker_did_not_take_is_sent_the_next_time(
    sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError

    beat = Beat()
    with monkeypatch.context() as patch:
        patch.setattr(app.tasks[SWEEP], "apply_async", refuse)
        with pytest.raises(SchedulingError):
            beat.due(SWEEP)
    beat.due(SWEEP)
    assert len(sent) == 1

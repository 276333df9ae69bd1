from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from celery import shared_task
from celery.signals import task_postrun, task_prerun
from django.db import OperationalError
from django.utils import timezone

from audiotricks.models import TaskRun
from audiotricks.running import runs
from audiotricks.tasks import RUNS_KEPT, forget_expired

pytestmark = pytest.mark.django_db


class Unserialisable:
    def __str__(self) -> str:
        return "a thing\0of its own"


answers: dict[str, Any] = {}


@shared_task(name="tests.periodic")
def periodic() -> Any:
    answer = answers["answer"]
    if isinstance(answer, Exception):
        raise answer
    return answer() if callable(answer) else answer


@pytest.fixture(autouse=True)
def on_the_clock(declare: Callable[..., None]) -> None:
    declare(periodic_tasks={"Now and then": ("tests.periodic", timedelta(hours=1))})


def run(answer: Any) -> TaskRun:
    answers["answer"] = answer
    task_id = periodic.apply().id
    return TaskRun.objects.get(pk=task_id)


def test_a_run_is_kept_with_what_the_task_returned() -> None:
    before = timezone.now()
    kept = run({"purged": 3, "oldest": before})
    assert (kept.task, kept.outcome, kept.error) == ("tests.periodic", TaskRun.Outcome.DONE, "")
    assert kept.result["purged"] == 3
    assert before <= kept.started_at <= kept.finished_at <= timezone.now()
    assert kept.seconds is not None and kept.seconds >= 0


def test_a_run_that_failed_is_kept_with_the_error_in_words() -> None:
    kept = run(ValueError("the disk\0 is away"))
    assert (kept.outcome, kept.result) == (TaskRun.Outcome.FAILED, None)
    assert kept.error == "ValueError: the disk is away"


def test_a_run_is_seen_while_it_runs() -> None:
    seen = []
    kept = run(lambda: seen.append(TaskRun.objects.get().outcome))
    assert seen == [TaskRun.Outcome.RUNNING]
    assert kept.outcome == TaskRun.Outcome.DONE


def test_what_is_no_json_is_kept_as_its_text() -> None:
    assert run(Unserialisable()).result == "a thingof its own"


def test_a_task_that_is_not_on_the_clock_is_not_kept(declare: Callable[..., None]) -> None:
    declare(periodic_tasks={})
    answers["answer"] = 1
    assert periodic.apply().get() == 1
    assert not TaskRun.objects.exists()


def test_a_message_that_comes_again_begins_its_run_anew() -> None:
    task_id = str(uuid4())
    started_at = timezone.now() - timedelta(days=1)
    TaskRun.objects.create(pk=task_id, task="tests.periodic", started_at=started_at)
    assert TaskRun.objects.get().outcome == TaskRun.Outcome.LOST
    answers["answer"] = {"done": 1}
    periodic.apply(task_id=task_id)
    kept = TaskRun.objects.get()
    assert kept.pk == UUID(task_id) and kept.started_at > started_at
    assert kept.outcome == TaskRun.Outcome.DONE


@pytest.mark.parametrize("broken", ["update_or_create", "filter"])
def test_a_run_that_cannot_be_remembered_does_not_hold_the_task_up(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(TaskRun.objects, broken, away)
    answers["answer"] = {"done": 1}
    result = periodic.apply()
    assert result.get() == {"done": 1}


def test_the_recorder_listens_to_every_task() -> None:
    for signal, receiver in ((task_prerun, runs.remember_start), (task_postrun, runs.remember_end)):
        assert receiver in [receiver() for _, receiver in signal.receivers]


def test_the_newest_runs_of_each_task_are_kept() -> None:
    now = timezone.now()
    for task, count in (("often", RUNS_KEPT + 7), ("seldom", 3)):
        TaskRun.objects.bulk_create(
            TaskRun(pk=uuid4(), task=task, started_at=now - timedelta(minutes=number)) for number in range(count)
        )
    assert forget_expired()["task_runs"] == 7
    assert TaskRun.objects.filter(task="seldom").count() == 3
    kept = TaskRun.objects.filter(task="often")
    assert kept.count() == RUNS_KEPT
    assert kept.last().started_at == now - timedelta(minutes=RUNS_KEPT - 1)
    assert forget_expired()["task_runs"] == 0

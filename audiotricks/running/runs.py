"""Remembers each run of a periodic task, whoever sent it: rows of ``task_runs``, written by the worker that runs it.

A run that cannot be remembered does not hold its task up: Celery logs what a receiver of its signals raises, and goes
on. Each write has a transaction of its own, so that a task's is never broken by it.
"""

import json
from typing import Any

from celery import states
from celery.signals import task_postrun, task_prerun
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone

from audiotricks.models import TaskRun

LONGEST_ERROR = 2000


@task_prerun.connect
def remember_start(task_id: str = "", task: Any = None, **kwargs: Any) -> None:
    """A message that comes again, because its worker died, begins its row anew."""
    if is_periodic(task.name):
        with transaction.atomic():
            begun = {"started_at": timezone.now(), "finished_at": None, "succeeded": None, "result": None, "error": ""}
            TaskRun.objects.update_or_create(pk=task_id, defaults={"task": task.name, **begun})


@task_postrun.connect
def remember_end(task_id: str = "", task: Any = None, retval: Any = None, state: str = "", **kwargs: Any) -> None:
    """``retval`` is what the task returned, or the exception that ended it."""
    if not is_periodic(task.name):
        return
    succeeded = state == states.SUCCESS
    with transaction.atomic():
        TaskRun.objects.filter(pk=task_id).update(
            finished_at=timezone.now(),
            succeeded=succeeded,
            result=storable(retval) if succeeded else None,
            error="" if succeeded else in_words(retval),
        )


def is_periodic(task_name: str) -> bool:
    return any(task_name == name for name, _ in settings.PERIODIC_TASKS.values())


def storable(result: Any) -> Any:
    """The result as a JSON column takes it; its text, where it is not JSON."""
    try:
        json.dumps(result, cls=DjangoJSONEncoder)
    except (TypeError, ValueError):
        return storable_text(result)
    return result


def in_words(error: Any) -> str:
    return storable_text(f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error)


def storable_text(value: Any) -> str:
    """PostgreSQL refuses NUL in a text."""
    return str(value).replace("\0", "")[:LONGEST_ERROR]

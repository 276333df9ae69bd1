"""Remembers each run of a periodic task, whoever sent it: rows of ``task_runs``, written by the worker that runs it."""

import json
from contextlib import contextmanager
from typing import Any

import structlog
from celery import states
from celery.signals import task_postrun, task_prerun
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone

from audiotricks.models import TaskRun

LONGEST_ERROR = 2000

log = structlog.get_logger(__name__)


@task_prerun.connect
def remember_start(task_id: str = "", task: Any = None, **kwargs: Any) -> None:
    """A message that comes again, because its worker died, begins its row anew."""
    if is_periodic(task.name):
        with failures_logged(task.name):
            begun = {"started_at": timezone.now(), "finished_at": None, "succeeded": None, "result": None, "error": ""}
            TaskRun.objects.update_or_create(pk=task_id, defaults={"task": task.name, **begun})


@task_postrun.connect
def remember_end(task_id: str = "", task: Any = None, retval: Any = None, state: str = "", **kwargs: Any) -> None:
    """``retval`` is what the task returned, or the exception that ended it."""
    if not is_periodic(task.name):
        return
    succeeded = state == states.SUCCESS
    with failures_logged(task.name):
        TaskRun.objects.filter(pk=task_id).update(
            finished_at=timezone.now(),
            succeeded=succeeded,
            result=storable(retval) if succeeded else None,
            error="" if succeeded else in_words(retval),
        )


def is_periodic(task_name: str) -> bool:
    return any(task_name == name for name, _ in settings.PERIODIC_TASKS.values())


@contextmanager
def failures_logged(task_name: str) -> Any:
    """A task is not held up by a run that cannot be remembered."""
    try:
        with transaction.atomic():
            yield
    except Exception as error:  # noqa: BLE001 - whatever the database says
        log.warning("task_run_not_remembered", task=task_name, error=str(error))


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

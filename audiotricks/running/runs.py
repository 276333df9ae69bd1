"""Records each run of a periodic task in ``task_runs``. A failing write is logged by Celery and does
not stop the task.
"""

import json
from typing import Any

from celery import states
from celery.signals import task_postrun, task_prerun
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils import timezone

from audiotricks.models import TaskRun
from audiotricks.plug import periodic_tasks

LONGEST_ERROR = 2000


@task_prerun.connect
def remember_start(task_id: str = "", task: Any = None, **kwargs: Any) -> None:
    """A redelivered message begins its row again."""
    if is_periodic(task.name):
        with transaction.atomic():
            begun = {"started_at": timezone.now(), "finished_at": None, "succeeded": None, "result": None, "error": ""}
            TaskRun.objects.update_or_create(pk=task_id, defaults={"task": task.name, **begun})


@task_postrun.connect
def remember_end(task_id: str = "", task: Any = None, retval: Any = None, state: str = "", **kwargs: Any) -> None:
    """``retval`` is the result or exception."""
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
    return any(task_name == task for _, (task, _) in periodic_tasks())


def storable(result: Any) -> Any:
    """Its text, if it is not JSON."""
    try:
        json.dumps(result, cls=DjangoJSONEncoder)
    except (TypeError, ValueError):
        return storable_text(result)
    return result


def in_words(error: Any) -> str:
    return storable_text(f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error)


def storable_text(value: Any) -> str:
    """Without NUL, which PostgreSQL refuses."""
    return str(value).replace("\0", "")[:LONGEST_ERROR]

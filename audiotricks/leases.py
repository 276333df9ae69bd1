"""One run at a time of each periodic task, however many workers and schedulers there are.

A run holds a row of ``task_leases``, which a thread keeps alive while the process lives; a dead run's lease ends within
LEASE_SECONDS. All times are the database's, so that no two clocks are compared.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from uuid import uuid4

import structlog
from celery import current_task
from django.db import connection, transaction
from django.db.models import F, Q
from django.utils.dateparse import parse_datetime

from audiotricks.clock import Now
from audiotricks.models import TaskLease

LEASE_SECONDS = 60
#: A message that no worker began for so long may be lost, and another one is sent.
LOST_AFTER_SECONDS = 180

Counts = dict[str, int]
log = structlog.get_logger(__name__)

#: The names of the tasks that are guarded.
guarded: set[str] = set()


def one_at_a_time(function: Callable[..., Counts]) -> Callable[..., Counts]:
    """For a periodic task: while one run works, others return at once, with ``left_to_another_run`` as their count.

    So does a message that was sent before the last run began: what it asks for has been done since. A call with
    arguments is about something of its own, and is not guarded.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    guarded.add(name)

    @wraps(function)
    def run(*args: str, **kwargs: str) -> Counts:
        if args or kwargs:
            return function(*args, **kwargs)
        with task_lease(name, sent_at=sent_at_of_message()) as held:
            if held:
                return function()
        log.info("left_to_another_run", task=name)
        return {"left_to_another_run": 1}

    return run


def sent_at_of_message() -> datetime | None:
    """When the scheduler sent the message that is being worked on; None for one that somebody else sent."""
    told = getattr(current_task.request, "sent_at", None) if current_task else None
    return parse_datetime(told) if isinstance(told, str) else None


@contextmanager
def task_lease(task: str, *, sent_at: datetime | None = None) -> Iterator[bool]:
    """Hold the task's lease while the block runs; False when it is not to be had."""
    holder = uuid4()
    lease = TaskLease.objects.filter(task=task, holder=holder)
    TaskLease.objects.get_or_create(task=task)
    # Times that no running clock can have given are from one that was ahead, and keep nobody waiting.
    too_far = Now() + timedelta(seconds=2 * LEASE_SECONDS)
    free = TaskLease.objects.filter(Q(held_until=None) | Q(held_until__lt=Now()) | Q(held_until__gt=too_far), task=task)
    if sent_at is not None:
        free = free.filter(Q(begun_at=None) | Q(begun_at__lte=sent_at) | Q(begun_at__gt=too_far))
    with transaction.atomic():
        taken = free.update(holder=holder, held_until=lease_end(), begun_at=Now())
    if not taken:
        yield False
        return
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(LEASE_SECONDS / 4):
            try:
                lease.update(held_until=lease_end())
            except Exception as error:  # noqa: BLE001 - the database may be back at the next beat
                log.warning("lease_not_kept", task=task, error=str(error))
            finally:
                connection.close()

    thread = threading.Thread(target=keep, name="keep-lease", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        ended.set()
        thread.join()
        lease.update(holder=None, held_until=None)


def lease_end() -> object:
    return Now() + timedelta(seconds=LEASE_SECONDS)


def note_sending(task: str) -> datetime | None:
    """The moment of sending, for the message; None when a message waits already and need not be sent again."""
    with transaction.atomic():
        TaskLease.objects.get_or_create(task=task)
        due = TaskLease.objects.filter(
            Q(sent_at=None)
            | Q(begun_at__gte=F("sent_at"))
            | Q(sent_at__lt=Now() - timedelta(seconds=LOST_AFTER_SECONDS))
            | Q(sent_at__gt=Now() + timedelta(seconds=LOST_AFTER_SECONDS)),
            task=task,
        )
        if not due.update(sent_at=Now()):
            return None
        return TaskLease.objects.values_list("sent_at", flat=True).get(task=task)


def note_not_sent(task: str) -> None:
    TaskLease.objects.filter(task=task).update(sent_at=None)

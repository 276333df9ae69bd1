"""Leases on rows, and one parallel run of each periodic task, by the database's clock."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from typing import Any
from uuid import uuid4

import structlog
from celery import current_task
from django.db import connection, transaction
from django.db.models import F, Model, Q, QuerySet
from django.db.models.expressions import Combinable
from django.utils.dateparse import parse_datetime

from audiotricks.clock import Now, elapsed_clock
from audiotricks.models import TaskLease

LEASE_SECONDS = 60
#: A message that no worker has begun after this time may be lost, and another is sent.
LOST_AFTER_SECONDS = 180

Counts = dict[str, int]
log = structlog.get_logger(__name__)

#: The names of the guarded tasks.
guarded: set[str] = set()


class LeaseLost(Exception):
    """Another process may hold the row."""


def lease_end(seconds: float) -> Combinable:
    return Now() + timedelta(seconds=seconds)


def is_free(column: str, *, seconds: float) -> Q:
    """A time too far ahead, from a wrong clock, does not count."""
    ended = Q(**{f"{column}__lte": Now()})
    return Q(**{column: None}) | ended | Q(**{f"{column}__gt": lease_end(2 * seconds)})


class Lease:
    """A lease on ``row`` until the time in ``column``, ``seconds`` after it was last extended.

    ``holder`` are lookups that match until another process takes the row; by default, the time that this lease wrote.
    """

    def __init__(self, row: Model, column: str, *, seconds: float, holder: Mapping[str, Any] | None = None) -> None:
        self.seconds = seconds
        self._row = row
        self._column = column
        self._holder = {column: getattr(row, column)} if holder is None else holder
        self._time_is_proof = holder is None
        self._ends = elapsed_clock() + seconds

    def take(self, only_if: Q | None = None, **columns: Any) -> bool:
        """By one UPDATE, with ``columns``; succeeds for one of parallel processes."""
        free = self._rows().filter(is_free(self._column, seconds=self.seconds), only_if or Q())
        return self._write(free, **columns)

    def extend(self, **columns: Any) -> bool:
        """Also set ``columns``. Return False, and write nothing, when another process took the row."""
        return self._write(self._rows().filter(**self._holder), **columns)

    def give_back(self) -> None:
        self._rows().filter(**self._holder).update(**{self._column: None})

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Extend the lease from a thread during the block."""
        ended = threading.Event()
        thread = threading.Thread(target=self._keep, args=(ended,), name="keep-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @property
    def is_lost(self) -> bool:
        """Another process took the row, or may have while the database was unreachable."""
        return elapsed_clock() >= self._ends

    def ensure_held(self) -> None:
        """Raises LeaseLost. Asks the database only in doubt."""
        if self.is_lost and not self.extend():
            raise LeaseLost

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(self.seconds / 4):
            try:
                if not self.extend():
                    self._ends = elapsed_clock()
                    log.warning("lease_lost", table=self._row._meta.db_table, row=str(self._row.pk))
                    return
            except Exception as error:  # noqa: BLE001 - the database may be back at the next beat
                log.warning("lease_not_kept", row=str(self._row.pk), error=str(error))
            finally:
                connection.close()

    def _write(self, rows: "QuerySet[Any]", **columns: Any) -> bool:
        ends = elapsed_clock() + self.seconds
        with transaction.atomic():
            if not rows.update(**{self._column: lease_end(self.seconds)}, **columns):
                return False
            if self._time_is_proof:
                self._holder = self._rows().values(self._column).get()
        self._ends = ends
        return True

    def _rows(self) -> "QuerySet[Any]":
        return type(self._row)._default_manager.filter(pk=self._row.pk)


def one_at_a_time(function: Callable[..., Counts]) -> Callable[..., Counts]:
    """Allows one run of a periodic task without arguments. Another one, or an older message, returns
    ``left_to_another_run``. Logs the counts.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    guarded.add(name)

    @wraps(function)
    def run(*args: str, **kwargs: str) -> Counts:
        if args or kwargs:
            counts = function(*args, **kwargs)
        else:
            with task_lease(name, sent_at=sent_at_of_message()) as held:
                counts = function() if held else {"left_to_another_run": 1}
        log.info("task_done", task=name, **counts)
        return counts

    return run


def sent_at_of_message() -> datetime | None:
    """None for messages that the scheduler did not send."""
    sent_at = getattr(current_task.request, "sent_at", None) if current_task else None
    return parse_datetime(sent_at) if isinstance(sent_at, str) else None


@contextmanager
def task_lease(task: str, *, sent_at: datetime | None = None) -> Iterator[bool]:
    """False when another run holds the lease, or began after ``sent_at``."""
    row, _ = TaskLease.objects.get_or_create(task=task)
    holder = uuid4()
    lease = Lease(row, "held_until", seconds=LEASE_SECONDS, holder={"holder": holder})
    in_time = Q()
    if sent_at is not None:
        in_time = Q(begun_at=None) | Q(begun_at__lte=sent_at) | Q(begun_at__gt=lease_end(2 * LEASE_SECONDS))
    if not lease.take(in_time, holder=holder, begun_at=Now()):
        yield False
        return
    with lease.kept():
        try:
            yield True
        finally:
            lease.give_back()


def note_sending(task: str) -> datetime | None:
    """None when a message waits already."""
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

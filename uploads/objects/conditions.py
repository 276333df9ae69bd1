"""Storages that do not answer are remembered, by all processes, and left alone for a while that grows.

What is noted here never fails what it is noted about: where the database cannot take it, it is logged.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.db import Error, transaction
from django.db.models import Case, F, Value, When
from django.db.models.functions import Coalesce

from audiotricks.clock import Now
from objectstore.errors import StorageError, TransientStorageError
from uploads.models import StorageCondition

#: The first pause; each further failure doubles it.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
#: A request that lasts so long and fails is one that was swallowed; each of them costs a sweep a time-out.
LONG_SECONDS = 5.0
#: So many failures in a row that come quickly, and it is not one object's fault.
QUICK_FAILURES = 3
#: A failed write that nobody has tried to repeat for so long says nothing about the present.
WRITE_FAILURE_KEPT = timedelta(minutes=5)

log = structlog.get_logger(__name__)


@contextmanager
def asking(alias: str) -> Iterator[None]:
    """Note whether the storage answers in this block; a refusal is an answer. Errors come out unchanged."""
    began = time.monotonic()
    try:
        yield
    except TransientStorageError as error:
        note_failure(alias, error, seconds=time.monotonic() - began)
        raise
    except StorageError:
        note_answer(alias)
        raise
    note_answer(alias)


def storages_left_alone() -> set[str]:
    """The aliases of storages that failed lately; nobody need ask them now."""
    # A pause that is longer than any that we give was written before the clock was set back.
    now, latest = Now(), Now() + 2 * LONGEST_PAUSE
    rows = StorageCondition.objects.filter(left_alone_until__gt=now, left_alone_until__lt=latest)
    return set(rows.values_list("storage", flat=True))


def note_failure(alias: str, error: Exception, *, seconds: float) -> None:
    """Leave the storage alone when it kept us waiting for so many seconds, or fails the third time in a row.

    A minute after the first failure, twice as long after each further one, an hour at most.
    """
    with noting(alias):
        row = StorageCondition.objects.select_for_update().get_or_create(storage=alias)[0]
        if alias in storages_left_alone():
            # Somebody else who asked at the same time has noted it.
            return
        pause = min(FIRST_PAUSE * 2 ** min(row.failures, 10), LONGEST_PAUSE)
        leave_alone = seconds >= LONG_SECONDS or row.failures + 1 >= QUICK_FAILURES
        StorageCondition.objects.filter(storage=alias).update(
            failures=F("failures") + 1,
            failing_since=Coalesce(F("failing_since"), Now()),
            left_alone_until=Now() + pause if leave_alone else None,
            error=str(error)[:500],
        )
        if leave_alone:
            log.error("storage_left_alone", storage=alias, seconds=pause.total_seconds(), error=str(error))


def note_answer(alias: str) -> None:
    failing = StorageCondition.objects.filter(storage=alias, failures__gt=0)
    # Looked at first, since SQLite has one writer at a time.
    if not failing.exists():
        return
    with noting(alias):
        failing.update(failures=0, failing_since=None, left_alone_until=None, error="")
        log.info("storage_answers_again", storage=alias)


def note_failed_write(alias: str, error: Exception) -> None:
    """An upload could not be stored, for a reason that is the storage's."""
    with noting(alias):
        StorageCondition.objects.get_or_create(storage=alias)
        StorageCondition.objects.filter(storage=alias).update(
            failed_writes=Case(
                When(write_failed_at__gt=Now() - WRITE_FAILURE_KEPT, then=F("failed_writes") + 1), default=Value(1)
            ),
            write_failed_at=Now(),
            write_error=str(error)[:500],
        )


def note_written(alias: str) -> None:
    failing = StorageCondition.objects.filter(storage=alias, failed_writes__gt=0)
    if not failing.exists():
        return
    with noting(alias):
        failing.update(failed_writes=0, write_failed_at=None, write_error="")


def failing_writes(alias: str) -> StorageCondition | None:
    """What is noted of uploads that could not be stored just now; None when the last one worked, or it is long ago."""
    rows = StorageCondition.objects.filter(storage=alias, failed_writes__gt=0)
    return rows.filter(write_failed_at__gt=Now() - WRITE_FAILURE_KEPT).first()


@contextmanager
def noting(alias: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except Error as error:
        log.warning("condition_not_noted", storage=alias, error=str(error))

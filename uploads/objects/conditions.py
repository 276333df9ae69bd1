"""Records failing storages for all processes, which leave them alone for growing pauses. A failure to
record is logged.
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

#: Doubles with each further failure.
FIRST_PAUSE = timedelta(minutes=1)
LONGEST_PAUSE = timedelta(hours=1)
#: A failed request of this length was a time-out, which each sweep would wait for again.
LONG_SECONDS = 5.0
#: This many quick failures in a row are not one object's fault.
QUICK_FAILURES = 3
#: An older failed write, not repeated since, says nothing about the present.
WRITE_FAILURE_KEPT = timedelta(minutes=5)

log = structlog.get_logger(__name__)


@contextmanager
def asking(alias: str) -> Iterator[None]:
    """Record whether the storage responds; a refusal is a response."""
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
    # A longer pause than possible was written before the clock was set back.
    now, latest = Now(), Now() + 2 * LONGEST_PAUSE
    rows = StorageCondition.objects.filter(left_alone_until__gt=now, left_alone_until__lt=latest)
    return set(rows.values_list("storage", flat=True))


def note_failure(alias: str, error: Exception, *, seconds: float) -> None:
    """After LONG_SECONDS, or the third time in a row, leave the storage alone: a minute, doubled up to an hour."""
    with noting(alias):
        row = StorageCondition.objects.select_for_update().get_or_create(storage=alias)[0]
        if alias in storages_left_alone():
            # Another process recorded it in parallel.
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
    # Read first, since SQLite has one writer at a time.
    if not failing.exists():
        return
    with noting(alias):
        failing.update(failures=0, failing_since=None, left_alone_until=None, error="")
        log.info("storage_answers_again", storage=alias)


def note_failed_write(alias: str, error: Exception) -> None:
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
    """None when the last write worked, or failures are old."""
    rows = StorageCondition.objects.filter(storage=alias, failed_writes__gt=0)
    return rows.filter(write_failed_at__gt=Now() - WRITE_FAILURE_KEPT).first()


@contextmanager
def noting(alias: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except Error as error:
        log.warning("condition_not_noted", storage=alias, error=str(error))

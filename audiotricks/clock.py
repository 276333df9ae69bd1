"""Clocks. Sweeps compare with the earliest of several, so that a clock that is ahead removes nothing."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import functions

# The clock that includes the machine's sleep, where there is one.
ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Now(functions.Now):
    """Now by the database's clock, on SQLite in the text form of Django's Python times. SQLite compares times as text,
    and Django's own Now() has another precision, which would break cursors.
    """

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        moment = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')"
        template = f"REPLACE({moment} || '000', '.000000', '')"
        return self.as_sql(compiler, connection, template=template, **extra_context)


def wall_clock() -> datetime:
    return datetime.now(UTC)


def elapsed_clock() -> float:
    """Monotonic seconds."""
    return time.clock_gettime(ELAPSED_CLOCK)


STARTED_AT = wall_clock()
STARTED_AT_ELAPSED = elapsed_clock()


def earliest_now() -> datetime:
    """The earliest, in UTC, of this process's clock, the database server's clock, and the clock at the start of this
    process plus the elapsed time.

    A clock that jumps ahead is outvoted. A process that started with a slow clock stays slow until it restarts, so
    sweeps are late, never early.
    """
    candidates = [wall_clock(), STARTED_AT + timedelta(seconds=elapsed_clock() - STARTED_AT_ELAPSED)]
    if connection.vendor == "postgresql":
        candidates.append(database_clock())
    return min(candidates)


def database_now() -> datetime:
    """Now by the database's clock; with SQLite, of this process."""
    return database_clock() if connection.vendor == "postgresql" else wall_clock()


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)

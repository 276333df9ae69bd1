"""Sweeps compare with the earliest of several clocks, so that one that is ahead removes nothing."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import functions

# The clock that includes the machine's sleep, where there is one.
ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Now(functions.Now):
    """On SQLite, in the text form of Django's Python times: it compares text, and Django's own Now() has another
    precision.
    """

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        moment = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')"
        template = f"REPLACE({moment} || '000', '.000000', '')"
        return self.as_sql(compiler, connection, template=template, **extra_context)


def wall_clock() -> datetime:
    return datetime.now(UTC)


def elapsed_clock() -> float:
    return time.clock_gettime(ELAPSED_CLOCK)


STARTED_AT = wall_clock()
STARTED_AT_ELAPSED = elapsed_clock()


def earliest_now() -> datetime:
    """The earliest, in UTC, of this process's clock, the database server's, and the clock at the start plus the elapsed
    time.

    A clock that jumps ahead is outvoted. A slow start makes sweeps late until a restart.
    """
    candidates = [wall_clock(), STARTED_AT + timedelta(seconds=elapsed_clock() - STARTED_AT_ELAPSED)]
    if connection.vendor == "postgresql":
        candidates.append(database_clock())
    return min(candidates)


def database_now() -> datetime:
    """On SQLite, the clock of this process."""
    return database_clock() if connection.vendor == "postgresql" else wall_clock()


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)

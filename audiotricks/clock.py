"""The time that sweeps compare against: the earliest of the clocks at hand, so that one ahead removes nothing."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import functions

# The clock that goes on while the machine sleeps, where there is one.
ELAPSED_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Now(functions.Now):
    """Now by the database's clock, written on SQLite as Django writes a Python time.

    SQLite compares times as text. Django's own Now() leaves milliseconds there, a Python time has microseconds or no
    fraction at all: the same moment in two forms would be two moments for a cursor that asks what lies behind it.
    """

    def as_sqlite(self, compiler: Any, connection: Any, **extra_context: Any) -> Any:
        moment = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW')"
        template = f"REPLACE({moment} || '000', '.000000', '')"
        return self.as_sql(compiler, connection, template=template, **extra_context)


def wall_clock() -> datetime:
    return datetime.now(UTC)


def elapsed_clock() -> float:
    """Seconds since some moment before this process; setting the wall clock does not move it."""
    return time.clock_gettime(ELAPSED_CLOCK)


STARTED_AT = wall_clock()
STARTED_AT_ELAPSED = elapsed_clock()


def earliest_now() -> datetime:
    """The earliest of three clocks, in UTC.

    They are this process's wall clock, the database server's, and the wall clock at the start of this process with the
    time that has passed since. A clock that jumps ahead, here or on the server, is outvoted by the others. The price:
    a process that started while its clock was behind stays behind until it is started again, so sweeps are late, never
    early.
    """
    candidates = [wall_clock(), STARTED_AT + timedelta(seconds=elapsed_clock() - STARTED_AT_ELAPSED)]
    if connection.vendor == "postgresql":
        candidates.append(database_clock())
    return min(candidates)


def database_now() -> datetime:
    """Now by the database's clock, for what is decided for good; SQLite has no other clock than this process."""
    return database_clock() if connection.vendor == "postgresql" else wall_clock()


def database_clock() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return now.astimezone(UTC)

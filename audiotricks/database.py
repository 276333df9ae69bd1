import time

from django.db import connection

#: SQLite's waiting writers look again after at most a tenth of a second; a few of these pauses let each of them in.
PAUSE_SECONDS = 0.03


def release_connection() -> None:
    """Give this thread's connection back to the pool, before a wait that may take hours.

    Inside a transaction it does nothing.
    """
    if not connection.in_atomic_block:
        connection.close()


def let_others_write() -> None:
    """For work that is one transaction after another: a pause between two of them, on SQLite.

    SQLite has one writer at a time and no queue: who asks again at once after a commit is always first, and the others
    wait until their time is over. Inside a transaction, and on PostgreSQL, it does nothing.
    """
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        time.sleep(PAUSE_SECONDS)

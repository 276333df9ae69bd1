from django.db import connection


def release_connection() -> None:
    """Give this thread's connection back to the pool, before a wait that may take hours.

    Inside a transaction it does nothing.
    """
    if not connection.in_atomic_block:
        connection.close()

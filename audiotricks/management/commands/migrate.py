from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from django.core.management.commands import migrate
from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from audiotricks.files import locked

#: An arbitrary number for our migrations among PostgreSQL's advisory locks.
ADVISORY_LOCK = 7_231_946_012


class Command(migrate.Command):
    """A second one waits for the first."""

    def handle(self, *args: Any, **options: Any) -> None:
        with alone(connections[options["database"]]):
            super().handle(*args, **options)


@contextmanager
def alone(connection: BaseDatabaseWrapper) -> Iterator[None]:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        try:
            yield
        finally:
            # A broken connection has released the lock already.
            with suppress(Error), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
    elif connection.is_in_memory_db():  # type: ignore[attr-defined]
        yield
    else:
        path = Path(connection.settings_dict["NAME"])
        with locked(path.with_name(f"{path.name}.migrating")):
            yield

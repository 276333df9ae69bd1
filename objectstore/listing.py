"""A listing for lookups by name, in place of a request for each."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from threading import Lock

from audiotricks.temporary import temporary_file
from objectstore.base import ObjectStat


class Listing:
    """Sizes at the time of the listing. Safe for threads."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._lock = Lock()

    def size_of(self, name: str) -> int | None:
        with self._lock:
            found = self._database.execute("SELECT size FROM objects WHERE name = ?", (name,)).fetchone()
        return found and int(found[0])


@contextmanager
def listed(objects: Iterable[ObjectStat]) -> Iterator[Listing]:
    """In a temporary file of about 150 bytes for each object."""
    with (
        temporary_file("listing") as file,
        closing(sqlite3.connect(file.name, isolation_level=None, check_same_thread=False)) as database,
    ):
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE objects (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID")
        database.execute("BEGIN")
        database.executemany(
            "INSERT OR REPLACE INTO objects VALUES (?, ?)", ((stat.name, stat.size) for stat in objects)
        )
        database.execute("COMMIT")
        yield Listing(database)

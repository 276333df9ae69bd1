"""The indexes of ``audio_uploads``: one insert and one whole life with all of them, to the keys' alone.

The table has 1,000,000 files (``--rows`` for another number), on PostgreSQL and on SQLite. Each statement is a
transaction. Counted are CPU seconds of the process that the database runs in, and bytes of its write-ahead log; both
databases lie on one server, and take turns. PostgreSQL writes no whole pages to its log here.
"""

import argparse
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from benchmarks import rows
from benchmarks.figures import Figure, median_ratio, report
from benchmarks.web import temporary_directory
from tests.running.programs import environment, ran
from tests.servers import running_postgres

ROUNDS = 5
FILES = 1000
AT_MOST = {"PostgreSQL": 6.0, "SQLite": 9.0}

INSERT, LIFE, LEASE = "one insert", "one life, from receiving to completed", "one renewal of a lease"

#: The states of a life after ``receiving``, and the columns that each writes, as ``uploads.lifecycle.trash`` does.
STEPS = {
    "uploaded": ("uploaded_at", "reservation_id", "checksum_sha256", "checksum_md5", "storage_url"),
    "validating": ("claimable_at", "validation_started_at", "retry_count", "error_code", "error_message"),
    "processing": ("validation_completed_at", "processing_started_at", "checksum_sha256", "checksum_md5"),
    "completed": ("processing_completed_at",),
}

PREPARE = """
from quotas.models import Workspace
from tests.factories import give_object
from uploads.models import AudioUpload, Status
workspace = Workspace.objects.first() or Workspace.objects.create(name="Many", slug="many")
model = AudioUpload(
    workspace=workspace, original_filename="model.mp3", file_size=1, original_size=1, file_type="mp3", codec="mp3",
    mime_type="audio/mpeg", storage_provider="local", storage_path="audio/model", status=Status.COMPLETED,
    uploaded_at="2026-01-01T00:00:00Z", metadata={"tags": {"title": "A song that has a name", "artist": "Somebody"}},
)
give_object(model)
model.save()
"""
FILL_SQLITE = """
    WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {count})
    INSERT INTO audio_uploads ({columns}) SELECT {values} FROM audio_uploads model, numbers
"""
INDEXES_OF_SQLITE = (
    "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'audio_uploads' AND type = 'index' AND sql > ''"
)


class Postgres:
    mark = "%s"

    def __init__(self, url: str, database: str) -> None:
        self.connection = psycopg.connect(url.replace("/postgres?", f"/{database}?"), autocommit=True)
        self.process = psutil.Process(self.connection.info.backend_pid)

    def execute(self, statement: str, values: list[Any]) -> None:
        self.connection.execute(statement, values, prepare=True)

    def row(self, statement: str) -> dict[str, Any]:
        cursor = self.connection.cursor(row_factory=dict_row)
        return cursor.execute(statement).fetchone() or {}

    def spent(self) -> tuple[float, float]:
        log = self.row("SELECT pg_current_wal_insert_lsn() - '0/0' AS bytes")
        times = self.process.cpu_times()
        return times.user + times.system, float(log["bytes"])

    def written(self, value: Any) -> Any:
        return Jsonb(value) if isinstance(value, dict) else value

    def hot_updates(self) -> int:
        """How many updates have left the indexes alone."""
        self.row("SELECT pg_stat_force_next_flush()")
        found = self.row("SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'audio_uploads'")
        return int(found["n_tup_hot_upd"])


class SQLite:
    mark = "?"

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        # As in the settings, but for a log that only grows.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=0"):
            self.connection.execute(f"PRAGMA {pragma}").fetchone()
        self.log = Path(f"{path}-wal")

    def execute(self, statement: str, values: list[Any]) -> None:
        self.connection.execute(statement, values)

    def row(self, statement: str) -> dict[str, Any]:
        return dict(self.connection.execute(statement).fetchone())

    def spent(self) -> tuple[float, float]:
        return time.process_time(), float(self.log.stat().st_size)

    def hot_updates(self) -> int:
        return 0

    def written(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return str(value.replace(tzinfo=None))
        return value.hex if isinstance(value, uuid.UUID) else value


Side = Postgres | SQLite
#: CPU seconds and bytes of the log of each round, by what was done.
Spent = dict[str, list[tuple[float, float]]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    count = parser.parse_args().rows
    return report([*on_postgres(count), *on_sqlite(count)])


def on_postgres(count: int) -> list[Figure]:
    with running_postgres() as url, tempfile.TemporaryDirectory() as var:
        rows.prepare(url, var)
        rows.make_database("indexed", count)
        rows.use_database("postgres")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
            connection.execute("CREATE DATABASE bare TEMPLATE indexed")
        indexed, bare = Postgres(url, "indexed"), Postgres(url, "bare")
        for name in bare.connection.execute(rows.INDEXES, ["audio_uploads"]).fetchall():
            bare.connection.execute(f"DROP INDEX {name[0]}")
        figures = compared("PostgreSQL", indexed, bare, count=count)
        indexed.connection.close()
        bare.connection.close()
    return figures


def on_sqlite(count: int) -> list[Figure]:
    with temporary_directory() as directory:
        indexed, bare = directory / "indexed.sqlite3", directory / "bare.sqlite3"
        env = environment(VAR_DIR=str(directory / "var"), DATABASE_URL=f"sqlite:///{indexed}")
        for command in (["migrate"], ["shell", "-c", PREPARE]):
            run = ran([sys.executable, "manage.py", *command, "--verbosity", "0"], env)
            if run.returncode:
                raise RuntimeError(run.stderr)
        connection = sqlite3.connect(indexed, isolation_level=None)
        indexes = connection.execute(INDEXES_OF_SQLITE).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        fill_sqlite(connection, count)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(indexed, bare)
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("ANALYZE")
        connection.close()
        return compared("SQLite", SQLite(indexed), SQLite(bare), count=count)


def fill_sqlite(connection: sqlite3.Connection, count: int) -> None:
    columns = [row[1] for row in connection.execute("PRAGMA table_info(audio_uploads)")]
    age = "strftime('%Y-%m-%d %H:%M:%f000', 1700000000 + number, 'unixepoch')"
    own = {
        "id": "lower(hex(randomblob(16)))",
        "original_filename": "'recording ' || number || '.mp3'",
        "folded_filename": "'recording ' || number || '.mp3'",
        "storage_path": "'audio/' || lower(hex(randomblob(16))) || '/audio.mp3'",
        "checksum_sha256": "lower(hex(randomblob(32)))",
        "checksum_md5": "lower(hex(randomblob(16)))",
        "status": "CASE WHEN number % 5 = 0 THEN 'failed' ELSE 'completed' END",
        **dict.fromkeys(("created_at", "uploaded_at", "claimable_at"), age),
    }
    values = ", ".join(own.get(column, f"model.{column}") for column in columns)
    connection.execute(FILL_SQLITE.format(count=count, columns=", ".join(columns), values=values))


def compared(words: str, indexed: Side, bare: Side, *, count: int) -> list[Figure]:
    lives = {"indexed": Lives(indexed), "bare": Lives(bare)}
    # The first round fills the caches.
    for side in lives.values():
        side.run({INSERT: [], LIFE: [], LEASE: []})
    spent: dict[str, Spent] = {name: {INSERT: [], LIFE: [], LEASE: []} for name in lives}
    for _ in range(ROUNDS):
        for name, side in lives.items():
            side.run(spent[name])
    figures = []
    for what in (INSERT, LIFE, LEASE):
        cpu, log = zip(*spent["indexed"][what], strict=True)
        bare_cpu, bare_log = zip(*spent["bare"][what], strict=True)
        heading = f"{words}, {count:,} files, all indexes to the keys' alone: {what}"
        microseconds, kilobytes = 1e6 * statistics.median(cpu) / FILES, statistics.median(log) / FILES / 1000
        most = AT_MOST[words] if what == LIFE else None
        figures += [
            Figure(f"{heading}, CPU", f"{microseconds:.0f} µs", median_ratio(cpu, bare_cpu), at_most=most),
            Figure(f"{heading}, log", f"{kilobytes:.1f} kB", median_ratio(log, bare_log), at_most=most),
        ]
    if isinstance(indexed, Postgres):
        share = lives["indexed"].hot_renewals / lives["indexed"].renewals
        figures.append(Figure("renewals of a lease that leave the indexes alone", f"{share:.0%}", share, at_least=0.9))
    return figures


class Lives:
    """Files that arrive and are processed, ``FILES`` at a time."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.renewals = self.hot_renewals = 0
        self.model = side.row("SELECT * FROM audio_uploads WHERE status = 'completed' LIMIT 1")
        marks = ", ".join([side.mark] * len(self.model))
        self.insert = f"INSERT INTO audio_uploads ({', '.join(self.model)}) VALUES ({marks})"

    def run(self, spent: Spent) -> None:
        files = [self.new_file() for _ in range(FILES)]
        life = [self.cost(self.insert, [list(file) for file in map(dict.values, files)])]
        spent[INSERT] += life
        before = "receiving"
        for state, columns in STEPS.items():
            values = [{"status": state, **self.found(columns)} for _ in files]
            life.append(self.cost(*self.update(files, values, status=before)))
            before = state
            if state == "validating":
                self.renew(files, spent)
        spent[LIFE].append((sum(cpu for cpu, _ in life), sum(log for _, log in life)))

    def new_file(self) -> dict[str, Any]:
        key = uuid.uuid4()
        name = f"recording {key.int % 1_000_000}.mp3"
        own: dict[str, Any] = {
            "id": key,
            "status": "receiving",
            "original_filename": name,
            "folded_filename": name,
            "storage_path": f"audio/{key}/audio.mp3",
            "uploaded_at": None,
            "checksum_sha256": "",
            "checksum_md5": "",
            **dict.fromkeys(("created_at", "claimable_at"), datetime.now(UTC)),
        }
        return {name: self.side.written(value) for name, value in {**self.model, **own}.items()}

    def found(self, columns: tuple[str, ...]) -> dict[str, Any]:
        """What a step writes."""
        others = {"checksum_sha256": uuid.uuid4().hex * 2, "checksum_md5": uuid.uuid4().hex}
        others |= {"retry_count": 0, "reservation_id": None, "error_code": "", "error_message": ""}
        now = self.side.written(datetime.now(UTC))
        return {name: others.get(name, now if name.endswith("_at") else "local:///audio") for name in columns}

    def update(
        self, files: list[dict[str, Any]], values: list[dict[str, Any]], **guard: str
    ) -> tuple[str, list[list[Any]]]:
        mark = self.side.mark
        assignments = ", ".join(f"{name} = {mark}" for name in values[0])
        guards = " AND ".join(f"{name} = {mark}" for name in ("id", *guard))
        statement = f"UPDATE audio_uploads SET {assignments} WHERE {guards}"
        pairs = zip(files, values, strict=True)
        return statement, [[*new.values(), file["id"], *guard.values()] for file, new in pairs]

    def renew(self, files: list[dict[str, Any]], spent: Spent) -> None:
        later = self.side.written(datetime.now(UTC) + timedelta(minutes=1))
        hot = self.side.hot_updates()
        spent[LEASE].append(self.cost(*self.update(files, [{"claimable_at": later}] * len(files))))
        self.hot_renewals += self.side.hot_updates() - hot
        self.renewals += len(files)

    def cost(self, statement: str, values: list[list[Any]]) -> tuple[float, float]:
        cpu, log = self.side.spent()
        for row in values:
            self.side.execute(statement, row)
        cpu_after, log_after = self.side.spent()
        return cpu_after - cpu, log_after - log


if __name__ == "__main__":
    sys.exit(main())

"""Migrated databases, made once in a run of the tests: migrating an empty one takes four seconds."""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.running.programs import environment, ran

#: Shared by all processes of the run (``tests.environment``).
SHARED = Path(os.environ["VAR_DIR"])
TEMPLATE = "migrated"


@contextmanager
def alone(name: str) -> Iterator[None]:
    """One process of the run at a time."""
    with (SHARED / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def migrated_sqlite(folder: Path) -> str:
    """Puts a migrated database into a new VAR_DIR; returns the folder, for an environment."""
    original = SHARED / "migrated.sqlite3"
    with alone("sqlite"):
        if not original.exists():
            making = SHARED / "migrating"
            migrated = ran([sys.executable, "manage.py", "migrate"], environment(VAR_DIR=str(making)))
            assert migrated.returncode == 0, migrated.stderr
            # Whole in its file: the last connection took the log in.
            shutil.copyfile(making / "audiotricks.sqlite3", original)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(original, folder / "audiotricks.sqlite3")
    return str(folder)


def ran_on_sqlite(program: str, folder: Path) -> None:
    """Run Python code against an empty SQLite database; it must print ``done``."""
    env = environment(VAR_DIR=migrated_sqlite(folder / "var"), DJANGO_SETTINGS_MODULE="audiotricks.settings")
    result = ran([sys.executable, "-c", program], env)
    assert result.stdout.strip() == "done", result.stderr


def postgres_template_exists() -> bool:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        return connection.execute("SELECT FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone() is not None


def make_postgres_template(database: str) -> None:
    """From a migrated database to which nobody is connected."""
    new_postgres_database(TEMPLATE, template=database)


def new_postgres_database(name: str, *, template: str = "template1") -> str:
    """Makes a database on the server of the tests; returns its address."""
    server = os.environ["DATABASE_URL"]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return urlsplit(server)._replace(path=f"/{name}").geturl()

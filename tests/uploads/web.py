"""The real web server on the tests' own database, and clients that speak to it by the byte."""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.db import connection

from tests.running.programs import Program, environment, started
from tests.servers import accepts_connections, free_port, wait_until
from tests.uploads.sending import UPLOADS


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class WebServer:
    def __init__(self, program: Program, root: Path, log: Path) -> None:
        self.program = program
        self.root = root
        self.log = log
        self.port = int(program.env["PORT"])
        self.url = f"http://127.0.0.1:{self.port}"

    def worker(self) -> psutil.Process:
        (worker,) = psutil.Process(self.program.process.pid).children()
        return worker

    def connect(self) -> "Connection":
        return Connection(self.port)


class Connection:
    """A socket that sends just what it is told to, and reads one answer after the other."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.received = b""

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(
        self,
        token: str,
        length: object,
        *headers: str,
        method: str = "POST",
        path: str = UPLOADS,
        filename: str = "one.mp3",
    ) -> None:
        """The beginning of an upload; a ``length`` of None leaves it out."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}"]
        if not any(header.lower().startswith("content-type") for header in headers):
            lines += [
                "Content-Type: application/octet-stream",
                f'Content-Disposition: attachment; filename="{filename}"',
            ]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        self.send("\r\n".join([*lines, *headers, "", ""]).encode())

    def answer(self) -> Answer:
        """The next one. Raises ConnectionError when the server closes instead."""
        first, *lines = self._until(b"\r\n\r\n").decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size + 2)[:-2]
            self._until(b"\r\n")
        else:
            body = self._exactly(int(headers.get("content-length", 0)))
        return Answer(int(first.split()[1]), headers, body)

    def is_closed(self) -> bool:
        """Whether the server has nothing more to say; waits until it says so."""
        return self.received == b"" and self.socket.recv(1) == b""

    def _until(self, end: bytes) -> bytes:
        while end not in self.received:
            self._receive()
        found, self.received = self.received.split(end, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self.received) < size:
            self._receive()
        found, self.received = self.received[:size], self.received[size:]
        return found

    def _receive(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError(f"closed after {self.received!r}")
        self.received += piece


@contextmanager
def running_web_server(directory: Path, **settings: str) -> Iterator[WebServer]:
    """gunicorn, as production starts it, with one worker; files go under ``directory/audio``."""
    parts = urlsplit(os.environ["DATABASE_URL"])
    url = parts._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    port = free_port()
    env = environment(
        **{
            "VAR_DIR": str(directory / "var"),
            "AUDIO_STORAGE_PATH": str(directory / "audio"),
            "DATABASE_URL": url,
            "PORT": str(port),
            "LOG_FORMAT": "json",
            "SECRET_KEY": os.environ["SECRET_KEY"],
            "THROTTLE_USER": "100000/min",
            "THROTTLE_ANONYMOUS": "100000/min",
            "DISK_WARNING_BYTES": "1",
            **settings,
        }
    )
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
    log = directory / "log"
    with started(command, env, log) as program:
        wait_until(lambda: accepts_connections(port) and program.wait_for("Booting worker"), what="gunicorn")
        yield WebServer(program, directory / "audio", log)

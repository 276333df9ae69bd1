"""Runs each look into a file in its own process, and returns a result or raises a typed error.

It is forked from a server (``python -m media``), which starts at first need, inherits no environment and no descriptor
but its socket, ends with this process, serves one thread at a time, and is replaced after a crash or time-out.
"""

import atexit
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from media.errors import MediaCrashed, MediaError, MediaMemoryLimit, MediaTimeLimit

log = structlog.get_logger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
COMMAND = (sys.executable, "-E", "-B", "-m", "media")
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
# Loading the decoders takes long on a busy machine or from a cold disk.
START_SECONDS = 60.0
STOP_SECONDS = 5.0
# Two lines of JSON with bounded tags, and a picture of at most 1024 x 1024 pixels.
ANSWER_BYTES = 8 * 1024**2
ERROR_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
REASON_LENGTH = 500
OUT_OF_TIME = frozenset((signal.SIGXCPU, signal.SIGALRM))
# Messages of loader and interpreter when memory runs out outside our code.
OUT_OF_MEMORY = (b"MemoryError", b"cannot allocate memory", b"Cannot allocate memory", b"failed to map segment")


class ServerLost(Exception): ...


@dataclass(slots=True)
class Answer:
    """``status`` is None where the look was given up after ``seconds``."""

    seconds: float
    status: int | None = None
    data: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)

    def take(self, *, is_last: bool) -> dict[str, Any]:
        """The result in the next line; the rest after the last one is the picture.

        Raises the MediaError in the line; without a whole line MediaTimeLimit, MediaMemoryLimit or MediaCrashed.
        """
        line, newline, rest = self.data.partition(b"\n")
        if self.status != 0 and (is_last or not newline):
            raise self.ending()
        try:
            document = json.loads(line)
        except ValueError:
            raise self.ending() from None
        self.data = rest
        if "error" in document:
            raise media_error(document["error"]["code"], document["error"]["reason"])
        return dict(document["result"])

    def ending(self) -> MediaError:
        status = self.status
        if status is None or -status in OUT_OF_TIME:
            seconds = f"{self.seconds:g}"
            detail = format_lazy(_("Decoding the file took longer than {seconds} seconds."), seconds=seconds)
            return MediaTimeLimit(detail, seconds=self.seconds)
        if status and any(words in self.errors for words in OUT_OF_MEMORY):
            return MediaMemoryLimit(_("The file takes more memory than decoding may use."))
        if status < 0:
            name = signal.Signals(-status).name
            return MediaCrashed(format_lazy(_("The file made its decoder crash ({signal})."), signal=name))
        return MediaCrashed(
            format_lazy(_("The process that decodes the file ended with status {status} and no answer."), status=status)
        )


def media_error(code: str, reason: str) -> MediaError:
    """Without unprintable characters, since decoders quote the file."""
    printable = "".join(char if char.isprintable() else " " for char in reason)[:REASON_LENGTH]
    kinds = {kind.code: kind for kind in MediaError.__subclasses__()}
    return kinds.get(code, MediaError)(printable)


class Server:
    """Forks itself for each look. Raises OSError if it does not start."""

    def __init__(self, command: Sequence[str], start_seconds: float) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(  # noqa: S603 - a fixed command
                command,
                cwd=PROJECT,
                env=ENVIRONMENT,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
                start_new_session=True,
            )
        said: list[str] = []
        try:
            deadline = time.monotonic() + start_seconds
            while "ready" not in said:
                said += self._line(deadline).splitlines()
        except (TimeoutError, ServerLost):
            self.stop()
            raise OSError(f"The sandbox did not start: {' '.join(said)[-REASON_LENGTH:]}") from None

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def look(self, order: Mapping[str, Any], answer_bytes: int) -> Answer:
        """Raises ServerLost, and MediaCrashed for too long an answer."""
        deadline = time.monotonic() + order["seconds"]
        found = Answer(order["seconds"])
        answer, their_answer = os.pipe()
        errors, their_errors = os.pipe()
        try:
            try:
                socket.send_fds(self.control, [json.dumps(order).encode()], [their_answer, their_errors])
            except OSError as error:
                raise ServerLost from error
            finally:
                os.close(their_answer)
                os.close(their_errors)
            with suppress(TimeoutError):
                read_output({answer: found.data, errors: found.errors}, deadline, answer_bytes)
                found.status = int(self._line(deadline))
        finally:
            os.close(answer)
            os.close(errors)
        return found

    def _line(self, deadline: float) -> str:
        """Raises TimeoutError at the deadline (monotonic), ServerLost at its end."""
        line = b""
        while not line.endswith(b"\n"):
            self.control.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.control.recv(READ_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                raise ServerLost
            line += data
        return line.decode(errors="replace").strip()

    def stop(self) -> None:
        """Wait for the server and its look."""
        self.control.close()
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def leave(self) -> None:
        """After a fork, close the parent's server."""
        self.control.close()
        # Not a child of this process: Popen must neither wait for it nor warn.
        self.process.returncode = 0


def read_output(pipes: Mapping[int, bytearray], deadline: float, most_bytes: int) -> None:
    """All of the answer, and the beginning of standard error. Raises ``TimeoutError`` at the ``deadline`` (monotonic),
    :class:`MediaCrashed` for too much output.
    """
    answer, errors = pipes.values()
    with selectors.DefaultSelector() as selector:
        for pipe, buffer in pipes.items():
            selector.register(pipe, selectors.EVENT_READ, buffer)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _events in selector.select(left):
                data = os.read(key.fd, READ_BYTES)
                if not data:
                    selector.unregister(key.fd)
                key.data.extend(data)
            del errors[ERROR_BYTES:]
            if len(answer) > most_bytes:
                raise MediaCrashed(_("The process that decodes the file gave more output than it may."))


class Sandbox:
    """A server for each thread in parallel. Safe for threads and forks."""

    def __init__(self, command: Sequence[str] = COMMAND, *, start_seconds: float = START_SECONDS) -> None:
        self.command = command
        self.start_seconds = start_seconds
        self._begin()
        os.register_at_fork(after_in_child=self._leave)
        atexit.register(self.stop)

    def _begin(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[Server] = []
        self.busy: set[Server] = set()

    def _leave(self) -> None:
        for server in (*self.idle, *self.busy):
            server.leave()
        self._begin()

    def stop(self) -> None:
        """Only idle servers."""
        with self.lock:
            idle, self.idle = self.idle, []
        for server in idle:
            server.stop()

    def run(
        self,
        operation: str,
        path: Path | str,
        *,
        demuxer: str = "",
        memory_bytes: int | None = None,
        seconds: int | None = None,
        answer_bytes: int = ANSWER_BYTES,
    ) -> Answer:
        """Run ``examine`` or ``image`` within ``MEDIA_MEMORY_BYTES`` and ``MEDIA_TIME_LIMIT_SECONDS``. Raises the
        MediaErrors, and OSError for a missing path or server.
        """
        order = {
            "operation": operation,
            "path": str(Path(path).resolve(strict=True)),
            "demuxer": demuxer,
            "memory_bytes": settings.MEDIA_MEMORY_BYTES if memory_bytes is None else memory_bytes,
            "seconds": settings.MEDIA_TIME_LIMIT_SECONDS if seconds is None else seconds,
        }
        try:
            answer = self._look(order, answer_bytes)
        except ServerLost:
            answer = self._look_again(order, answer_bytes)
        if answer.errors:
            words = answer.errors.decode(errors="replace")
            log.info("media_process_errors", operation=operation, status=answer.status, stderr=words)
        return answer

    def _look_again(self, order: Mapping[str, Any], answer_bytes: int) -> Answer:
        """A file is blamed only after it ended two servers."""
        try:
            return self._look(order, answer_bytes)
        except ServerLost as error:
            raise MediaCrashed(_("The file made the process that decodes it end twice.")) from error

    def _look(self, order: Mapping[str, Any], answer_bytes: int) -> Answer:
        server = self._take()
        is_whole = False
        try:
            answer = server.look(order, answer_bytes)
            is_whole = answer.status == 0
            return answer
        finally:
            with self.lock:
                self.busy.discard(server)
                if is_whole:
                    self.idle.append(server)
            if not is_whole:
                server.stop()

    def _take(self) -> Server:
        with self.lock:
            server = self.idle.pop() if self.idle else None
        if server is not None and not server.is_running:
            server.stop()
            server = None
        server = server or Server(self.command, self.start_seconds)
        with self.lock:
            self.busy.add(server)
        return server


sandbox = Sandbox()

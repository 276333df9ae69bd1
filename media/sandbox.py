"""Start the process in which a file is decoded, and turn whatever becomes of it into a result or a typed error.

Safe to call from threads and from forked workers: no code of ours runs between fork and exec, the limits are set by
the child itself. It gets no environment, no standard input and no open file, and leads a session of its own, which is
killed as a whole when its time is up or the caller is interrupted.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from media.errors import MediaCrashed, MediaError, MediaMemoryLimit, MediaTimeLimit

log = structlog.get_logger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": os.defpath}
# One line of JSON, whose tags are bounded; behind it a picture of 1024 x 1024 pixels at most.
ANSWER_BYTES = {"decode": 64 * 1024, "facts": 256 * 1024, "artwork": 8 * 1024**2, "image": 8 * 1024**2}
ERROR_BYTES = 16 * 1024
READ_BYTES = 64 * 1024
REASON_LENGTH = 500
OUT_OF_TIME = frozenset((signal.SIGXCPU, signal.SIGALRM))
# How the loader and the interpreter put it when they are out of memory before any of our code runs.
OUT_OF_MEMORY = (b"MemoryError", b"cannot allocate memory", b"Cannot allocate memory", b"failed to map segment")


def run(
    operation: str,
    path: Path | str,
    *,
    demuxer: str = "",
    memory_bytes: int | None = None,
    seconds: int | None = None,
    answer_bytes: int | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Run ``decode``, ``facts``, ``artwork`` or ``image`` on the file in a process of its own.

    Returns the result and the bytes of a picture. Raises the :class:`MediaError` that the process answers with,
    :class:`MediaTimeLimit` after ``seconds``, :class:`MediaMemoryLimit`, or :class:`MediaCrashed`. The limits default
    to ``MEDIA_MEMORY_BYTES`` and ``MEDIA_TIME_LIMIT_SECONDS``. A path that does not exist is an ``OSError``.
    """
    memory_bytes = settings.MEDIA_MEMORY_BYTES if memory_bytes is None else memory_bytes
    seconds = settings.MEDIA_TIME_LIMIT_SECONDS if seconds is None else seconds
    answer_bytes = ANSWER_BYTES[operation] if answer_bytes is None else answer_bytes
    command = [sys.executable, "-E", "-B", "-m", "media", operation, str(Path(path).resolve(strict=True))]
    command += [f"--demuxer={demuxer}", f"--memory-bytes={memory_bytes}", f"--seconds={seconds}"]
    deadline = time.monotonic() + seconds
    with started(command) as process:
        try:
            answer, errors = read_output(process, deadline, answer_bytes)
            status = process.wait(timeout=max(0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise out_of_time(seconds) from None
    if errors:
        log.info("media_process_errors", operation=operation, status=status, stderr=errors.decode(errors="replace"))
    return parse(answer, errors, status, seconds)


@contextmanager
def started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The process; its whole session is killed if the block is left, however that happens, before it has ended."""
    process = subprocess.Popen(  # noqa: S603 - a fixed command, a path of ours and numbers
        command,
        cwd=PROJECT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def read_output(process: subprocess.Popen[bytes], deadline: float, answer_bytes: int) -> tuple[bytes, bytes]:
    """Everything on standard output, and the first part of standard error.

    Raises ``TimeoutError`` at the ``deadline`` (monotonic) and :class:`MediaCrashed` if there is too much output.
    """
    assert process.stdout is not None and process.stderr is not None
    answer, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, answer)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _events in selector.select(left):
                data = os.read(key.fd, READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                key.data.extend(data)
            del errors[ERROR_BYTES:]
            if len(answer) > answer_bytes:
                raise MediaCrashed(_("The process that decodes the file gave more output than it may."))
    return bytes(answer), bytes(errors)


def parse(answer: bytes, errors: bytes, status: int, seconds: float) -> tuple[dict[str, Any], bytes]:
    if status < 0 and -status in OUT_OF_TIME:
        raise out_of_time(seconds)
    if status and any(words in errors for words in OUT_OF_MEMORY):
        raise MediaMemoryLimit(_("The file takes more memory than decoding may use."))
    if status < 0:
        raise MediaCrashed(
            format_lazy(_("The file made its decoder crash ({signal})."), signal=signal.Signals(-status).name)
        )
    line, _newline, payload = answer.partition(b"\n")
    try:
        document = json.loads(line)
    except ValueError:
        raise MediaCrashed(
            format_lazy(_("The process that decodes the file ended with status {status} and no answer."), status=status)
        ) from None
    if "error" in document:
        raise media_error(document["error"]["code"], document["error"]["reason"])
    return document["result"], payload


def media_error(code: str, reason: str) -> MediaError:
    """The error of this code. Decoders quote from the file, so the reason is stripped of what is not printable."""
    printable = "".join(char if char.isprintable() else " " for char in reason)[:REASON_LENGTH]
    kinds = {kind.code: kind for kind in MediaError.__subclasses__()}
    return kinds.get(code, MediaError)(printable)


def out_of_time(seconds: float) -> MediaTimeLimit:
    return MediaTimeLimit(
        format_lazy(_("Decoding the file took longer than {seconds} seconds."), seconds=f"{seconds:g}"), seconds=seconds
    )

"""Kills a storage operation with SIGKILL at its first call to the system, then at its second, until it gets through.

``python -m tests.objectstore.crash OPERATION FOLDER`` works in ``FOLDER/1``, ``FOLDER/2`` and so on, one for each
death, and prints a line for each: the call that was not made any more, or ``done``.
"""

import errno
import fcntl
import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

from objectstore.content import StreamedContent
from objectstore.local import LocalStorage

NAME = "audio/0b7f/audio.mp3"
SOURCE = "uploads/7/2026/01/02/source.mp3"
PIECES = [b"a" * 1000, b"b" * 1000, b"c" * 1000]
CONTENT = b"".join(PIECES)
NOT_CALLS = {"_exit", "fspath", "getpid", "kill", "urandom"}


def save(storage: LocalStorage) -> None:
    storage.save(NAME, StreamedContent(PIECES))


def save_without_links(storage: LocalStorage) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    os.link = refuse
    save(storage)


def copy(storage: LocalStorage) -> None:
    storage.copy(SOURCE, NAME)


def delete(storage: LocalStorage) -> None:
    storage.delete(NAME)


PARTS_NAME = "audio/1c3d/audio.mp3"
PART_BYTES = 1000
PART_CONTENT = CONTENT[:2500]


def begin_parts(storage: LocalStorage) -> None:
    handle = storage.parts.begin(PARTS_NAME, size_bytes=2500, part_bytes=PART_BYTES, content_type="", metadata=dict)
    (storage.root / "handle").write_text(handle)


def parts(storage: LocalStorage) -> None:
    """Everything after the beginning of an upload over several requests."""
    handle = (storage.root / "handle").read_text()
    for at in range(0, len(PART_CONTENT), PART_BYTES):
        piece = memoryview(PART_CONTENT[at : at + PART_BYTES])
        storage.parts.write(PARTS_NAME, handle, number=1, start=at, data=piece, is_mine=lambda: True)
    storage.parts.complete(
        PARTS_NAME, handle, [], size_bytes=2500, part_bytes=PART_BYTES, content_type="", metadata=dict
    )


OPERATIONS: dict[str, Callable[[LocalStorage], None]] = {
    function.__name__: function for function in (save, save_without_links, copy, delete, parts)
}


def die_at_call(number: int) -> None:
    """Let this process be killed where it makes its ``number``-th call; a write gets half way."""
    calls = itertools.count(1)
    write, kill, getpid = os.write, os.kill, os.getpid

    def mortal(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == number:
                if name == "write":
                    write(args[0], args[1][: len(args[1]) // 2])
                write(1, f"{name}\n".encode())
                kill(getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name, function in list(vars(os).items()):
        if isinstance(function, BuiltinFunctionType) and name not in NOT_CALLS:
            setattr(os, name, mortal(name, function))
    fcntl.flock = mortal("flock", fcntl.flock)


def main(operation: str, folder: Path) -> None:
    for number in itertools.count(1):
        storage = LocalStorage(folder / str(number))
        if operation == "copy":
            storage.save(SOURCE, StreamedContent(PIECES))
        if operation == "delete":
            save(storage)
        if operation == "parts":
            begin_parts(storage)
        pid = os.fork()
        if pid == 0:
            die_at_call(number)
            OPERATIONS[operation](storage)
            os.write(1, b"done\n")
            os._exit(0)
        if os.waitpid(pid, 0)[1] == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

"""Small files that stand under their name whole or not at all, whenever the process that makes them is killed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, text: str, *, mode: int = 0o600, durable: bool = True) -> None:
    """Give ``path`` this text in one step. ``durable`` waits for the disk, so that a power cut leaves it whole too."""
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def make_once(path: Path, text: str, *, mode: int = 0o600) -> str:
    """The text of ``path``, which is made with ``text`` where it is missing or empty.

    Of several processes at once one makes it, and all return the same.
    """
    if there := text_of(path):
        return there
    with locked(path.with_name(f"{path.name}.lock")):
        if not text_of(path):
            replace_file(path, text, mode=mode)
        return text_of(path)


def text_of(path: Path) -> str:
    """Empty where there is no such file, or only blanks in it."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file, which is made where it is missing; waits while another process holds it."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync_directory(path: Path) -> None:
    """Some file systems refuse to sync a directory; what was made there is whole all the same."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

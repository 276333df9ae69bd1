import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, text: str, *, mode: int = 0o600, durable: bool = True) -> None:
    """Write ``path`` atomically; ``durable`` syncs it."""
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
    """The text of ``path``, written if missing or empty. Parallel processes return the same text."""
    if there := text_of(path):
        return there
    with locked(path.with_name(f"{path.name}.lock")):
        if not text_of(path):
            replace_file(path, text, mode=mode)
        return text_of(path)


def text_of(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of this file, which may be missing; waits for other processes."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync_directory(path: Path) -> None:
    """Ignores file systems that refuse to sync a directory."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

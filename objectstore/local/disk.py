"""System calls of the local storage."""

import ctypes
import errno
import fcntl
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from django.core.files.base import File
from django.utils.translation import gettext_lazy as _

from ..content import Piece
from ..errors import (
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)

log = structlog.get_logger(__name__)

WRITEBACK_BYTES = 8 * 1024 * 1024
SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
SYNC_FILE_RANGE = getattr(ctypes.CDLL(None), "sync_file_range", None) if sys.platform == "linux" else None

# Also a limit on the size of a file (EFBIG).
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
MAY_PASS = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# The errors of file systems without hard links (FAT, some network and FUSE ones).
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
COPY_PIECE_BYTES = 1024**2


@contextmanager
def storage_errors(action: str, name: str) -> Iterator[None]:
    """Translate an OSError. The path and the system's message are only logged."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, action, name) from error


def storage_error(error: OSError, action: str, name: str) -> StorageError:
    if action == "read" and error.errno in NOT_THERE:
        return ObjectNotFound()
    log.error(
        "local_storage_failed",
        action=action,
        object=name,
        path=str(error.filename or ""),
        errno=errno.errorcode.get(error.errno or 0, ""),
        error=error.strerror,
    )
    if error.errno in NO_ROOM:
        return StorageFull()
    if error.errno in MAY_PASS:
        return TransientStorageError()
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermanentStorageError(_("The server lacks the rights to do this: its operator has to give them."))
    return PermanentStorageError()


def fill(descriptor: int, content: "File[Any]", name: str, mode: int) -> None:
    """Write, set the mode, sync and, in any case, close. Errors of ``content.chunks()`` come out unchanged."""
    try:
        size = started = 0
        for piece in content.chunks():
            with storage_errors("write", name):
                size += write_all(descriptor, piece)
            if size - started >= WRITEBACK_BYTES:
                start_writeback(descriptor, started, size - started)
                started = size
        with storage_errors("write", name):
            if os.fstat(descriptor).st_size != size:
                raise OSError(errno.EIO, "the file is not as long as what was written to it")
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    with storage_errors("write", name):
        os.close(descriptor)


def start_writeback(descriptor: int, start: int, length: int) -> None:
    """Hint that the disk may write these bytes now, to shorten the final sync. Linux only."""
    if SYNC_FILE_RANGE is not None:
        SYNC_FILE_RANGE(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), ctypes.c_uint(SYNC_FILE_RANGE_WRITE))


def write_all(descriptor: int, piece: Piece) -> int:
    """Returns the size of the piece in bytes."""
    with memoryview(piece).cast("B") as view:
        written = 0
        while written < len(view):
            count = os.write(descriptor, view[written:])
            if count == 0:
                raise OSError(errno.EIO, "the system wrote nothing")
            written += count
        return written


def publish(partial: Path, path: Path, identity: tuple[int, int]) -> None:
    """Give the file its final name in one step. Raises ObjectExists, or OSError unless the file has its name all the
    same. A temporary name that stays is left to ``remove_partials``.
    """
    try:
        path.hardlink_to(partial)
    except OSError as error:
        if is_file(path, identity):
            log.warning("published_despite_an_error", path=str(path), error=str(error))
        elif isinstance(error, FileExistsError):
            raise ObjectExists from None
        elif error.errno in NO_HARD_LINKS:
            rename_to_free_name(partial, path, identity)
        else:
            raise
    try:
        partial.unlink(missing_ok=True)
    except OSError as error:
        log.warning("temporary_name_left_to_the_sweep", path=str(partial), error=str(error))


def is_file(path: Path, identity: tuple[int, int]) -> bool:
    try:
        return identity_of(path) == identity
    except OSError:
        return False


def rename_to_free_name(partial: Path, path: Path, identity: tuple[int, int]) -> None:
    """For file systems without hard links. Writers into one folder take turns, since a rename overwrites."""
    with open_directory(path.parent) as directory:
        wait_for_lock(directory)
        if path.exists():
            raise ObjectExists
        try:
            partial.rename(path)
        except OSError:
            if not is_file(path, identity):
                raise


def make_directory(path: Path, mode: int) -> None:
    if path.is_dir():
        return
    make_directory(path.parent, mode)
    with suppress(FileExistsError):
        path.mkdir(mode)
    sync_directory(path.parent)


@contextmanager
def open_directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    with open_directory(path) as descriptor:
        sync_names(descriptor)


def sync_names(directory: int) -> None:
    try:
        os.fsync(directory)
    except OSError as error:
        # Some network file systems cannot sync folders: their server keeps the names.
        if error.errno != errno.EINVAL:
            raise


def identity_of(file: int | Path) -> tuple[int, int]:
    result = file.lstat() if isinstance(file, Path) else os.fstat(file)
    return result.st_dev, result.st_ino


def wait_for_lock(directory: int) -> None:
    """Without locks in the file system, only random ids in names protect."""
    with suppress(OSError):
        fcntl.flock(directory, fcntl.LOCK_EX)


def lock(descriptor: int) -> None:
    """Held while the writer lives. Without locks, only its age protects the file from ``remove_partials``."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_being_written(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def read_pieces(file: BinaryIO, name: str) -> Iterator[bytes]:
    while True:
        with storage_errors("read", name):
            piece = file.read(COPY_PIECE_BYTES)
        if not piece:
            return
        yield piece


class FileRange(io.FileIO):
    """Positions are those in the whole file."""

    def __init__(self, path: Path, start: int, length: int | None) -> None:
        super().__init__(path)
        size = os.fstat(self.fileno()).st_size
        self._end = size if length is None else min(start + length, size)
        self.seek(start)

    def readinto(self, buffer: Any) -> int:
        return super().readinto(memoryview(buffer).cast("B")[: self._left()]) or 0

    def read(self, size: int | None = -1) -> bytes:
        left = self._left()
        return super().read(left if size is None or size < 0 else min(size, left)) or b""

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(COPY_PIECE_BYTES), b""))

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            return super().seek(self._end + position)
        return super().seek(position, whence)

    def _left(self) -> int:
        return max(self._end - self.tell(), 0)

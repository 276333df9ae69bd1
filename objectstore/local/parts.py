"""Files written over several requests, each in place in a hidden file beside its final name."""

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..base import ObjectStat
from ..capabilities import IsMine, Parts, PartsOf, StoredPart
from ..content import Metadata
from ..errors import NotMine, ObjectNotFound, PartsDiffer
from .disk import COPY_PIECE_BYTES, publish, start_writeback, storage_errors, sync_directory
from .layout import folders_of, prune

if TYPE_CHECKING:
    from . import LocalStorage

WRITE_BYTES = 8 * 1024**2
LOCK_PAUSE_SECONDS = 0.02
# What the system answers where it cannot copy between two files by itself.
NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}


class LocalParts(Parts):
    """Each write opens the file by its name, locks it, and asks whether it still may: so a writer that wakes up late
    changes nothing that another one wrote. Where the file system has no locks, only the question protects.
    """

    #: How long to wait for the lock: a process that was stopped inside a write holds it.
    lock_seconds = 5.0

    def __init__(self, storage: "LocalStorage") -> None:
        super().__init__(storage)
        self._local = storage

    def part_bytes(self, size_bytes: int | None) -> int:
        return WRITE_BYTES

    def begin(
        self, name: str, *, size_bytes: int | None, part_bytes: int, content_type: str, metadata: Metadata
    ) -> str:
        handle = secrets.token_hex(8)
        path = self._local._path(name)
        with storage_errors("write", name):
            os.close(self._local._create(self._partial(name, handle), path, name))
            for folder in folders_of(path, name):
                sync_directory(folder)
        return handle

    def write(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        with self._locked(name, handle) as descriptor:
            if not is_mine():
                raise NotMine
            with storage_errors("write", name):
                write_all_at(descriptor, data, start)
                os.fdatasync(descriptor)
        return ""

    def write_soon(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        with self._locked(name, handle) as descriptor:
            if not is_mine():
                raise NotMine
            with storage_errors("write", name):
                write_all_at(descriptor, data, start)
            start_writeback(descriptor, start, len(data))
        return ""

    def sync(self, name: str, handle: str) -> None:
        try:
            descriptor = os.open(self._partial(name, handle), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise ObjectNotFound from error
        try:
            with storage_errors("write", name):
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def complete(
        self,
        name: str,
        handle: str,
        parts: Sequence[StoredPart],
        *,
        size_bytes: int,
        part_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> ObjectStat:
        path, partial = self._local._path(name), self._partial(name, handle)
        try:
            with self._locked(name, handle) as descriptor, storage_errors("write", name):
                found = os.fstat(descriptor)
                if found.st_size < size_bytes:
                    raise PartsDiffer
                os.ftruncate(descriptor, size_bytes)
                os.fchmod(descriptor, self._local.file_mode)
                os.fsync(descriptor)
                publish(partial, path, (found.st_dev, found.st_ino))
        except ObjectNotFound:
            # An earlier call published it, and was killed or unheard.
            if self._local.stat(name).size != size_bytes:
                raise
        with storage_errors("write", name):
            for folder in folders_of(path, name):
                sync_directory(folder)
        return self._local.stat(name)

    def join(
        self,
        name: str,
        handle: str,
        sources: Sequence[PartsOf],
        *,
        size_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> ObjectStat:
        """See Parts. The file of the first one is renamed, those of the others are appended at places that their sizes
        give: a call that was killed is repeated from the beginning.
        """
        target = self._partial(name, handle)
        if sources and target.exists():
            with storage_errors("write", name), suppress(FileNotFoundError):
                self._partial(sources[0].name, sources[0].handle).replace(target)
            self._append(name, handle, sources)
        return self.complete(
            name, handle, (), size_bytes=size_bytes, part_bytes=0, content_type=content_type, metadata=metadata
        )

    def abort(self, name: str, handle: str) -> None:
        path = self._local._path(name)
        with storage_errors("delete", name):
            self._partial(name, handle).unlink(missing_ok=True)
            with suppress(FileNotFoundError, NotADirectoryError):
                sync_directory(path.parent)
        prune(path, name)

    def _append(self, name: str, handle: str, sources: Sequence[PartsOf]) -> None:
        with self._locked(name, handle) as descriptor:
            place = sources[0].size_bytes
            if os.fstat(descriptor).st_size < place:
                raise PartsDiffer
            for source in sources[1:]:
                with storage_errors("read", source.name):
                    piece = os.open(self._partial(source.name, source.handle), os.O_RDONLY | os.O_NOFOLLOW)
                try:
                    if os.fstat(piece).st_size < source.size_bytes:
                        raise PartsDiffer
                    with storage_errors("write", name):
                        copy_range(piece, descriptor, size_bytes=source.size_bytes, place=place)
                finally:
                    os.close(piece)
                place += source.size_bytes

    def _partial(self, name: str, handle: str) -> Path:
        path = self._local._path(name)
        return path.with_name(f".{path.name}.{handle}.session")

    @contextmanager
    def _locked(self, name: str, handle: str) -> Iterator[int]:
        """The file, open and locked. Raises ObjectNotFound, and NotMine when another process keeps the lock."""
        with storage_errors("read", name):
            descriptor = os.open(self._partial(name, handle), os.O_RDWR | os.O_NOFOLLOW)
        try:
            lock_for_writing(descriptor, seconds=self.lock_seconds)
            yield descriptor
        finally:
            os.close(descriptor)


def lock_for_writing(descriptor: int, *, seconds: float) -> None:
    gives_up = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= gives_up:
                raise NotMine from None
            time.sleep(LOCK_PAUSE_SECONDS)
        except OSError:
            # This file system has no locks.
            return
        else:
            return


def write_all_at(descriptor: int, data: memoryview, start: int) -> None:
    written = 0
    while written < len(data):
        count = os.pwrite(descriptor, data[written:], start + written)
        if count == 0:
            raise OSError(errno.EIO, "the system wrote nothing")
        written += count


def copy_range(source: int, target: int, *, size_bytes: int, place: int) -> None:
    """Copy the first bytes of a file to a place in another one; where the file system can, they share the blocks."""
    copied = 0
    in_system = hasattr(os, "copy_file_range")
    while copied < size_bytes:
        left = size_bytes - copied
        if in_system:
            try:
                count = os.copy_file_range(source, target, left, copied, place + copied)
            except OSError as error:
                if error.errno not in NO_COPY_RANGE:
                    raise
                count = 0
            # Some file systems answer 0 instead of an error.
            in_system = count > 0
        else:
            piece = os.pread(source, min(left, COPY_PIECE_BYTES), copied)
            write_all_at(target, memoryview(piece), place + copied)
            count = len(piece)
            if count == 0:
                raise OSError(errno.EIO, "the file ended early")
        copied += count

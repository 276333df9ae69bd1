"""The base of storages behind a network."""

import errno
import io
import re
import shutil
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import structlog
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from audiotricks.temporary import free_bytes, temporary_file

from .base import READ_BYTES, AudioStorage, Availability, ObjectStat, Space
from .capabilities import BucketControl
from .checksums import DIGESTS
from .errors import (
    ObjectArchived,
    ObjectNotFound,
    ObjectReadDiffers,
    PermanentStorageError,
    RangeIgnored,
    TransientStorageError,
)
from .names import PARTIALS, SESSIONS
from .retry import call_with_retry

log = structlog.get_logger(__name__)

NO_ROOM = _("There is no room for a working copy of the file.")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Body:
    """A response with bytes. ``take`` returns at most the asked bytes, none at the end; ``errors`` translates its
    exceptions. ``close`` disconnects.
    """

    take: Callable[[int], bytes]
    close: Callable[[], None]
    errors: Callable[[], AbstractContextManager[None]]

    def read(self, size: int) -> bytes:
        with self.errors():
            return self.take(size)


def checked_body(
    body: Body, stat: ObjectStat, start: int, length: int, *, version: str, status: int, content_range: str
) -> Body:
    """Return ``body`` if it is exactly this range of this version; else close it and raise ObjectNotFound (another
    version) or RangeIgnored.
    """
    found = CONTENT_RANGE.fullmatch(content_range.strip())
    if status == HTTPStatus.OK and not content_range:
        is_right = (start, length) == (0, stat.size)
    else:
        is_right = (
            status == HTTPStatus.PARTIAL_CONTENT
            and found is not None
            and (int(found[1]), int(found[2])) == (start, start + length - 1)
            and found[3] in ("*", str(stat.size))
        )
    if version == stat.version and is_right:
        return body
    body.close()
    if version != stat.version:
        raise ObjectNotFound
    log.warning("range_ignored", name=stat.name, start=start, length=length, status=status, content_range=content_range)
    raise RangeIgnored


class RemoteStorage(AudioStorage):
    """Objects behind a provider's API."""

    bucket: BucketControl
    #: Whether older versions go with an object. Off by default, since an operator keeps versions to be able to go back.
    purge_versions: bool = False

    def _purge(self, name: str) -> None:
        """Logs versions that a lock or a missing right keeps."""
        if not self.purge_versions:
            return
        try:
            self.bucket.remove_versions(name)
        except PermanentStorageError as error:
            log.error("object_versions_left", name=name, error=str(error))

    @abstractmethod
    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object with a valid name, also pieces of objects that are not there yet."""

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        return (stat for stat in self._list(prefix) if not stat.name.startswith(PARTIALS))

    def _remove_session_objects(self, older_than: datetime) -> int:
        """Remove what uploads over several requests left, each folder as a whole when its newest object is so old."""
        folders: dict[str, list[ObjectStat]] = {}
        for stat in self._list(SESSIONS):
            folders.setdefault(stat.name.rpartition("/")[0], []).append(stat)
        abandoned = [stats for stats in folders.values() if max(stat.modified_at for stat in stats) < older_than]
        for stat in chain.from_iterable(abandoned):
            self.delete(stat.name, seen=stat)
        return sum(map(len, abandoned))

    @abstractmethod
    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        """Request ``length`` bytes (at least one) of exactly this version, without retries. Raises ObjectNotFound,
        RangeIgnored.
        """

    def open_range(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """See AudioStorage. Resumes broken connections. Raises ObjectReadDiffers at the end of a corrupted object."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError("A range begins at 0 or later, and its length is not negative.")
        stat = self.stat(name)
        if stat.availability is not Availability.READABLE:
            raise ObjectArchived
        end = stat.size if length is None else min(stat.size, start + length)
        return io.BufferedReader(ObjectReader(self, stat, min(start, end), end), READ_BYTES)

    @contextmanager
    def working_copy(self, name: str) -> Iterator[Path]:
        """See AudioStorage. Raises TransientStorageError without space in TEMP_AUDIO_DIR."""
        with self.open_range(name) as source, temporary_file("working") as file:
            size_bytes = source.seek(0, io.SEEK_END)
            source.seek(0)
            if free_bytes() - size_bytes < settings.DISK_RESERVE_BYTES:
                raise TransientStorageError(NO_ROOM)
            try:
                shutil.copyfileobj(source, file, READ_BYTES)
                file.flush()
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise TransientStorageError(NO_ROOM) from error
            yield Path(file.name)

    def space(self) -> Space | None:
        return None


class Comparison:
    def __init__(self, stat: ObjectStat) -> None:
        self._stat = stat
        self._algorithm = next((algorithm for algorithm in DIGESTS if algorithm in stat.checksums), None)
        self._digest = DIGESTS[self._algorithm]() if self._algorithm is not None else None
        self._seen = 0

    def add(self, position: int, data: bytes) -> None:
        """Bytes out of order do not count. Raises ObjectReadDiffers at the end."""
        if self._algorithm is None or self._digest is None or position != self._seen:
            return
        self._digest.update(data)
        self._seen += len(data)
        expected = self._stat.checksums[self._algorithm]
        if self._seen == self._stat.size and (found := self._digest.hexdigest()) != expected:
            log.error("object_read_differs", name=self._stat.name, algorithm=self._algorithm)
            error = ObjectReadDiffers(
                _("What was read is not what is stored."), algorithm=self._algorithm, expected=expected, found=found
            )
            # The reader's bytes are already in use, so reading again cannot help.
            error.was_retried = True
            raise error


class ObjectReader(io.RawIOBase):
    """Reads one version of an object from ``start`` to ``end``. A whole object, read in order, is compared with its
    checksum.
    """

    def __init__(self, storage: RemoteStorage, stat: ObjectStat, start: int, end: int) -> None:
        self._storage = storage
        self._stat = stat
        self._position = start
        self._end = end
        self._body: Body | None = None
        self._comparison = Comparison(stat) if start == 0 and end == stat.size else None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end}[whence]
        if base + offset < 0:
            raise ValueError("A position is not negative.")
        if base + offset != self._position:
            self._hang_up()
            self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with memoryview(buffer) as view:
            wanted = min(len(view), self._end - self._position)
            if wanted <= 0:
                return 0
            data = call_with_retry(self._read, wanted)
            view[: len(data)] = data
        if self._comparison is not None:
            self._comparison.add(self._position, data)
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._hang_up()
        super().close()

    def _read(self, size: int) -> bytes:
        try:
            if self._body is None:
                self._body = self._storage.fetch(self._stat, self._position, self._end - self._position)
            data = self._body.read(size)
            if not data:
                raise TransientStorageError(_("The storage's answer ended too early."))
        except BaseException:
            self._hang_up()
            raise
        return data

    def _hang_up(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

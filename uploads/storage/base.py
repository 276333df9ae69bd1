"""The one interface to stored objects; what is behind it is known to nobody outside this package.

An object has a name of ours (see ``names``), is written once and never changes. Every method takes such a name and
raises InvalidObjectName for any other, and lets only the errors of ``errors`` out.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage

from .errors import ObjectNotFound, StorageFull

log = structlog.get_logger(__name__)

Piece = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a storage knows of an object without reading it.

    ``size`` is in bytes, ``modified_at`` aware UTC. ``checksum`` is lower-case hexadecimal, computed by the storage
    over the whole content, with ``checksum_algorithm`` (``md5``, ``sha256``, ``crc32c``) naming how; both are None
    where it keeps none.
    """

    name: str
    size: int
    modified_at: datetime
    storage_class: str = ""
    checksum: str | None = None
    checksum_algorithm: str | None = None
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Space:
    """Room in bytes. ``free_bytes`` is what we may still write, which can be less than total minus used."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


class StreamedContent(File):  # type: ignore[type-arg]  # generic for the type checker only
    """Content for ``save`` that comes from an iterable of pieces and is never held.

    A piece may be a view of a buffer that its producer uses again: a backend has to be done with it before it asks for
    the next one. It can be read once; a second reading raises ValueError rather than storing nothing.
    """

    def __init__(self, pieces: Iterable[Piece], name: str | None = None) -> None:
        super().__init__(None, name)
        self._pieces: Iterable[Piece] | None = pieces

    def chunks(self, chunk_size: int | None = None) -> Iterator[Any]:
        """Return the pieces as they come; ``chunk_size`` does not apply."""
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ValueError("A stream can be stored once, and this one was.")
        return iter(pieces)


class AudioStorage(Storage, ABC):
    """A place for objects. ``provider`` and ``region`` are remembered by each row beside the storage's alias.

    One instance serves all threads.
    """

    provider: ClassVar[str]
    region: str = ""

    @abstractmethod
    def save(  # type: ignore[override]  # Django lets the name be None and then invents one
        self,
        name: str,
        content: "File[Any]",
        max_length: int | None = None,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        storage_class: str = "",
    ) -> str:
        """Write ``content.chunks()`` once, in constant memory, under exactly this name, and return the name.

        When it returns, the object is whole and survives a power cut. When it raises, or is killed, nothing of it is
        under the name. Raises ObjectExists rather than overwrite (``content`` may then have been read), StorageFull,
        TransientStorageError, PermanentStorageError. What ``chunks()`` raises comes out unchanged.
        """

    @abstractmethod
    def stat(self, name: str) -> ObjectStat:
        """Describe an object. Raises ObjectNotFound."""

    @abstractmethod
    def open_range(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """Open an object for reading at ``start``, ending after ``length`` bytes or at its end; close it when done.

        Fewer bytes than asked for, or none, is no error where the object ends. ``tell()`` gives a position that
        ``seek()`` takes back. Where the file has a ``fileno()``, its descriptor stands at ``start``, so that a server
        can send ``length`` bytes from there; it must count them, since the descriptor does not end. Raises
        ObjectNotFound, and ValueError for a negative number.
        """

    @abstractmethod
    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        """Make a second object with the same bytes, compare sizes, and describe it; promises are those of ``save``."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove an object, durably; that it is gone already is no error."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Go through the objects whose names begin with ``prefix``, in no order, without holding their names.

        One that is removed or added meanwhile may be seen or not. Unfinished writes are never seen.
        """

    @abstractmethod
    def working_copy(self, name: str) -> AbstractContextManager[Path]:
        """Give a local path that another process may read, but not change, until the context ends.

        Raises ObjectNotFound.
        """

    @abstractmethod
    def space(self) -> Space | None:
        """Return the room there is; None where no limit is known."""

    @abstractmethod
    def location_of(self, name: str) -> str:
        """Return where an object lies as an unsigned URL, for people and for moving; nobody can read by it."""

    @abstractmethod
    def remove_partials(self, older_than: datetime) -> int:
        """Reclaim what writes that were killed left behind before ``older_than``; return how many there were.

        A write that is still going on is spared.
        """

    def ensure_space(self, required_bytes: int) -> None:
        """Raise StorageFull if storing so many bytes would leave less than ``DISK_RESERVE_BYTES``.

        Logs ``disk_nearly_full`` when it would leave less than ``DISK_WARNING_BYTES``.
        """
        space = self.space()
        if space is None:
            return
        left_bytes = space.free_bytes - required_bytes
        if left_bytes < settings.DISK_WARNING_BYTES:
            log.warning(
                "disk_nearly_full",
                provider=self.provider,
                free_bytes=space.free_bytes,
                required_bytes=required_bytes,
            )
        if left_bytes < settings.DISK_RESERVE_BYTES:
            raise StorageFull(required_bytes=required_bytes, free_bytes=space.free_bytes)

    def exists(self, name: str) -> bool:
        try:
            self.stat(name)
        except ObjectNotFound:
            return False
        return True

    def size(self, name: str) -> int:
        return self.stat(name).size

    def get_modified_time(self, name: str) -> datetime:
        return self.stat(name).modified_at

    def _open(self, name: str, mode: str = "rb") -> "File[Any]":
        if mode != "rb":
            raise ValueError("Objects are written by save() alone.")
        return File(self.open_range(name), name)

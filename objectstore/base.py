"""The interface to stored objects.

An object is written once and never changes. Every method raises InvalidObjectName for a name that ``names`` does not
allow, and otherwise only the errors of ``errors``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.translation import gettext_lazy as _

from .capabilities import BucketControl, DirectUploads, LifecycleRules, Parts, Signer, StorageClasses
from .content import Metadata, NewObject, StreamedContent
from .errors import (
    InvalidObjectName,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)
from .names import check_name
from .retry import TIDYING, retry_policy

log = structlog.get_logger(__name__)

READ_BYTES = 1024**2


class Availability(StrEnum):
    READABLE = "readable"
    ARCHIVED = "archived"
    RESTORING = "restoring"


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a storage knows of an object without reading it.

    ``size`` is in bytes, ``modified_at`` aware UTC. ``checksums`` are hexadecimal by algorithm (``md5``, ``sha256``,
    ``crc32c``), over the whole content. ``version`` changes with the bytes (ETag, generation); ``identity`` also tells
    objects with equal bytes apart. ``encryption_key`` is the provider's reference of a customer's key. A listing leaves
    unknown fields empty.
    """

    name: str
    size: int
    modified_at: datetime
    storage_class: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    identity: str = ""
    availability: Availability = Availability.READABLE
    restored_until: datetime | None = None
    encryption_key: str = ""

    @property
    def facts(self) -> dict[str, int | str]:
        """What can be compared with what was written (``checksums.difference``)."""
        return {"size": self.size, **self.checksums}


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes; ``free_bytes`` is what we may still write."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class EncryptionReference:
    """The customer's key for new objects: its provider and name."""

    provider: Literal["aws-kms", "gcp-kms", "azure-key-vault"]
    key_reference: str


class AudioStorage(Storage, ABC):
    """A storage for objects, for all threads, which retries transient errors itself. Rows keep ``provider`` and
    ``region`` beside its alias. Capabilities that only some storages have are None on others.
    """

    provider: ClassVar[str]
    region: str = ""
    #: The key that ``save`` and ``copy`` encrypt with; None where the provider's own does.
    encryption_key: EncryptionReference | None = None

    #: The folder in which each object is a file. Without one, each look costs a request, and bytes can be corrupted on
    #: their way here.
    directory: Path | None = None
    parts: Parts
    direct: DirectUploads | None = None
    signer: Signer | None = None
    classes: StorageClasses | None = None
    rules: LifecycleRules | None = None
    bucket: BucketControl | None = None

    def save(  # type: ignore[override]  # Django lets the name be None and then invents one
        self,
        name: str,
        content: "File[Any]",
        max_length: int | None = None,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> str:
        """Write ``content.chunks()`` once, in constant memory, under exactly this name, and return the name.

        When it returns, the object is whole and durable; when it raises or is killed, nothing is under the name. Raises
        ObjectExists rather than overwrite, StorageFull, TransientStorageError, PermanentStorageError, and the errors of
        ``chunks()``.
        """
        self.check_name(name, max_length)
        self._write(name, content, NewObject(content_type, metadata or dict, storage_class))
        return name

    @abstractmethod
    def _write(self, name: str, content: "File[Any]", wanted: NewObject) -> None: ...

    @abstractmethod
    def stat(self, name: str) -> ObjectStat:
        """Raises ObjectNotFound."""

    @abstractmethod
    def open_range(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """Open an object at ``start`` for ``length`` bytes, or less at its end; the caller closes it. ``seek()`` takes
        positions of ``tell()``. A descriptor (``fileno()``), if any, stands at ``start`` and does not end after
        ``length``. Raises ObjectNotFound, ValueError for a negative number.
        """

    @abstractmethod
    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        """Make and describe a second object of equal size, with the promises of ``save``."""

    def compose(
        self,
        sources: Sequence[str],
        target: str,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> ObjectStat:
        """Concatenate objects into a new one and describe it, with the promises of ``save``; within the storage where
        ``parts`` allows.
        """
        for name in (*sources, target):
            self.check_name(name)
        wanted = NewObject(content_type, metadata or dict, storage_class)
        composed = self.parts.compose(sources, target, wanted)
        if composed is None:
            expected = sum(self.stat(source).size for source in sources)
            self._write(target, StreamedContent(self._pieces_of(sources), expected_bytes=expected), wanted)
            composed = self._stat_of_new(target)
        return composed

    @abstractmethod
    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        """Remove an object durably; a missing one is no error. Removes only the object that was ``seen``, by default
        the one present at the beginning of the call, never a newer one.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """The objects whose names begin with ``prefix``, lazily and unordered, without unfinished writes. Concurrent
        changes may be missed.
        """

    @abstractmethod
    def working_copy(self, name: str) -> AbstractContextManager[Path]:
        """A local path to read, but not change, until the context ends. Raises ObjectNotFound."""

    @abstractmethod
    def space(self) -> Space | None:
        """None where no limit is known."""

    @abstractmethod
    def location_of(self, name: str) -> str:
        """An unsigned URL, which gives no access."""

    @abstractmethod
    def remove_partials(self, older_than: datetime, *, sessions_older_than: datetime | None = None) -> int:
        """Remove what killed writes left before ``older_than``, sparing running writes; return how many. Uploads over
        several requests, also those that clients send here themselves, stay unless they rest since
        ``sessions_older_than``, by default the same.
        """

    def probe(self) -> None:
        """Raise StorageError unless the storage works, by a quick and free request."""
        self.exists("audio/health")

    def check_name(self, name: str, max_length: int | None = None) -> None:
        """Raise InvalidObjectName, also for a name longer than ``max_length``."""
        check_name(name)
        if max_length is not None and len(name) > max_length:
            raise InvalidObjectName(_("The name of the object is too long."))

    def ensure_space(self, required_bytes: int) -> None:
        """Raise StorageFull if less than ``DISK_RESERVE_BYTES`` would be left. Logs ``disk_nearly_full`` below
        ``DISK_WARNING_BYTES``.
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

    def _stat_of_new(self, name: str, *, size_bytes: int | None = None) -> ObjectStat:
        """Describe a new object; remove it if that fails or its size is wrong."""
        try:
            stat = self.stat(name)
            if size_bytes is not None and stat.size != size_bytes:
                raise PermanentStorageError(_("The copy is not as large as the original."))
            return stat
        except BaseException as error:
            with retry_policy(TIDYING if isinstance(error, TransientStorageError) else None), suppress(StorageError):
                self.delete(name)
            raise

    def _pieces_of(self, names: Sequence[str]) -> Iterator[bytes]:
        for name in names:
            with self.open_range(name) as file:
                while piece := file.read(READ_BYTES):
                    yield piece

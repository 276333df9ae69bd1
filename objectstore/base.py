"""The one interface to stored objects; what is behind it is known to nobody outside this package.

An object has a name of ours (see ``names``), is written once and never changes. Every method takes such a name and
raises InvalidObjectName for any other, and lets only the errors of ``errors`` out.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Literal

import structlog
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.translation import gettext_lazy as _

from .errors import (
    DirectUploadUnsupported,
    InvalidObjectName,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)
from .names import is_valid_name
from .retry import TIDYING, retry_policy
from .rules import LifecyclePlan

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

log = structlog.get_logger(__name__)

Piece = bytes | bytearray | memoryview
#: What a storage keeps beside an object, as far as it is known at that moment: asked before the content is read, and
#: again after its end. Names are lower-case words with ``_`` between, values any text; a backend writes them as it can.
Metadata = Callable[[], Mapping[str, str]]
#: Is given the MD5 of each part, hexadecimal, in order; empty ones where they are not known.
OnParts = Callable[[Sequence[str]], None]
READ_BYTES = 1024**2


class Availability(StrEnum):
    """Whether an object's bytes can be read now, or only after ``restore``."""

    READABLE = "readable"
    ARCHIVED = "archived"
    RESTORING = "restoring"


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a storage knows of an object without reading it.

    ``size`` is in bytes, ``modified_at`` aware UTC. ``checksums`` are lower-case hexadecimal by their algorithm
    (``md5``, ``sha256``, ``crc32c``), each computed or compared by the storage over the whole content; empty where it
    keeps none. ``version`` changes whenever the bytes under the name do (an ETag, a generation). ``identity`` tells
    objects apart that were stored under one name one after the other, where ``version`` cannot. ``restored_until`` is
    when a restored object can no longer be read. ``encryption_key`` is the provider's reference of the customer's key
    that it is encrypted with. A listing leaves at its default what it does not tell.
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


@dataclass(frozen=True, slots=True)
class Space:
    """Room in bytes. ``free_bytes`` is what we may still write, which can be less than total minus used."""

    total_bytes: int
    used_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class EncryptionReference:
    """The customer's key that new objects are encrypted with: who keeps it, and its name there."""

    provider: Literal["aws-kms", "gcp-kms", "azure-key-vault"]
    key_reference: str


@dataclass(frozen=True, slots=True)
class Encryption:
    """How an object is encrypted where it lies, as far as the storage says so; never by what is usual.

    ``algorithm`` is empty where nothing is said. ``key`` is a customer's key. ``default_key`` is the customer's key
    that the bucket itself would encrypt with, if nothing were asked for.
    """

    algorithm: str = ""
    key: str = ""
    default_key: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a storage keeps of objects that are deleted; None where that cannot be learnt.

    ``versions`` is whether they stay readable as older versions, ``soft_days`` for how many days they can be brought
    back (0: not at all), ``lock`` what forbids to delete, in words (empty: nothing).
    """

    versions: bool | None = False
    soft_days: float | None = 0
    lock: "_StrOrPromise | None" = ""


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """An object that a client is to send to the storage itself; kept as it is until it is completed or aborted.

    ``method`` tells the client how: ``parts`` (each request one part, in any order), ``session`` (one URL, with a
    protocol of the provider's that can be resumed) or ``staged`` (one URL of a place from which ``complete_direct``
    copies). ``handle`` is the storage's own and may be a secret. Each part has ``part_bytes``, the last one the rest.
    """

    method: Literal["parts", "session", "staged"]
    handle: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that the client is to send, with exactly these headers, and the bytes from ``start`` as its body."""

    number: int
    method: str
    url: str
    headers: Mapping[str, str]
    start: int
    size: int
    #: Whether ``Content-MD5`` may come too, unsigned: the storage compares it, and some places refuse to be without.
    takes_md5: bool = False


class StreamedContent(File):  # type: ignore[type-arg]  # generic for the type checker only
    """Content for ``save`` that comes from an iterable of pieces and is never held.

    A piece may be a view of a buffer that its producer uses again: a backend has to be done with it before it asks for
    the next one. It can be read once; a second reading raises ValueError rather than storing nothing.
    ``expected_bytes`` is how many there will be, as far as is known: a storage may choose its parts by it.
    """

    def __init__(self, pieces: Iterable[Piece], name: str | None = None, *, expected_bytes: int = 0) -> None:
        super().__init__(None, name)
        self.expected_bytes = expected_bytes
        self._pieces: Iterable[Piece] | None = pieces

    def chunks(self, chunk_size: int | None = None) -> Iterator[Any]:
        """Return the pieces as they come; ``chunk_size`` does not apply."""
        pieces, self._pieces = self._pieces, None
        if pieces is None:
            raise ValueError("A stream can be stored once, and this one was.")
        return iter(pieces)


class AudioStorage(Storage, ABC):
    """A place for objects. ``provider`` and ``region`` are remembered by each row beside the storage's alias.

    One instance serves all threads. What passes is tried again inside, by the policy of ``retry``.
    """

    provider: ClassVar[str]
    region: str = ""
    #: The key that ``save`` and ``copy`` encrypt with; None where the provider's own does.
    encryption_key: EncryptionReference | None = None
    #: Whether it is behind a network: each look costs a request, bytes can be lost and corrupted on the way, and
    #: clients can be sent there with ``signed_url`` and the functions for direct uploads.
    is_remote: ClassVar[bool] = False

    @abstractmethod
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

    def compose(
        self,
        sources: Sequence[str],
        target: str,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> ObjectStat:
        """Make one object of several, one behind the other, and describe it; promises are those of ``save``.

        The sources stay. A storage that can do so without the bytes passing here does.
        """
        expected = sum(self.stat(source).size for source in sources)
        self.save(
            target,
            StreamedContent(self._pieces_of(sources), expected_bytes=expected),
            content_type=content_type,
            metadata=metadata,
            storage_class=storage_class,
        )
        return self._stat_of_new(target)

    def probe(self) -> None:
        """Raises StorageError unless the storage works, as far as that can be told quickly and at no cost."""
        self.exists("audio/health")

    def _stat_of_new(self, name: str, *, size_bytes: int | None = None) -> ObjectStat:
        """``stat`` of an object that was just made.

        It is removed again where nothing can be learnt of it, or where it has not the size that it should have.
        """
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

    @abstractmethod
    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        """Remove an object, durably. An object that is gone already is no error.

        Only the object that an earlier ``stat`` or ``list`` has ``seen`` goes, or without it the one that is there when
        the call begins: an object that was stored under the name since then stays, also when a request is sent again
        because its answer was lost.
        """

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

    # What only storages of a provider have

    def signed_url(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str | None:
        """A URL by which anybody can do this one thing with this one object for so long; None if there is none.

        ``content_type`` and ``disposition`` are headers of the answer to a GET; a PUT must send that content type.
        Nothing is asked of the storage: the object may not be there.
        """
        self.check_name(name)
        return None

    def restore(self, name: str, *, days: int) -> None:
        """Ask for an archived object to be readable for so many days; ``stat`` tells when it is.

        Nothing happens to one that is readable, or on its way. Raises ObjectNotFound.
        """
        self.stat(name)

    def begin_direct(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """Prepare an object that a client sends by itself within ``seconds``. Raises DirectUploadUnsupported.

        ``origin`` is that of the page whose script the client is, for providers who must be told beforehand.
        """
        raise DirectUploadUnsupported

    def direct_requests(
        self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int
    ) -> Sequence[SignedRequest]:
        """What the client has still to send; each may be sent again. Empty when all has arrived.

        Raises ObjectNotFound when the storage no longer knows the upload.
        """
        raise DirectUploadUnsupported

    def complete_direct(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> ObjectStat:
        """Make what arrived the object ``name`` and describe it; again, after an answer that was lost, it is the same.

        The client cannot change it from then on. ``etags`` are those that the client was given for its parts, by their
        numbers; ``on_parts`` is called with the MD5 of each part, in order, before the object is made of them, where
        the storage knows it. Raises DirectUploadIncomplete if it does not have ``size_bytes``, DirectUploadAmbiguous,
        ObjectExists if something else is stored there, ObjectNotFound when the storage no longer knows the upload.
        """
        raise DirectUploadUnsupported

    def abort_direct(self, name: str, direct: DirectUpload) -> None:
        """Forget what a client sent, an object under the final name too; that it is gone already is no error."""
        raise DirectUploadUnsupported

    def plan_lifecycle(self) -> LifecyclePlan | None:
        """The rules by which the provider itself moves and removes objects, today and as ours would be.

        None where there is no such thing.
        """
        return None

    def apply_lifecycle(self, plan: LifecyclePlan) -> None:
        """Put the rules of a plan in place; those that are not ours stay as they are."""
        raise NotImplementedError

    # What storage_doctor asks, and who deletes for good

    def versions_of(self, name: str) -> int:
        """How many older versions of a deleted object can still be read, or brought back."""
        self.check_name(name)
        return 0

    def remove_versions(self, name: str) -> None:
        """Remove every older version of this one object, as far as the storage lets us; the present one stays.

        Raises CredentialsRefused where a right is missing or a lock holds one of them.
        """
        self.check_name(name)

    def keeping(self) -> Keeping:
        return Keeping()

    def encryption_of(self, name: str) -> Encryption:
        """Raises ObjectNotFound."""
        return Encryption(key=self.stat(name).encryption_key)

    def overwrites_in_parts(self, name: str) -> bool:
        """Try for real whether the storage replaces the object ``name`` by an upload in parts: it may be lost."""
        size = int(settings.STORAGE_PART_BYTES) + 1
        try:
            self.save(name, StreamedContent([bytes(size)], expected_bytes=size))
        except ObjectExists:
            return False
        return True

    def lists_unfinished(self, name: str) -> bool:
        """Try for real whether an unfinished upload of ``name`` is found among all those of its folder."""
        self.check_name(name)
        return True

    def remove_unfinished(self, name: str) -> None:
        """Forget the parts of every unfinished upload of exactly this name."""
        self.check_name(name)

    def region_of_bucket(self) -> str:
        """Where the bucket is, as the storage says; empty where it does not."""
        return ""

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], "AudioStorage"]]:
        """The same place with settings that a server of less abilities may need, the smallest changes first."""
        return iter(())

    def create_bucket(self) -> bool:
        """Make the place where all objects lie, if it is not there; say whether it was made."""
        return False

    def check_name(self, name: str, max_length: int | None = None) -> None:
        """Raises InvalidObjectName for a name that no storage may hold, or that is longer than ``max_length``."""
        if not is_valid_name(name):
            raise InvalidObjectName
        if max_length is not None and len(name) > max_length:
            raise InvalidObjectName(_("The name of the object is too long."))

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

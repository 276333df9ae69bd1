"""Capabilities that only some storages have."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from django.conf import settings

from .content import Metadata, NewObject, StreamedContent
from .errors import ObjectExists, ObjectNotFound
from .rules import LifecyclePlan

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

    from .base import AudioStorage, ObjectStat

#: Takes the MD5 of each part, hexadecimal, in order; empty strings where they are not known.
OnParts = Callable[[Sequence[str]], None]


#: Asks the database whether this writer still has the upload.
IsMine = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of an object that is being written; numbers begin with 1. ``tag`` names exactly these bytes."""

    number: int
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class PartsOf:
    """All parts of an upload that was begun, in order."""

    name: str
    handle: str
    parts: Sequence[StoredPart]
    size_bytes: int
    part_bytes: int


class Parts:
    """Objects written in parts over several requests, and objects composed of others.

    All parts of an object have ``part_bytes``, but for the last one, and lie at ``(number - 1) * part_bytes``. Any part
    may be written again; the tags that ``complete`` is given decide.
    """

    #: Of every part but the last; 1 where each write may begin anywhere.
    least_bytes: int = 1
    most_parts: int = 2**31 - 1
    #: Of an object.
    most_bytes: int = 2**62

    def __init__(self, storage: "AudioStorage") -> None:
        self._storage = storage

    def part_bytes(self, size_bytes: int | None) -> int:
        """The size of the parts of an object of this size; None is a size that is not known yet."""
        raise NotImplementedError

    def begin(
        self, name: str, *, size_bytes: int | None, part_bytes: int, content_type: str, metadata: Metadata
    ) -> str:
        """Prepare an object and return its handle, which may be a secret."""
        raise NotImplementedError

    def write(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        """Write a part and return its tag; it is durable then. Raises NotMine, and ObjectNotFound when the upload was
        aborted or completed.
        """
        raise NotImplementedError

    def write_soon(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        """As ``write``, but the part may be durable only after the next ``sync``."""
        return self.write(name, handle, number=number, start=start, data=data, is_mine=is_mine)

    def sync(self, name: str, handle: str) -> None:
        """Make durable what ``write_soon`` wrote. May run beside further writes."""

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
    ) -> "ObjectStat":
        """Make the object ``name`` of exactly these parts and describe it. A repeated call gives the same object.

        Raises ObjectNotFound for an unknown upload, PartsDiffer, and ObjectExists for an object that is not its own.
        """
        raise NotImplementedError

    def join(
        self,
        name: str,
        handle: str,
        sources: Sequence[PartsOf],
        *,
        size_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> "ObjectStat":
        """Make the object ``name`` of whole uploads, in order, with the promises of ``complete``. Their bytes may be
        gone afterwards; ``abort`` removes the rest of each.
        """
        with suppress(ObjectNotFound):
            done = self._storage.stat(name)
            if done.size != size_bytes:
                raise ObjectExists
            return done
        wholes = [source for source in sources if source.size_bytes]
        for source in wholes:
            self.complete(
                source.name,
                source.handle,
                source.parts,
                size_bytes=source.size_bytes,
                part_bytes=source.part_bytes,
                content_type=content_type,
                metadata=metadata,
            )
        names = [source.name for source in wholes]
        return self._storage.compose(names, name, content_type=content_type, metadata=metadata)

    def abort(self, name: str, handle: str) -> None:
        """Remove what was written. An upload that is over is no error."""
        raise NotImplementedError

    def compose(self, sources: Sequence[str], target: str, wanted: NewObject) -> "ObjectStat | None":
        """Compose within the storage; None where the bytes must be read and written."""
        return None

    def remove_unfinished(self, name: str) -> None:
        """Remove the parts of all unfinished uploads of exactly this name."""
        self._storage.check_name(name)

    def lists_unfinished(self, name: str) -> bool:
        """Test whether a folder's unfinished uploads are listed."""
        self._storage.check_name(name)
        return True

    def overwrites(self, name: str) -> bool:
        """Test whether an upload in parts can replace this object, which may be lost."""
        size = int(settings.STORAGE_PART_BYTES) + 1
        try:
            self._storage.save(name, StreamedContent([bytes(size)], expected_bytes=size))
        except ObjectExists:
            return False
        return True


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """An object that a client sends to the storage; kept until it is completed or aborted.

    ``method`` is ``parts`` (requests in any order), ``session`` (one URL with the provider's resumable protocol) or
    ``staged`` (one URL from which ``complete`` copies). ``handle`` may be a secret. Each part but the last has
    ``part_bytes``.
    """

    method: Literal["parts", "session", "staged"]
    handle: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with exactly these headers and ``size`` bytes from ``start``. ``takes_md5`` allows an unsigned
    ``Content-MD5``, which some storages require.
    """

    number: int
    method: str
    url: str
    headers: Mapping[str, str]
    start: int
    size: int
    takes_md5: bool = False


class DirectUploads(ABC):
    @abstractmethod
    def begin(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """Prepare an upload within ``seconds`` by a client whose page has this ``origin``. Raises
        DirectUploadUnsupported.
        """

    @abstractmethod
    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> Sequence[SignedRequest]:
        """The requests still to send, each repeatable. Raises ObjectNotFound for an upload that the storage does not
        know.
        """

    @abstractmethod
    def complete(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> "ObjectStat":
        """Make the object of what arrived, and describe it. A repeated call gives the same object; the client cannot
        change it.

        ``etags`` are the client's, by part number; ``on_parts`` gets the known MD5s of the parts before the object is
        made. Raises DirectUploadIncomplete, DirectUploadAmbiguous, ObjectExists, ObjectNotFound for an unknown upload.
        """

    @abstractmethod
    def abort(self, name: str, direct: DirectUpload) -> None:
        """Remove what a client sent, also the completed object. A missing upload is no error."""


class Signer(ABC):
    @abstractmethod
    def sign(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str | None:
        """A URL for ``seconds``; None where the credentials cannot sign. ``content_type`` and ``disposition`` are
        headers of the response to a GET; a PUT must send the type. The object may be missing.
        """


class StorageClasses:
    """Cheaper classes that need a restore. ``copy`` archives."""

    def __init__(self, storage: "AudioStorage") -> None:
        self._storage = storage

    def restore(self, name: str, *, days: int) -> None:
        """Request that an archived object becomes readable for ``days``, as ``stat`` then shows. Does nothing for
        others. Raises ObjectNotFound.
        """
        self._storage.stat(name)


class LifecycleRules(ABC):
    @abstractmethod
    def plan(self) -> LifecyclePlan: ...

    @abstractmethod
    def apply(self, plan: LifecyclePlan) -> None:
        """Leaves other rules as they are."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """``algorithm`` is empty where unknown; ``key`` is a customer's, ``default_key`` the bucket's default."""

    algorithm: str = ""
    key: str = ""
    default_key: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a bucket keeps of deleted objects, None where unknown: readable ``versions``, ``soft_days`` of soft delete,
    and the ``lock`` in words.
    """

    versions: bool | None = False
    soft_days: float | None = 0
    lock: "_StrOrPromise | None" = ""


class BucketControl(ABC):
    @abstractmethod
    def create(self) -> bool:
        """Return whether the bucket was missing and is created."""

    @abstractmethod
    def keeping(self) -> Keeping: ...

    @abstractmethod
    def encryption_of(self, name: str) -> Encryption:
        """Raises ObjectNotFound."""

    @abstractmethod
    def versions_of(self, name: str) -> int:
        """The number of readable or restorable versions of a deleted object."""

    @abstractmethod
    def remove_versions(self, name: str) -> None:
        """Remove all older versions, not the present one. Raises CredentialsRefused where a right is missing or a lock
        holds one.
        """

    def region(self) -> str:
        return ""

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], "AudioStorage"]]:
        """Other settings that a simpler server may need, smallest changes first."""
        return iter(())

"""What only some storages can do: an attribute of ``AudioStorage`` is such an object, or None."""

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
        """Compose one object inside the storage; None where that needs reading and writing."""
        return None

    def remove_unfinished(self, name: str) -> None:
        """Remove the parts of every unfinished upload of exactly this name."""
        self._storage.check_name(name)

    def lists_unfinished(self, name: str) -> bool:
        """Test whether the list of a folder's unfinished uploads contains one of ``name``."""
        self._storage.check_name(name)
        return True

    def overwrites(self, name: str) -> bool:
        """Test whether an upload in parts can replace the object ``name``, which may be lost."""
        size = int(settings.STORAGE_PART_BYTES) + 1
        try:
            self._storage.save(name, StreamedContent([bytes(size)], expected_bytes=size))
        except ObjectExists:
            return False
        return True


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """An object that a client sends to the storage itself; kept unchanged until it is completed or aborted.

    ``method`` is ``parts`` (each request is one part, in any order), ``session`` (one URL with the provider's resumable
    protocol) or ``staged`` (one URL from which ``complete`` copies). ``handle`` is for the storage alone and may be a
    secret. Each part has ``part_bytes``, the last one the rest.
    """

    method: Literal["parts", "session", "staged"]
    handle: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request with exactly these headers, and ``size`` bytes from ``start`` as its body. ``takes_md5`` allows an
    unsigned ``Content-MD5``, which the storage compares and some require.
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
        """Prepare an object that a client sends within ``seconds``. ``origin`` is that of the client's page, which some
        providers must know. Raises DirectUploadUnsupported.
        """

    @abstractmethod
    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> Sequence[SignedRequest]:
        """The requests that the client still has to send, each repeatable; empty when all has arrived. Raises
        ObjectNotFound when the storage no longer knows the upload.
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
        """Make the object ``name`` of what arrived, and describe it. A repeated call gives the same object, and the
        client cannot change it afterwards.

        ``etags`` are those that the client got, by part number; ``on_parts`` is called with the known MD5 of each part
        before the object is made. Raises DirectUploadIncomplete if not all of ``size_bytes`` arrived,
        DirectUploadAmbiguous, ObjectExists if another object has the name, ObjectNotFound when the storage no longer
        knows the upload.
        """

    @abstractmethod
    def abort(self, name: str, direct: DirectUpload) -> None:
        """Remove what a client sent, the completed object too. A missing upload is no error."""


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
        """A URL that is valid for ``seconds``; None where the credentials cannot sign.

        ``content_type`` and ``disposition`` are headers of the response to a GET; a PUT must send that content type.
        The object may be missing.
        """


class StorageClasses:
    """Classes that cost less to keep and more to read. ``copy`` archives."""

    def __init__(self, storage: "AudioStorage") -> None:
        self._storage = storage

    def restore(self, name: str, *, days: int) -> None:
        """Request that an archived object becomes readable for ``days``; ``stat`` tells when it is. Does nothing for
        one that is readable or being restored. Raises ObjectNotFound.
        """
        self._storage.stat(name)


class LifecycleRules(ABC):
    """Rules by which the provider moves and removes objects."""

    @abstractmethod
    def plan(self) -> LifecyclePlan:
        """The present rules, and the rules with ours."""

    @abstractmethod
    def apply(self, plan: LifecyclePlan) -> None:
        """Set the rules of a plan; other people's rules stay."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """``algorithm`` is empty where the storage says nothing. ``key`` is a customer's key, ``default_key`` the one that
    the bucket would use by itself.
    """

    algorithm: str = ""
    key: str = ""
    default_key: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a bucket keeps of deleted objects; None where unknown. ``versions``: they stay readable; ``soft_days``: days
    in which they can be restored (0: none); ``lock``: what forbids deleting, in words.
    """

    versions: bool | None = False
    soft_days: float | None = 0
    lock: "_StrOrPromise | None" = ""


class BucketControl(ABC):
    @abstractmethod
    def create(self) -> bool:
        """Create the bucket if it is missing; return whether it was created."""

    @abstractmethod
    def keeping(self) -> Keeping: ...

    @abstractmethod
    def encryption_of(self, name: str) -> Encryption:
        """Raises ObjectNotFound."""

    @abstractmethod
    def versions_of(self, name: str) -> int:
        """How many versions of a deleted object can still be read or restored."""

    @abstractmethod
    def remove_versions(self, name: str) -> None:
        """Remove every older version of this object; the present one stays. Raises CredentialsRefused where a right is
        missing or a lock holds one.
        """

    def region(self) -> str:
        return ""

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], "AudioStorage"]]:
        """Other settings for the same bucket that a simpler server may need, smallest changes first."""
        return iter(())

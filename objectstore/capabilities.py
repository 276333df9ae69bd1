"""What only some storages can do, each an object of its own: ``AudioStorage`` has it, or None in its place."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from django.conf import settings

from .content import Metadata, NewObject, StreamedContent
from .errors import ObjectExists
from .rules import LifecyclePlan

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

    from .base import AudioStorage, ObjectStat

#: Takes the MD5 of each part, hexadecimal, in order; empty strings where they are not known.
OnParts = Callable[[Sequence[str]], None]


class Parts:
    """Objects that are written in parts, which a killed write can leave behind, and objects made of other objects."""

    def __init__(self, storage: "AudioStorage") -> None:
        self._storage = storage

    def compose(self, sources: Sequence[str], target: str, wanted: NewObject) -> "ObjectStat | None":
        """Make one object of several inside the storage; None where only reading and writing them can do it."""
        return None

    def remove_unfinished(self, name: str) -> None:
        """Remove the parts of every unfinished upload of exactly this name."""
        self._storage.check_name(name)

    def lists_unfinished(self, name: str) -> bool:
        """Try for real whether an unfinished upload of ``name`` is found among all those of its folder."""
        self._storage.check_name(name)
        return True

    def overwrites(self, name: str) -> bool:
        """Try for real whether the server lets an upload in parts replace the object ``name``, which may be lost."""
        size = int(settings.STORAGE_PART_BYTES) + 1
        try:
            self._storage.save(name, StreamedContent([bytes(size)], expected_bytes=size))
        except ObjectExists:
            return False
        return True


@dataclass(frozen=True, slots=True)
class DirectUpload:
    """An object that a client sends to the storage itself; kept unchanged until it is completed or aborted.

    ``method`` tells the client how: ``parts`` (each request is one part, in any order), ``session`` (one URL, with a
    resumable protocol of the provider's) or ``staged`` (one URL of a place from which ``complete`` copies). ``handle``
    is for the storage alone and may be a secret. Each part has ``part_bytes``, the last one the rest.
    """

    method: Literal["parts", "session", "staged"]
    handle: str
    part_bytes: int


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that the client sends with exactly these headers, and with ``size`` bytes from ``start`` as its body.

    ``takes_md5`` is whether it may add an unsigned ``Content-MD5``: the storage compares it, and some require it.
    """

    number: int
    method: str
    url: str
    headers: Mapping[str, str]
    start: int
    size: int
    takes_md5: bool = False


class DirectUploads(ABC):
    """Clients send objects to the storage themselves."""

    @abstractmethod
    def begin(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """Prepare an object that a client sends within ``seconds``. Raises DirectUploadUnsupported.

        ``origin`` is the origin of the page whose script the client is; some providers must know it beforehand.
        """

    @abstractmethod
    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> Sequence[SignedRequest]:
        """Return the requests that the client has still to send; each may be repeated. Empty when all has arrived.

        Raises ObjectNotFound when the storage no longer knows the upload.
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
        """Make what arrived the object ``name``, and describe it. A repeated call gives the same object.

        The client cannot change it from then on. ``etags`` are the ETags that the client was given, by part number;
        ``on_parts`` is called with the MD5 of each part before the object is made, where the storage knows it. Raises
        DirectUploadIncomplete if not all of ``size_bytes`` arrived, DirectUploadAmbiguous, ObjectExists if another
        object has the name, ObjectNotFound when the storage no longer knows the upload.
        """

    @abstractmethod
    def abort(self, name: str, direct: DirectUpload) -> None:
        """Remove what a client sent, the completed object too. An upload that is gone already is no error."""


class Signer(ABC):
    """URLs by which anybody can do one thing with one object for some time."""

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
        """Return a URL that is good for ``seconds``; None where the credentials turn out to sign nothing.

        ``content_type`` and ``disposition`` are headers of the answer to a GET; a PUT must send that content type. The
        storage is not asked whether the object is there.
        """


class StorageClasses:
    """Classes that cost less to keep and more to read; ``copy`` archives. These can all be read at once."""

    def __init__(self, storage: "AudioStorage") -> None:
        self._storage = storage

    def restore(self, name: str, *, days: int) -> None:
        """Ask for an archived object to be readable for ``days``; ``stat`` tells when it is. Raises ObjectNotFound.

        Does nothing for an object that is readable or being restored.
        """
        self._storage.stat(name)


class LifecycleRules(ABC):
    """Rules by which the provider itself moves and removes objects."""

    @abstractmethod
    def plan(self) -> LifecyclePlan:
        """Return the rules as they are, and as ours would make them."""

    @abstractmethod
    def apply(self, plan: LifecyclePlan) -> None:
        """Put the rules of a plan in place; other people's rules stay as they are."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """How an object is encrypted, as far as the storage says so.

    ``algorithm`` is empty where it says nothing. ``key`` is a customer's key. ``default_key`` is the customer's key
    that the bucket itself would encrypt with, if nothing were asked for.
    """

    algorithm: str = ""
    key: str = ""
    default_key: str = ""


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a bucket keeps of deleted objects; None where that cannot be learnt.

    ``versions`` is whether they stay readable as older versions, ``soft_days`` for how many days they can be brought
    back (0: not at all), ``lock`` what forbids to delete, in words (empty: nothing).
    """

    versions: bool | None = False
    soft_days: float | None = 0
    lock: "_StrOrPromise | None" = ""


class BucketControl(ABC):
    """The bucket or container that all objects lie in."""

    @abstractmethod
    def create(self) -> bool:
        """Make the bucket if it is not there; say whether it was made."""

    @abstractmethod
    def keeping(self) -> Keeping: ...

    @abstractmethod
    def encryption_of(self, name: str) -> Encryption:
        """Raises ObjectNotFound."""

    @abstractmethod
    def versions_of(self, name: str) -> int:
        """Return how many versions of a deleted object can still be read or brought back."""

    @abstractmethod
    def remove_versions(self, name: str) -> None:
        """Remove every older version of this one object, as far as the storage lets us; the present one stays.

        Raises CredentialsRefused where a right is missing or a lock holds one of them.
        """

    def region(self) -> str:
        """Return the region that the storage says the bucket is in; empty where it does not say."""
        return ""

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], "AudioStorage"]]:
        """Go through other settings for the same place that a simpler server may need, smallest changes first."""
        return iter(())

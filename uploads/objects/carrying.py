"""One object brought to another storage, and the note by which it is known whose it is until a row names it.

An object that no row names yet, or no more, has a note in :class:`OrphanedObject`, as those have that the sweep found,
and the note is its key. A row that is to name the object takes the note away, and so does whoever removes the object:
only one of them gets it. So nothing is removed that a row has just begun to need, by another run or by the orphan
sweep; and what a killed run left has its grace period.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from objectstore import get_storage
from objectstore.base import AudioStorage, ObjectStat
from objectstore.content import StreamedContent
from objectstore.errors import ObjectExists, ObjectNotFound, StorageError
from objectstore.hashing import StreamDigests, digest_of_file
from objectstore.names import parse_name
from objectstore.retry import call_with_retry
from uploads.errors import ObjectDamaged
from uploads.models import AudioUpload, OrphanedObject
from uploads.objects.marks import ensure_ours

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

READ_BYTES = 1024**2

#: Told how many more bytes were carried; fewer than none for those of an attempt that failed. From several threads.
OnBytes = Callable[[int], None]


class SamePlace(DomainError):
    code = "same_storage"
    status = 409
    title = _("Both storages are the same place: there is nothing to move")


class CopyDiffers(StorageError):
    code = "copy_differs"
    status = 503
    title = _("The other storage does not hold what was written to it; the file stays where it was")


class InTheWay(Exception):
    """What lies in the target belongs to somebody else, or may be removed at this very moment."""


@dataclass(frozen=True, slots=True)
class Carried:
    """An object that the target has now, the key of its note there, and what its bytes are."""

    note: int
    stat: ObjectStat
    digests: StreamDigests


class Carrier:
    """Brings objects from the storage ``source`` to ``target`` (aliases), each under the name that it has.

    Raises PermanentStorageError for a storage that is not configured, SamePlace.
    """

    def __init__(self, source: str, target: str, *, on_bytes: OnBytes = lambda _count: None) -> None:
        self._to = target
        self._source, self._target = get_storage(source), get_storage(target)
        if source == target or is_same_place(self._source, self._target):
            raise SamePlace
        self._on_bytes = on_bytes

    @property
    def leaves_signed_urls(self) -> bool:
        """Whether somebody may hold a signed URL of what was carried."""
        return self._source.signer is not None and settings.DOWNLOAD_REDIRECTS

    def size_of(self, name: str) -> int:
        """Bytes in the source. Raises ObjectNotFound."""
        return call_with_retry(self._source.stat, name).size

    def carry(
        self,
        name: str,
        size_bytes: int,
        content_type: str,
        metadata: Mapping[str, str],
        check: Callable[[StreamDigests], None] = lambda _digests: None,
    ) -> Carried:
        """Have the object in the target, whole: copied now, or by a run that did not come to its end.

        ``check`` raises for digests that cannot be right. Raises ObjectNotFound, InTheWay, and what the storages raise;
        StorageNotOurs for a target that may belong to another vault.
        """
        ensure_ours(self._to)
        self._target.ensure_space(size_bytes)
        for last in (False, True):
            note = self._noted(name, size_bytes)
            release_connection()
            try:
                digests = call_with_retry(self._copy, name, size_bytes, content_type, metadata, check)
            except ObjectExists:
                digests = call_with_retry(read_object, self._source, name)
                check(digests)
                if in_target(read_object, self._target, name).sha256 != digests.sha256:
                    log.warning("left_over_damaged", storage=self._to, name=name)
                    self._discard(name, note)
                    continue
                self._on_bytes(digests.size)
            except ObjectDamaged:
                # What is whole where it lies may have been corrupted on its way here.
                if last:
                    raise
                continue
            stat = in_target(self._target.stat, name)
            if differs(stat, digests):
                self._discard(name, note)
                raise CopyDiffers
            return Carried(note, stat, digests)
        raise CopyDiffers

    def _noted(self, name: str, size_bytes: int) -> int:
        """The key of the note of an object that the target has, or is to have. Raises InTheWay where it has none."""
        notes = OrphanedObject.objects.filter(storage_provider=self._to, storage_path=name)
        there, note = self._target.exists(name), notes.first()
        if there and note is None:
            raise InTheWay
        if not there or note is None:
            notes.delete()
            note, _made = OrphanedObject.objects.get_or_create(
                storage_provider=self._to,
                storage_path=name,
                defaults={"size": size_bytes, "first_seen_at": Now()},
            )
        return note.pk

    def _discard(self, name: str, note: int) -> None:
        """Remove what lies in the target, if it is still ours."""
        if not OrphanedObject.objects.filter(pk=note).delete()[0] or is_needed(self._to, name):
            raise InTheWay
        self._target.delete(name)

    def _copy(
        self,
        name: str,
        size_bytes: int,
        content_type: str,
        metadata: Mapping[str, str],
        check: Callable[[StreamDigests], None],
    ) -> StreamDigests:
        digests = StreamDigests()
        with closing(digests), self._source.open_range(name) as file:

            def pieces() -> Iterator[bytes]:
                while piece := file.read(READ_BYTES):
                    digests.update(piece)
                    self._on_bytes(len(piece))
                    yield piece
                digests.close()
                # Before the storage makes it durable: what is not right never stands under the name.
                check(digests)

            try:
                self._target.save(
                    name,
                    StreamedContent(pieces(), expected_bytes=size_bytes),
                    content_type=content_type,
                    metadata=lambda: metadata,
                )
            except BaseException:
                self._on_bytes(-digests.size)
                raise
        return digests


def is_same_place(one: AudioStorage, other: AudioStorage) -> bool:
    """Whether an object of the one would be an object of the other, as far as their locations tell."""
    probe = "audio/probe"
    if one.location_of(probe) != other.location_of(probe):
        return False
    try:
        return one.path(probe) == other.path(probe)
    except NotImplementedError:  # how Django's storages say that they have no paths of this machine
        return True


def read_object(storage: AudioStorage, name: str) -> StreamDigests:
    with storage.open_range(name) as file:
        return digest_of_file(file)


def in_target(look: Callable[..., Result], *args: Any) -> Result:
    """What a look at an object there says. Raises InTheWay for one that was removed meanwhile."""
    try:
        return call_with_retry(look, *args)
    except ObjectNotFound:
        raise InTheWay from None


def differs(stat: ObjectStat, digests: StreamDigests) -> bool:
    """Whether a storage says that it has something else, as far as it can tell."""
    hashes = (("sha256", digests.sha256), ("md5", digests.md5))
    return stat.size != digests.size or any(stat.checksums.get(name, value) != value for name, value in hashes)


def take_notes(alias: str, carried: Iterable[Carried]) -> None:
    """From now on rows name these objects. Raises InTheWay if one is no longer ours; call it in their transaction."""
    keys = {copy.note for copy in carried}
    taken, _by_model = OrphanedObject.objects.filter(storage_provider=alias, pk__in=keys).delete()
    if taken != len(keys):
        raise InTheWay


def note_left_over(alias: str, sizes: Mapping[str, int]) -> None:
    """Note that nobody needs these objects from now on; their grace period begins."""
    OrphanedObject.objects.filter(storage_provider=alias, storage_path__in=sizes).delete()
    OrphanedObject.objects.bulk_create(
        OrphanedObject(storage_provider=alias, storage_path=name, size=size, first_seen_at=Now())
        for name, size in sizes.items()
    )


def remove_left_over(alias: str, name: str) -> bool:
    """Remove an object that was noted as needed by nobody, unless somebody else took the note. Says whether it did."""
    with transaction.atomic():
        noted, _by_model = OrphanedObject.objects.filter(storage_provider=alias, storage_path=name).delete()
        if not noted or is_needed(alias, name):
            return False
    try:
        ensure_ours(alias).delete(name)
    except StorageError as error:
        log.warning("moved_object_left_to_the_sweep", storage=alias, name=name, error=str(error))
        return False
    return True


def is_needed(alias: str, name: str) -> bool:
    rows = AudioUpload.objects.filter(storage_provider=alias)
    parsed = parse_name(name)
    if parsed is not None and rows.filter(pk=parsed.upload_id, thumbnail_path=name).exists():
        return True
    return rows.filter(storage_path=name).exists()

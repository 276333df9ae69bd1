"""Stored objects carried from one storage to another while people use the files.

For each object: the bytes go through here, hashed on their way, and what the other storage then says it has is
compared; one transaction switches all rows that share the object, with their thumbnails; after the commit the source
goes, from a provider only when the last signed URL of it has run out. Killed anywhere, the next run goes on.

An object that no row names yet, or no more, has a note in :class:`OrphanedObject`, as those have that the sweep found,
and the note is its key. A switch takes the note of its target away, and so does whoever removes an object: only one of
them gets it. So nothing is removed that a row has just begun to need, by another run or by the orphan sweep; and
what a killed run left has its grace period.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Sum
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from audiotricks.batches import side_by_side
from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from quotas.models import Workspace
from quotas.reservations import lock_quota
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.formats import image_format
from uploads.hashing import StreamDigests
from uploads.ingest import object_metadata
from uploads.lifecycle import record_event
from uploads.models import HIDDEN, IN_WORK, AudioUpload, AudioUploadQuerySet, OrphanedObject, Status, UploadEvent
from uploads.placing import place_columns
from uploads.storage import get_storage
from uploads.storage.base import AudioStorage, ObjectStat, StreamedContent
from uploads.storage.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)
from uploads.storage.names import parse_name
from uploads.storage.retry import call_with_retry
from uploads.validation import check_intact

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
READ_BYTES = 1024**2
#: How often an object is begun anew because its rows or pictures changed meanwhile.
ATTEMPTS = 5
#: A URL may be signed this long after its row was read.
SIGNING_SECONDS = 10
#: So many objects in a row, and the storage is taken to be out of reach for the others too.
TRANSIENT_FAILURES = 3
#: These hold for every other object as well.
HOPELESS = (StorageFull, CredentialsRefused, BucketNotFound)
#: A worker reads their object, or it is being moved within its storage.
ON_THE_WAY = (*IN_WORK, Status.ARCHIVING, Status.RESTORING)

#: Told how many more bytes were carried; fewer than none for those of an attempt that failed. From several threads.
OnBytes = Callable[[int], None]


class Outcome(StrEnum):
    """What became of an object.

    ``BUSY``: a worker has it in hand. ``IN_THE_WAY``: something lies under its name in the target that nobody may use
    before the orphan sweep has seen it. ``GONE``: its files were deleted meanwhile.
    """

    MOVED = "moved"
    BUSY = "busy"
    ARCHIVED = "archived"
    IN_THE_WAY = "in_the_way"
    FAILED = "failed"
    GONE = "gone"


#: These may be otherwise a little later.
TRIED_AGAIN = (Outcome.BUSY, Outcome.IN_THE_WAY)


@dataclass(frozen=True, slots=True)
class MovedObject:
    """``files`` are the rows that share it, ``size`` is in bytes; ``detail`` tells why it ``FAILED``."""

    name: str
    outcome: Outcome
    files: int = 0
    size: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much there is: files, the objects that they share, and the bytes of these."""

    files: int
    objects: int
    size: int


class SamePlace(DomainError):
    code = "same_storage"
    status = 409
    title = _("Both are the same place: there is nothing to move")


class CopyDiffers(StorageError):
    code = "copy_differs"
    status = 503
    title = _("The other storage does not hold what was written to it; the file stays where it was")


class InTheWay(Exception):
    """What lies in the target belongs to somebody else, or may be removed at this very moment."""


class Changed(Exception):
    """The rows are not what they were when their objects were carried."""


@dataclass(frozen=True, slots=True)
class Carried:
    """An object that the target has now, the key of its note there, and what its bytes are."""

    note: int
    stat: ObjectStat
    digests: StreamDigests


class StorageMove:
    """One run from the storage ``source`` to ``target`` (aliases), of all files or of one workspace's.

    ``limit`` is the most objects to try. Raises PermanentStorageError for a storage that is not configured, SamePlace.
    """

    def __init__(
        self,
        source: str,
        target: str,
        *,
        workspace: Workspace | None = None,
        limit: int | None = None,
        parallel: int = 1,
        on_bytes: OnBytes | None = None,
    ) -> None:
        self._from, self._to = source, target
        self._source, self._target = get_storage(source), get_storage(target)
        if source == target or is_same_place(self._source, self._target):
            raise SamePlace
        self._workspace = workspace
        self._limit = limit
        self._parallel = parallel
        self._on_bytes = on_bytes
        self._stop = threading.Event()
        self._hopeless = threading.Event()
        self._transient_failures = 0
        self._left: deque[tuple[float, list[str]]] = deque()

    def stop(self) -> None:
        """End when the objects in hand are moved, and wait for no signed URL. May be called from a signal handler."""
        self._stop.set()

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def gave_up(self) -> bool:
        """Whether one object's failure said that the others need not be tried."""
        return self._hopeless.is_set()

    def extent(self) -> Extent:
        """What there is to move, without the limit."""
        objects = self._rows().order_by().values("storage_path").annotate(size=Max("file_size"))
        total = objects.aggregate(count=Count("*"), bytes=Sum("size"))
        return Extent(self._rows().count(), total["count"], total["bytes"] or 0)

    def on_their_way(self) -> int:
        """How many files are still arriving in the source, or in work there."""
        return self._scope().filter(status__in=(Status.RECEIVING, *ON_THE_WAY)).count()

    def run(self) -> Iterator[MovedObject]:
        """What became of each object, as it is known; what could not be moved at first is tried once more."""
        again: list[str] = []
        for result in self._moved(islice(self._names(), self._limit)):
            if result.outcome in TRIED_AGAIN:
                again.append(result.name)
            else:
                yield result
            self.remove_left(due_only=True)
        for result in self._moved(again):
            yield result
            self.remove_left(due_only=True)

    def waiting_seconds(self) -> float:
        """How long the last signed URL of a moved object may still be used."""
        return max(0.0, self._left[-1][0] - time.monotonic()) if self._left else 0.0

    def left_objects(self) -> int:
        """How many objects wait in the source for their URLs to run out."""
        return sum(len(names) for _deadline, names in self._left)

    def remove_left(self, *, due_only: bool = False) -> None:
        """Remove what waits in the source, when its time has come; without ``due_only``, wait for it.

        What a stopped run does not remove, the orphan sweep does after the grace period.
        """
        while self._left:
            seconds = self._left[0][0] - time.monotonic()
            if seconds > 0 and (due_only or self._stop.wait(seconds)):
                return
            for name in self._left.popleft()[1]:
                remove_left_over(self._from, name)

    def _scope(self) -> AudioUploadQuerySet:
        rows = AudioUpload.objects.filter(storage_provider=self._from)
        return rows if self._workspace is None else rows.in_workspace(self._workspace)

    def _rows(self) -> AudioUploadQuerySet:
        return self._scope().exclude(status__in=HIDDEN).exclude(storage_path="")

    def _names(self) -> Iterator[str]:
        last = ""
        names = self._rows().order_by("storage_path").values_list("storage_path", flat=True).distinct()
        while batch := list(names.filter(storage_path__gt=last)[:BATCH_SIZE]):
            yield from batch
            last = batch[-1]

    def _moved(self, names: Iterable[str]) -> Iterator[MovedObject]:
        until_stopped = takewhile(lambda _name: not (self.was_stopped or self.gave_up), names)
        return side_by_side(self._take, until_stopped, threads=self._parallel, ahead=0, name="move")

    def _take(self, name: str) -> MovedObject:
        structlog.contextvars.clear_contextvars()
        try:
            result = self._move(name)
        except InTheWay:
            return MovedObject(name, Outcome.IN_THE_WAY)
        except ObjectArchived:
            return MovedObject(name, Outcome.ARCHIVED)
        except DomainError as error:
            self._heed(error)
            return MovedObject(name, Outcome.FAILED, detail=str(error.detail))
        except OSError as error:
            log.error("stored_object_unreadable", storage=self._from, name=name, error=error.strerror)
            return MovedObject(name, Outcome.FAILED, detail=str(PermanentStorageError().detail))
        finally:
            connection.close()
        self._transient_failures = 0
        return result

    def _heed(self, error: DomainError) -> None:
        """Draw from one object's failure what it means for the others."""
        self._transient_failures += isinstance(error, TransientStorageError)
        if isinstance(error, HOPELESS) or self._transient_failures >= TRANSIENT_FAILURES:
            self._hopeless.set()

    def _move(self, name: str) -> MovedObject:
        audio: Carried | None = None
        for _attempt in range(ATTEMPTS):
            rows = list(self._sharers(name))
            if not rows:
                return MovedObject(name, Outcome.GONE)
            if any(row.status in ON_THE_WAY for row in rows):
                break
            owner = owner_of(name, rows)
            if audio is None:
                audio = self._carry_audio(name, owner)
                if audio is None:
                    continue
            try:
                sources = self._switch(name, audio, self._carry_pictures(rows))
            except Changed:
                continue
            if self._source.can_sign:
                self._left.append((time.monotonic() + settings.SIGNED_URL_SECONDS + SIGNING_SECONDS, sources))
            else:
                for source in sources:
                    remove_left_over(self._from, source)
            log.info("object_moved", name=name, source=self._from, target=self._to, files=len(rows))
            return MovedObject(name, Outcome.MOVED, files=len(rows), size=owner.file_size)
        return MovedObject(name, Outcome.BUSY)

    def _sharers(self, name: str) -> AudioUploadQuerySet:
        """The files whose bytes these are."""
        return AudioUpload.objects.filter(storage_provider=self._from, storage_path=name).exclude(status=Status.PURGED)

    # Copying

    def _carry_audio(self, name: str, owner: AudioUpload) -> Carried | None:
        """None if the object is not there because its rows have another one by now."""

        def check(digests: StreamDigests) -> None:
            check_intact(owner, size=digests.size, sha256=digests.sha256, md5=digests.md5)

        facts = {
            "file_size": str(owner.file_size),
            "checksum_md5": owner.checksum_md5,
            "checksum_sha256": owner.checksum_sha256,
            "has_thumbnail": "true" if owner.thumbnail_path else "false",
        }
        metadata = object_metadata(owner) | {key: value for key, value in facts.items() if value}
        try:
            return self._carry(name, owner.file_size, owner.mime_type, metadata, check)
        except ObjectNotFound:
            if not self._sharers(name).exists():
                return None
            raise ObjectLost from None

    def _carry_pictures(self, rows: list[AudioUpload]) -> dict[UUID, tuple["Picture", Carried | None]]:
        """Of each row with a thumbnail, which one, and its object in the target; None where it is missing already."""
        pictures: dict[UUID, tuple[Picture, Carried | None]] = {}
        for row in rows:
            picture = picture_of(row.pk)
            if picture is None:
                continue
            carried = None
            with suppress(ObjectNotFound):
                image, size_bytes = image_format(picture.name), self._source.stat(picture.name).size
                facts = {"audio_id": str(row.pk), "file_type": image.extension, "file_size": str(size_bytes)}
                carried = self._carry(picture.name, size_bytes, image.mime_type, facts)
            pictures[row.pk] = (picture, carried)
        return pictures

    def _carry(
        self,
        name: str,
        size_bytes: int,
        content_type: str,
        metadata: Mapping[str, str],
        check: Callable[[StreamDigests], None] = lambda _digests: None,
    ) -> Carried:
        """Have the object in the target, whole: copied now, or by a run that did not come to its end.

        ``check`` raises for digests that cannot be right. Raises ObjectNotFound, InTheWay, and what the storages raise.
        """
        self._target.ensure_space(size_bytes)
        for last in (False, True):
            note = self._noted(name, size_bytes)
            release_connection()
            try:
                digests = call_with_retry(self._copy, name, size_bytes, content_type, metadata, check)
            except ObjectExists:
                digests = call_with_retry(self._read, self._source, name, check)
                if call_with_retry(self._read, self._target, name).sha256 != digests.sha256:
                    log.warning("left_over_damaged", storage=self._to, name=name)
                    self._discard(name, note)
                    continue
            except ObjectDamaged:
                # What is whole where it lies may have been corrupted on its way here.
                if last:
                    raise
                continue
            stat = self._target.stat(name)
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
                    self._advance(len(piece))
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
                self._advance(-digests.size)
                raise
        return digests

    def _read(
        self, storage: AudioStorage, name: str, check: Callable[[StreamDigests], None] = lambda _digests: None
    ) -> StreamDigests:
        digests = StreamDigests()
        with closing(digests), storage.open_range(name) as file:
            while piece := file.read(READ_BYTES):
                digests.update(piece)
        check(digests)
        return digests

    def _advance(self, count: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(count)

    # Switching

    def _switch(
        self, name: str, audio: Carried, pictures: Mapping[UUID, tuple["Picture", Carried | None]]
    ) -> list[str]:
        """Let all rows of the object name the target; returns what nobody needs in the source any more.

        Raises Changed if the rows are not those that were carried, InTheWay if what was carried is no longer ours.
        """
        columns = place_columns(self._to, name) | {"storage_class": audio.stat.storage_class}
        workspace_id = self._sharers(name).values_list("workspace", flat=True).first()
        if workspace_id is None:
            raise Changed
        with transaction.atomic():
            lock_quota(workspace_id)
            rows = list(self._sharers(name).select_for_update().order_by("pk"))
            if not rows or any(row.status in ON_THE_WAY for row in rows):
                raise Changed
            carried = {name: audio}
            for row in rows:
                check_intact(row, size=audio.digests.size, sha256=audio.digests.sha256, md5=audio.digests.md5)
                picture, its_copy = pictures.get(row.pk, (None, None))
                if picture != picture_of(row.pk):
                    raise Changed
                if picture is not None and its_copy is not None:
                    carried[picture.name] = its_copy
            notes = [copy.note for copy in carried.values()]
            taken, _by_model = OrphanedObject.objects.filter(storage_provider=self._to, pk__in=notes).delete()
            if taken != len(carried):
                raise InTheWay
            AudioUpload.objects.filter(pk__in=[row.pk for row in rows]).update(**columns)
            for row in rows:
                record_event(row, "moved", details={"from": self._from, "to": self._to})
            note_left_over(self._from, {source: copy.digests.size for source, copy in carried.items()})
        return list(carried)


@dataclass(frozen=True, slots=True)
class Picture:
    """A row's thumbnail, and the event with which somebody last set one: the name alone may be that of another."""

    name: str
    set_by: int | None


def picture_of(pk: UUID) -> Picture | None:
    name = AudioUpload.objects.filter(pk=pk).values_list("thumbnail_path", flat=True).first()
    if not name:
        return None
    events = UploadEvent.objects.filter(upload_id=pk, action="thumbnail_set")
    return Picture(name, events.order_by("-id").values_list("id", flat=True).first())


def owner_of(name: str, rows: list[AudioUpload]) -> AudioUpload:
    """The row that the object was stored for, or else the oldest of those that share it."""
    parsed = parse_name(name)
    own = (row for row in rows if parsed is not None and row.pk == parsed.upload_id)
    return next(own, min(rows, key=lambda row: (row.created_at, row.pk)))


def is_same_place(one: AudioStorage, other: AudioStorage) -> bool:
    """Whether an object of the one would be an object of the other, as far as their locations tell."""
    probe = "audio/probe"
    if one.location_of(probe) != other.location_of(probe):
        return False
    try:
        return one.path(probe) == other.path(probe)
    except NotImplementedError:  # how Django's storages say that they have no paths of this machine
        return True


def differs(stat: ObjectStat, digests: StreamDigests) -> bool:
    """Whether a storage says that it has something else, as far as it can tell."""
    hashes = (("sha256", digests.sha256), ("md5", digests.md5))
    return stat.size != digests.size or any(stat.checksums.get(name, value) != value for name, value in hashes)


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
        get_storage(alias).delete(name)
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

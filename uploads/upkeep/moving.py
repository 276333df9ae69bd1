"""Stored objects carried from one storage to another while people use the files.

For each object: the bytes go through here, hashed on their way, and what the other storage then says it has is
compared; one transaction switches all rows that share the object, with their thumbnails; after the commit the source
goes, from a provider only when the last signed URL of it has run out. Killed anywhere, the next run goes on.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Max, Sum

from audiotricks.batches import side_by_side
from audiotricks.errors import DomainError
from media.formats import image_format
from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectArchived,
    ObjectNotFound,
    PermanentStorageError,
    StorageFull,
    TransientStorageError,
)
from objectstore.hashing import StreamDigests
from objectstore.names import parse_name
from quotas.models import Workspace
from quotas.reservations import lock_quota
from uploads.errors import ObjectLost
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadEvent
from uploads.models.states import OBJECT_IN_USE, WITHOUT_OBJECT
from uploads.objects.carrying import Carried, Carrier, InTheWay, OnBytes, note_left_over, remove_left_over, take_notes
from uploads.objects.placing import content_metadata, object_metadata, place_columns, thumbnail_metadata
from uploads.processing.validation import check_intact

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: How often an object is begun anew because its rows or pictures changed meanwhile.
ATTEMPTS = 5
#: A URL may be signed this long after its row was read.
SIGNING_SECONDS = 10
#: So many objects in a row, and the storage is taken to be out of reach for the others too.
TRANSIENT_FAILURES = 3
#: These hold for every other object as well.
HOPELESS = (StorageFull, CredentialsRefused, BucketNotFound)


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


class Changed(Exception):
    """The rows are not what they were when their objects were carried."""


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
        on_bytes: OnBytes = lambda _count: None,
    ) -> None:
        self._from, self._to = source, target
        self._carrier = Carrier(source, target, on_bytes=on_bytes)
        self._workspace = workspace
        self._limit = limit
        self._parallel = parallel
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
        return self._scope().filter(status__in=(Status.RECEIVING, *OBJECT_IN_USE)).count()

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
        return self._scope().exclude(status__in=WITHOUT_OBJECT).exclude(storage_path="")

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
        copies: set[str] = set()
        for _attempt in range(ATTEMPTS):
            rows = list(self._sharers(name))
            if not rows:
                for copy in copies:
                    remove_left_over(self._to, copy)
                return MovedObject(name, Outcome.GONE)
            if any(row.status in OBJECT_IN_USE for row in rows):
                break
            owner = owner_of(name, rows)
            if audio is None:
                audio = self._carry_audio(name, owner)
                if audio is None:
                    continue
            pictures = self._carry_pictures(rows)
            copies |= {name, *(picture.name for picture, _copy in pictures.values())}
            try:
                sources = self._switch(name, audio, pictures)
            except Changed:
                continue
            if self._carrier.leaves_signed_urls:
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

        metadata = object_metadata(owner) | content_metadata(
            size_bytes=owner.file_size,
            md5=owner.checksum_md5,
            sha256=owner.checksum_sha256,
            has_thumbnail=bool(owner.thumbnail_path),
        )
        try:
            return self._carrier.carry(name, owner.file_size, owner.mime_type, metadata, check)
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
                image, size_bytes = image_format(picture.name), self._carrier.size_of(picture.name)
                facts = thumbnail_metadata(row.pk, extension=image.extension, size_bytes=size_bytes)
                carried = self._carrier.carry(picture.name, size_bytes, image.mime_type, facts)
            pictures[row.pk] = (picture, carried)
        return pictures

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
            if not rows or any(row.status in OBJECT_IN_USE for row in rows):
                raise Changed
            carried = {name: audio}
            for row in rows:
                check_intact(row, size=audio.digests.size, sha256=audio.digests.sha256, md5=audio.digests.md5)
                picture, its_copy = pictures.get(row.pk, (None, None))
                if picture != picture_of(row.pk):
                    raise Changed
                if picture is not None and its_copy is not None:
                    carried[picture.name] = its_copy
            take_notes(self._to, carried.values())
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

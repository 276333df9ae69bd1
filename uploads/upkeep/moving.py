"""Moves stored objects to another storage while their files stay in use.

Each is copied and verified, then one transaction gives the copy to all owners. The source keeps its grace period, for
signed URLs and backups. The next run continues a killed one.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice, takewhile

import structlog
from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef, Sum

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
from objectstore.names import parse_name
from quotas.models import Workspace
from uploads.errors import ObjectLost
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, StoredObject, UploadEvent
from uploads.models.objects import StoredObjectQuerySet
from uploads.models.states import OBJECT_IN_USE
from uploads.objects import ledger
from uploads.objects.copying import Copier, InTheWay, OnBytes
from uploads.objects.metadata import content_metadata, object_metadata, thumbnail_metadata

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: Attempts at an object whose owners change meanwhile.
ATTEMPTS = 5
#: After this many objects in a row, the storage counts as unreachable.
TRANSIENT_FAILURES = 3
#: Errors that concern every other object too.
HOPELESS = (StorageFull, CredentialsRefused, BucketNotFound)
OWNED_BY = {StoredObject.Kind.AUDIO: "stored_object", StoredObject.Kind.THUMBNAIL: "thumbnail_object"}


class Outcome(StrEnum):
    """``BUSY``: a worker has it. ``IN_THE_WAY``: an object in the target has its name, until the orphan sweep has seen
    it. ``GONE``: its files were deleted.
    """

    MOVED = "moved"
    BUSY = "busy"
    ARCHIVED = "archived"
    IN_THE_WAY = "in_the_way"
    FAILED = "failed"
    GONE = "gone"


#: Retried at the end of the run.
TRIED_AGAIN = (Outcome.BUSY, Outcome.IN_THE_WAY)


@dataclass(frozen=True, slots=True)
class MovedObject:
    """``files`` is the number of rows, ``size`` in bytes; ``detail`` says why it ``FAILED``."""

    name: str
    outcome: Outcome
    files: int = 0
    size: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    files: int
    objects: int
    size: int


class StorageMove:
    """From ``source`` to ``target`` (aliases), of all or one workspace's files, for ``limit`` objects. Raises
    PermanentStorageError, SamePlace.
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
        self._copier = Copier(source, target, on_bytes=on_bytes)
        self._workspace = workspace
        self._limit = limit
        self._parallel = parallel
        self._stop = threading.Event()
        self._hopeless = threading.Event()
        self._transient_failures = 0

    def stop(self) -> None:
        """After the current objects. Safe in a signal handler."""
        self._stop.set()

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def gave_up(self) -> bool:
        """A failure concerned all other objects."""
        return self._hopeless.is_set()

    def extent(self) -> Extent:
        """Without the limit."""
        total = self._audio().aggregate(count=Count("pk"), bytes=Sum("size_bytes"))
        return Extent(
            self._files().filter(stored_object__in=self._audio()).count(), total["count"], total["bytes"] or 0
        )

    def on_their_way(self) -> int:
        """Files that are arriving or in work in the source."""
        return self._files().filter(status__in=(Status.RECEIVING, *OBJECT_IN_USE)).count()

    def run(self) -> Iterator[MovedObject]:
        """Yield the result of each object, with a second attempt; thumbnails only if they failed."""
        again: list[StoredObject] = []
        for stored, result in self._moved(islice(in_batches(self._audio()), self._limit)):
            if result.outcome in TRIED_AGAIN:
                again.append(stored)
            else:
                yield result
        yield from (result for _stored, result in self._moved(again))
        pictures = (result for _stored, result in self._moved(in_batches(self._pictures())))
        yield from (result for result in pictures if result.outcome not in (Outcome.MOVED, Outcome.GONE))

    def _files(self) -> AudioUploadQuerySet:
        rows = AudioUpload.objects.filter(storage_provider=self._from)
        return rows if self._workspace is None else rows.in_workspace(self._workspace)

    def _audio(self) -> StoredObjectQuerySet:
        rows = AudioUpload.objects.filter(stored_object=OuterRef("pk"))
        return self._in_source(StoredObject.Kind.AUDIO, rows)

    def _pictures(self) -> StoredObjectQuerySet:
        rows = AudioUpload.objects.filter(thumbnail_object=OuterRef("pk"), storage_provider=self._to)
        return self._in_source(StoredObject.Kind.THUMBNAIL, rows)

    def _in_source(self, kind: StoredObject.Kind, owners: AudioUploadQuerySet) -> StoredObjectQuerySet:
        scope = owners if self._workspace is None else owners.in_workspace(self._workspace)
        objects = StoredObject.objects.filter(storage_provider=self._from, kind=kind, state=StoredObject.State.STORED)
        return objects.filter(Exists(scope)).order_by("pk")

    def _moved(self, objects: Iterable[StoredObject]) -> Iterator[tuple[StoredObject, MovedObject]]:
        until_stopped = takewhile(lambda _stored: not (self.was_stopped or self.gave_up), objects)
        return side_by_side(self._take, until_stopped, threads=self._parallel, ahead=0, name="move")

    def _take(self, stored: StoredObject) -> tuple[StoredObject, MovedObject]:
        structlog.contextvars.clear_contextvars()
        try:
            return stored, self._try_to_move(stored)
        finally:
            connection.close()

    def _try_to_move(self, stored: StoredObject) -> MovedObject:
        name = stored.storage_path
        try:
            result = self._move(stored)
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
        self._transient_failures = 0
        return result

    def _heed(self, error: DomainError) -> None:
        """Skip other objects that the failure concerns too."""
        self._transient_failures += isinstance(error, TransientStorageError)
        if isinstance(error, HOPELESS) or self._transient_failures >= TRANSIENT_FAILURES:
            self._hopeless.set()

    def _move(self, stored: StoredObject) -> MovedObject:
        copy: StoredObject | None = None
        for _attempt in range(ATTEMPTS):
            owners = list(owners_of(stored))
            if not owners:
                if copy is not None:
                    ledger.give_up(copy)
                return MovedObject(stored.storage_path, Outcome.GONE)
            if any(row.status in OBJECT_IN_USE for row in owners):
                break
            try:
                copy = copy or self._copied(stored, owner_of(stored.storage_path, owners))
            except ObjectNotFound:
                if stored.kind == StoredObject.Kind.THUMBNAIL:
                    return MovedObject(stored.storage_path, Outcome.GONE)
                raise ObjectLost from None
            if files := self._switch(stored, copy):
                log.info("object_moved", name=stored.storage_path, source=self._from, target=self._to, files=files)
                return MovedObject(stored.storage_path, Outcome.MOVED, files=files, size=stored.size_bytes)
            if not StoredObject.objects.filter(pk=copy.pk).exists():
                # A sweep took the copy for an orphan.
                copy = None
        return MovedObject(stored.storage_path, Outcome.BUSY)

    def _copied(self, stored: StoredObject, owner: AudioUpload) -> StoredObject:
        if stored.kind == StoredObject.Kind.THUMBNAIL:
            image = image_format(stored.storage_path)
            # An earlier version did not store the sizes of thumbnails.
            stored.size_bytes = self._copier.size_of(stored.storage_path)
            facts = thumbnail_metadata(owner.pk, extension=image.extension, size_bytes=stored.size_bytes)
            return self._copier.copy(stored, image.mime_type, facts)
        metadata = object_metadata(owner) | content_metadata(
            size_bytes=owner.file_size,
            md5=owner.checksum_md5,
            sha256=owner.checksum_sha256,
            has_thumbnail=bool(owner.thumbnail_path),
        )
        return self._copier.copy(stored, owner.mime_type, metadata)

    def _switch(self, old: StoredObject, new: StoredObject) -> int:
        """Return the number of owners, or 0 if they or the objects have changed."""
        with transaction.atomic():
            held = ledger.lock([old.pk, new.pk])
            if [row.state for row in held.values()] != [StoredObject.State.STORED] * 2:
                return 0
            owners = list(owners_of(old).select_for_update(of=("self",)).order_by("pk"))
            if not owners or any(row.status in OBJECT_IN_USE for row in owners):
                return 0
            ledger.replace(held[old.pk], held[new.pk])
            if old.kind == StoredObject.Kind.AUDIO:
                details = {"from": self._from, "to": self._to}
                UploadEvent.objects.bulk_create(
                    (
                        UploadEvent(upload_id=row.pk, workspace_id=row.workspace_id, action="moved", details=details)
                        for row in owners
                    ),
                    batch_size=BATCH_SIZE,
                )
        return len(owners)


def in_batches(objects: StoredObjectQuerySet) -> Iterator[StoredObject]:
    last = 0
    while batch := list(objects.filter(pk__gt=last)[:BATCH_SIZE]):
        yield from batch
        last = batch[-1].pk


def owners_of(stored: StoredObject) -> AudioUploadQuerySet:
    rows = AudioUpload.objects.defer("metadata")
    return rows.filter(**{OWNED_BY[StoredObject.Kind(stored.kind)]: stored})


def owner_of(name: str, rows: list[AudioUpload]) -> AudioUpload:
    """The file that the object was stored for, or the oldest that shares it."""
    parsed = parse_name(name)
    own = (row for row in rows if parsed is not None and row.pk == parsed.upload_id)
    return next(own, min(rows, key=lambda row: (row.created_at, row.pk)))

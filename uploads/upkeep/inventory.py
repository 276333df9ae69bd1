"""Compares rows and stored objects of the whole vault, in constant memory, and repairs differences.

Findings are confirmed by reading the row again, since a removal commits it first. Skips files in transition and objects
younger than ORPHAN_GRACE_HOURS.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from itertools import chain, groupby, takewhile
from operator import attrgetter
from uuid import UUID

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from audiotricks.batches import batched, side_by_side
from audiotricks.clock import Now, earliest_now
from audiotricks.database import release_connection
from objectstore import audio_storages, get_storage, objects_in
from objectstore.base import AudioStorage, ObjectStat
from objectstore.errors import ObjectArchived, ObjectNotFound, PermanentStorageError
from objectstore.hashing import StreamDigests
from objectstore.listing import Listing, listed
from objectstore.retry import ONCE, call_with_retry, retry_policy
from quotas.models import Workspace
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, StoredObject
from uploads.models.states import UNSETTLED
from uploads.objects import ledger
from uploads.objects.brake import Subject, Sweep, released
from uploads.objects.marks import FOLDER, look_at_mark, why_held
from uploads.objects.orphans import due_in, note_unneeded, remove_unneeded, without_owner
from uploads.objects.read import digest_object, ensure_whole, examine_object
from uploads.upkeep.verification import is_recorded, note_whole, record_fault, unchanged

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: A batch of objects that are read to their end.
DEEP_BATCH_SIZE = 16
Fault = ObjectLost | ObjectDamaged | PermanentStorageError
#: Called with the number of further files or objects, by one thread at a time.
Progress = Callable[[int], None]


class Kind(StrEnum):
    """``UNREADABLE``: the storage could not say. ``HELD``: it may not be ours."""

    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_HASH = "wrong_hash"
    MISSING_THUMBNAIL = "missing_thumbnail"
    ORPHANED = "orphaned"
    UNREADABLE = "unreadable"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Finding:
    """An orphan has no ``upload_id``; sizes are in bytes, hashes hexadecimal."""

    kind: Kind
    storage: str
    name: str
    upload_id: UUID | None = None
    workspace_id: UUID | None = None
    expected: int | str | None = None
    found: int | str | None = None
    detail: str = ""
    repaired: bool = False


class Inventory:
    """One check, with running ``counts``.

    ``deep`` reads every object, compares hashes, and sets ``verified_at`` of whole files. ``workspace`` limits it to
    one workspace's files, without orphans. ``fix`` confirms each finding under a lock, then:

    - replaces a missing or damaged object by a whole one with the same SHA-256 in the workspace;
    - forgets a missing thumbnail;
    - removes an orphan ORPHAN_GRACE_HOURS after it was first seen, which may be now.

    Other faults are recorded in the event log once, and found again each time.
    """

    def __init__(
        self,
        *,
        workspace: Workspace | None = None,
        storage: str | None = None,
        deep: bool = False,
        fix: bool = False,
        parallel: int = 1,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._workspace = workspace
        self._storage = storage
        self._deep = deep
        self._fix = fix
        self._parallel = parallel
        self._stop = threading.Event()
        self._counting = threading.Lock()
        self._on_progress: Progress | None = None
        self._listings: dict[str, Listing] = {}
        self._released: dict[str, set[int]] = {}

    def stop(self) -> None:
        """Safe in a signal handler."""
        self._stop.set()

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    def rows(self) -> AudioUploadQuerySet:
        rows = AudioUpload.objects.exclude(status=Status.PURGED)
        if self._storage is not None:
            rows = rows.filter(storage_provider=self._storage)
        return rows if self._workspace is None else rows.in_workspace(self._workspace)

    def look_at_files(self, on_progress: Progress | None = None) -> Iterator[Finding]:
        """Compare rows with objects, listed or requested. Raises a StorageError if a storage does not respond."""
        self._on_progress = on_progress
        with ExitStack() as stack:
            if self._workspace is None:
                for alias, storage in self.storages().items():
                    if storage.directory is None:
                        self._listings[alias] = stack.enter_context(listed(self._objects_of(storage)))
            until_stopped = takewhile(lambda _batch: not self.was_stopped, self._batches())
            examined = side_by_side(self._examine, until_stopped, threads=self._parallel, ahead=1, name="inventory")
            yield from chain.from_iterable(examined)
            self._listings.clear()

    def look_at_objects(self, on_progress: Progress | None = None) -> Iterator[Finding]:
        """Find objects without an owner. Raises a StorageError if a storage does not respond."""
        self._on_progress = on_progress
        if self._workspace is not None:
            return
        before = earliest_now() - timedelta(hours=settings.ORPHAN_GRACE_HOURS)
        marks = [look_at_mark(alias) for alias in self.storages()]
        held = {mark.alias: why for mark in marks if (why := why_held(mark))}
        for alias, why in held.items():
            yield Finding(Kind.HELD, alias, FOLDER, detail=str(why))
        for alias, storage in self.storages().items():
            if alias in held:
                continue
            for stats in batched(self._objects_of(storage), BATCH_SIZE):
                if self.was_stopped:
                    return
                orphans = without_owner(alias, stats)
                old = [orphan for orphan in orphans if orphan.modified_at < before]
                self._count(objects=len(stats), young_objects=len(orphans) - len(old))
                yield from self._orphans(alias, old, before)

    def storages(self) -> dict[str, AudioStorage]:
        return {alias: one for alias, one in audio_storages().items() if self._storage in (None, alias)}

    def _objects_of(self, storage: AudioStorage) -> Iterator[ObjectStat]:
        return takewhile(lambda _stat: not self.was_stopped, objects_in(storage))

    def _listed_size(self, alias: str, name: str) -> int | None:
        listing = self._listings.get(alias)
        return listing.size_of(name) if listing else None

    # Files

    def _batches(self) -> Iterator[list[AudioUpload]]:
        """By object names, so that rows with a shared object are together."""
        size = DEEP_BATCH_SIZE if self._deep else BATCH_SIZE
        rows = self.rows().select_related("thumbnail_object").defer("metadata").order_by("storage_path")
        owned = StoredObject.objects.filter(Exists(self.rows().filter(stored_object=OuterRef("pk"))))
        for alias in list(self.rows().order_by().values_list("storage_provider", flat=True).distinct()):
            last, objects = "", owned.filter(storage_provider=alias).order_by("storage_path")
            while batch := list(objects.filter(storage_path__gt=last)[:size]):
                yield list(rows.filter(stored_object__in=batch))
                last = batch[-1].storage_path

    def _examine(self, batch: list[AudioUpload]) -> list[Finding]:
        try:
            at_rest = [upload for upload in batch if upload.status not in UNSETTLED]
            self._count(files=len(batch), on_the_way=len(batch) - len(at_rest))
            findings: list[Finding] = []
            whole: list[UUID] = []
            for _name, group in groupby(at_rest, key=attrgetter("storage_path")):
                if self.was_stopped:
                    break
                for upload, fault in self._faults(list(group)):
                    if fault is None:
                        whole.append(upload.pk)
                    elif finding := self._judge(upload, fault):
                        findings.append(finding)
            if self._deep:
                note_whole(whole)
            findings += filter(None, map(self._look_at_thumbnail, at_rest))
            return findings
        finally:
            connection.close()

    def _faults(self, sharing: list[AudioUpload]) -> Iterator[tuple[AudioUpload, Fault | None]]:
        """For rows that share an object, from one look."""
        first = sharing[0]
        try:
            if self._deep:
                release_connection()
                digests = call_with_retry(digest_object, first)
                found = digests.facts
                self._count(bytes_read=digests.size)
            elif (listed_size := self._listed_size(first.storage_provider, first.storage_path)) == first.file_size:
                found = {"size": listed_size}
            else:
                stat = call_with_retry(stat_or_none, first.storage_provider, first.storage_path)
                if stat is None:
                    raise ObjectLost
                found = {"size": stat.size}
        except ObjectArchived:
            # It exists, but cannot be read before a restore.
            return
        except (ObjectDamaged, ObjectLost, PermanentStorageError) as error:
            yield from ((upload, error) for upload in sharing)
        except OSError as error:
            log.error("stored_object_unreadable", name=first.storage_path, error=error.strerror)
            yield from ((upload, PermanentStorageError()) for upload in sharing)
        else:
            for upload in sharing:
                try:
                    ensure_whole(upload, found)
                except ObjectDamaged as error:
                    yield upload, error
                else:
                    yield upload, None

    def _judge(self, upload: AudioUpload, fault: Fault) -> Finding | None:
        """The finding or its repair; None if the row has changed."""
        if isinstance(fault, PermanentStorageError):
            return finding_of(upload, fault)
        if self._fix:
            try:
                return repair_object(upload, deep=self._deep)
            except PermanentStorageError as error:
                return finding_of(upload, error)
        still = unchanged(upload).exclude(status__in=UNSETTLED).exists()
        return finding_of(upload, fault) if still else None

    def _look_at_thumbnail(self, upload: AudioUpload) -> Finding | None:
        picture = upload.thumbnail_object
        if picture is None or self.was_stopped:
            return None
        alias, name = picture.storage_provider, picture.storage_path
        self._count(thumbnails=1)
        if self._listed_size(alias, name) is not None:
            return None
        try:
            if call_with_retry(stat_or_none, alias, name) is not None:
                return None
            # Replacing a thumbnail first removes its name from the row, so only under the row's lock is it certainly
            # missing. A slow storage delays only this file.
            with transaction.atomic(), retry_policy(ONCE):
                ledger.lock([picture.pk])
                row = AudioUpload.objects.select_for_update(of=("self",)).filter(pk=upload.pk, thumbnail_object=picture)
                if not row.exclude(status__in=UNSETTLED).first() or stat_or_none(alias, name) is not None:
                    return None
                if self._fix:
                    row.update(thumbnail_object=None, thumbnail_path="")
                    ledger.release([picture.pk])
                    record_event(upload, "thumbnail_removed", details={"missing": name})
        except PermanentStorageError as error:
            return replace(finding_of(upload, error), name=name)
        return Finding(Kind.MISSING_THUMBNAIL, alias, name, upload.pk, upload.workspace_id, repaired=self._fix)

    # Orphans

    def _orphans(self, alias: str, orphans: list[ObjectStat], before: datetime) -> Iterator[Finding]:
        may_go = partial(self._may_go, before)
        if self._fix:
            note_unneeded(alias, orphans)
        for orphan in orphans:
            stat = stat_or_none(alias, orphan.name)
            if stat is None or not without_owner(alias, [stat]):
                continue
            noted = StoredObject.objects.unneeded().filter(storage_provider=alias, storage_path=orphan.name).first()
            finding = Finding(Kind.ORPHANED, alias, orphan.name, found=orphan.size, detail=_when_it_goes(noted))
            if self._fix and noted is not None and may_go(noted):
                # Else it has an owner, or a sweep was faster.
                if remove_unneeded(noted, before):
                    yield replace(finding, detail="", repaired=True)
            else:
                yield finding

    def _may_go(self, before: datetime, noted: StoredObject) -> bool:
        """After its grace period, if the brake releases it, as decided once for each storage."""
        alias = noted.storage_provider
        if alias not in self._released:
            free = released(Subject(Sweep.ORPHANS, storage=alias), due_in(alias, before), moment="unneeded_since")
            self._released[alias] = set(free.values_list("pk", flat=True))
        return noted.pk in self._released[alias]

    def _count(self, **numbers: int) -> None:
        with self._counting:
            self.counts.update(numbers)
            if self._on_progress is not None:
                self._on_progress(numbers.get("files", 0) + numbers.get("objects", 0))


def _when_it_goes(noted: StoredObject | None) -> str:
    if noted is None or noted.unneeded_since is None:
        return _("It was not known as an orphan: its grace period begins with the next sweep, or with --fix.")
    end = noted.unneeded_since + timedelta(hours=settings.ORPHAN_GRACE_HOURS)
    return _("Its grace period ends on %(moment)s.") % {"moment": date_format(end, "DATETIME_FORMAT")}


def finding_of(upload: AudioUpload, fault: Fault) -> Finding:
    if isinstance(fault, ObjectDamaged):
        kind = Kind.WRONG_SIZE if fault.members["what"] == "size" else Kind.WRONG_HASH
    else:
        kind = Kind.MISSING if isinstance(fault, ObjectLost) else Kind.UNREADABLE
    return Finding(
        kind,
        upload.storage_provider,
        upload.storage_path,
        upload.pk,
        upload.workspace_id,
        expected=fault.members.get("expected"),
        found=fault.members.get("found"),
        detail=str(fault.detail),
    )


# Repairs


def repair_object(upload: AudioUpload, *, deep: bool) -> Finding | None:
    """Replace the row's faulty object by a whole one with the same SHA-256 from the workspace; None if nothing is wrong
    any more. The old one gets its grace period.

    Candidates are read before the locks of both objects and the row, under which nothing may have changed. A remote
    object is checked just before, since a slow provider must block nobody. Raises PermanentStorageError if the storage
    cannot say.
    """
    while True:
        with suppress(AudioUpload.DoesNotExist):
            upload.refresh_from_db()
        if upload.status in UNSETTLED or not unchanged(upload).exists():
            return None
        seen = call_with_retry(stat_or_none, upload.storage_provider, upload.storage_path)
        fault = _fault_of(upload, seen, deep=deep)
        if fault is None:
            return None
        whole = next((stored for stored in _objects_instead(upload) if _is_whole(stored)), None)
        is_far = get_storage(upload.storage_provider).directory is None
        if is_far and stat_or_none(upload.storage_provider, upload.storage_path) != seen:
            continue
        with transaction.atomic():
            held = ledger.lock([upload.stored_object_id, whole.pk if whole else None])
            row = unchanged(upload).exclude(status__in=UNSETTLED).select_for_update().first()
            if row is None or (not is_far and stat_or_none(row.storage_provider, row.storage_path) != seen):
                continue
            instead = _objects_instead(row).filter(pk=whole.pk).first() if whole and whole.pk in held else None
            if instead is None:
                if not is_recorded(row, fault):
                    record_fault(row, fault, actor=None)
                return finding_of(row, fault)
            AudioUpload.objects.filter(pk=row.pk).update(**ledger.owning(AudioUpload, "stored_object", instead))
            ledger.share(instead, verified_at=Now())
            ledger.release([row.stored_object_id])
            details = {"from": row.storage_path, "to": instead.storage_path}
            record_event(row, "object_replaced", details=details)
        log.warning("stored_object_replaced", upload_id=str(row.pk), **details)
        return replace(finding_of(row, fault), repaired=True)


def _objects_instead(upload: AudioUpload) -> QuerySet[StoredObject]:
    """With the same bytes, also of files in the trash, oldest first."""
    files = AudioUpload.objects.filter(workspace_id=upload.workspace_id).exclude(status__in=UNSETTLED)
    return (
        StoredObject.objects.filter(
            storage_provider=upload.storage_provider,
            storage_class=upload.storage_class,
            checksum_sha256=upload.checksum_sha256,
            size_bytes=upload.file_size,
            state=StoredObject.State.STORED,
        )
        .exclude(checksum_sha256="")
        .exclude(uploads=upload)
        .filter(Exists(files.filter(stored_object=OuterRef("pk"))))
        .order_by("pk")
    )


def _is_whole(stored: StoredObject) -> bool:
    return isinstance(examine_object(stored), StreamDigests)


def _fault_of(upload: AudioUpload, seen: ObjectStat | None, *, deep: bool) -> ObjectLost | ObjectDamaged | None:
    if seen is None:
        return ObjectLost()
    if deep:
        found = call_with_retry(examine_object, upload)
        return None if isinstance(found, StreamDigests) else found
    try:
        ensure_whole(upload, {"size": seen.size})
    except ObjectDamaged as error:
        return error
    return None


def stat_or_none(alias: str, name: str) -> ObjectStat | None:
    try:
        return get_storage(alias).stat(name)
    except ObjectNotFound:
        return None

"""What rows and stored objects say of each other, over the whole vault in constant memory, and what can be put right.

Looking holds no lock. A finding counts only if its row, read again afterwards, still needs what is not there: whatever
removes an object commits the row first. What is on its way (arriving, in work, moving to or from the archive) is not
judged, and neither are objects younger than ORPHAN_GRACE_HOURS.
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
from django.db.models import QuerySet
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
from quotas.reservations import lock_quota
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, AudioUploadQuerySet, OrphanedObject, Status
from uploads.models.states import UNSETTLED
from uploads.objects.brake import Subject, Sweep, released
from uploads.objects.marks import FOLDER, look_at_mark, why_held
from uploads.objects.placing import object_of
from uploads.processing.validation import check_intact, digest_object
from uploads.upkeep.sweeps import note_orphans, remove_orphan, unneeded
from uploads.upkeep.verification import examine_object, is_recorded, record_fault, unchanged

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: Of objects that are read to their end.
DEEP_BATCH_SIZE = 16
Fault = ObjectLost | ObjectDamaged | PermanentStorageError
#: Told how many more files or objects have been looked at; from one thread at a time.
Progress = Callable[[int], None]


class Kind(StrEnum):
    """``UNREADABLE`` is what the storage would not say anything about; ``HELD`` a storage that may not be ours."""

    MISSING = "missing"
    WRONG_SIZE = "wrong_size"
    WRONG_HASH = "wrong_hash"
    MISSING_THUMBNAIL = "missing_thumbnail"
    ORPHANED = "orphaned"
    UNREADABLE = "unreadable"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. An orphan has no ``upload_id``; a size is in bytes, a hash hexadecimal."""

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
    """One check. ``counts`` tells at any time what has been looked at.

    ``deep`` reads every object and compares hashes; a file whose object is whole gets its ``verified_at``.
    ``workspace`` narrows it to one workspace's files; orphans belong to none and are then not looked for. ``fix`` puts
    right what it can, each finding looked at again under a lock:

    - a missing or damaged object is replaced by a whole one with the same SHA-256 out of the same workspace;
    - a thumbnail that is missing is forgotten;
    - an orphan is removed when ORPHAN_GRACE_HOURS have passed since it was first seen; if this is the first time, they
      begin now.

    What cannot be put right is written into the file's history once, and found again each time.
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
        """End soon. May be called from a signal handler."""
        self._stop.set()

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    def rows(self) -> AudioUploadQuerySet:
        """The files that there are to look at."""
        rows = AudioUpload.objects.exclude(status=Status.PURGED)
        if self._storage is not None:
            rows = rows.filter(storage_provider=self._storage)
        return rows if self._workspace is None else rows.in_workspace(self._workspace)

    def look_at_files(self, on_progress: Progress | None = None) -> Iterator[Finding]:
        """From each row to its object. Raises a StorageError where a storage cannot be asked at all.

        What a remote storage lists as it should be is not asked for by itself.
        """
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
        """From each object to the row that needs it. Raises a StorageError like the other one."""
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
                orphans = unneeded(alias, stats)
                old = [orphan for orphan in orphans if orphan.modified_at < before]
                self._count(objects=len(stats), young_objects=len(orphans) - len(old))
                yield from self._orphans(alias, old, before)

    def storages(self) -> dict[str, AudioStorage]:
        """Those that there are to look at, by their aliases."""
        return {alias: one for alias, one in audio_storages().items() if self._storage in (None, alias)}

    def _objects_of(self, storage: AudioStorage) -> Iterator[ObjectStat]:
        return takewhile(lambda _stat: not self.was_stopped, objects_in(storage))

    def _listed_size(self, alias: str, name: str) -> int | None:
        listing = self._listings.get(alias)
        return listing.size_of(name) if listing else None

    # Files

    def _batches(self) -> Iterator[list[AudioUpload]]:
        """Rows in the order of their objects' names, so that those who share an object are together."""
        size = DEEP_BATCH_SIZE if self._deep else BATCH_SIZE
        rows = self.rows().exclude(storage_path="").defer("metadata")
        for alias in list(rows.order_by().values_list("storage_provider", flat=True).distinct()):
            of_alias, last = rows.filter(storage_provider=alias).order_by("storage_path"), ""
            names = of_alias.values_list("storage_path", flat=True).distinct()
            while batch := list(names.filter(storage_path__gt=last)[:size]):
                yield list(of_alias.filter(storage_path__in=batch))
                last = batch[-1]

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
                AudioUpload.objects.filter(pk__in=whole).update(verified_at=Now())
            findings += filter(None, map(self._look_at_thumbnail, at_rest))
            return findings
        finally:
            connection.close()

    def _faults(self, sharing: list[AudioUpload]) -> Iterator[tuple[AudioUpload, Fault | None]]:
        """What is wrong for each of the rows that share one object, which is looked at once."""
        first = sharing[0]
        try:
            if self._deep:
                release_connection()
                digests = call_with_retry(digest_object, first)
                known = (digests.size, digests.sha256, digests.md5)
                self._count(bytes_read=digests.size)
            elif (listed_size := self._listed_size(first.storage_provider, first.storage_path)) == first.file_size:
                known = (listed_size, "", "")
            else:
                stat = call_with_retry(stat_or_none, first.storage_provider, first.storage_path)
                if stat is None:
                    raise ObjectLost
                known = (stat.size, "", "")
        except ObjectArchived:
            # It is there, and its bytes say nothing before it is restored.
            return
        except (ObjectDamaged, ObjectLost, PermanentStorageError) as error:
            yield from ((upload, error) for upload in sharing)
        except OSError as error:
            log.error("stored_object_unreadable", name=first.storage_path, error=error.strerror)
            yield from ((upload, PermanentStorageError()) for upload in sharing)
        else:
            size, sha256, md5 = known
            for upload in sharing:
                try:
                    check_intact(upload, size=size, sha256=sha256, md5=md5)
                except ObjectDamaged as error:
                    yield upload, error
                else:
                    yield upload, None

    def _judge(self, upload: AudioUpload, fault: Fault) -> Finding | None:
        """A finding, if the row is still what it was when its object was looked at; put right if that is wanted."""
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
        alias, name = upload.storage_provider, upload.thumbnail_path
        if not name or self.was_stopped:
            return None
        self._count(thumbnails=1)
        if self._listed_size(alias, name) is not None:
            return None
        try:
            if call_with_retry(stat_or_none, alias, name) is not None:
                return None
            # Whoever replaces it takes the old name out of the row first, and needs the row to put in the new one.
            # So only under the row's lock it is sure to be missing; a storage that stalls holds up this one file.
            with transaction.atomic(), retry_policy(ONCE):
                row = AudioUpload.objects.select_for_update().filter(pk=upload.pk, thumbnail_path=name)
                if not row.exclude(status__in=UNSETTLED).first() or stat_or_none(alias, name) is not None:
                    return None
                if self._fix:
                    row.update(thumbnail_path="")
                    record_event(upload, "thumbnail_removed", details={"missing": name})
        except PermanentStorageError as error:
            return replace(finding_of(upload, error), name=name)
        return Finding(Kind.MISSING_THUMBNAIL, alias, name, upload.pk, upload.workspace_id, repaired=self._fix)

    # Orphans

    def _orphans(self, alias: str, orphans: list[ObjectStat], before: datetime) -> Iterator[Finding]:
        may_go = partial(self._may_go, before)
        if self._fix:
            note_orphans(alias, orphans)
        for orphan in orphans:
            stat = stat_or_none(alias, orphan.name)
            if stat is None or not unneeded(alias, [stat]):
                continue
            noted = OrphanedObject.objects.filter(storage_provider=alias, storage_path=orphan.name).first()
            finding = Finding(Kind.ORPHANED, alias, orphan.name, found=orphan.size, detail=_when_it_goes(noted))
            if self._fix and noted is not None and noted.first_seen_at < before and may_go(noted):
                # Otherwise it is needed after all, or a sweep was faster.
                if remove_orphan(noted, before):
                    yield replace(finding, detail="", repaired=True)
            else:
                yield finding

    def _may_go(self, before: datetime, noted: OrphanedObject) -> bool:
        """Whether the brake of the sweeps lets it go; judged once a storage, before anything of it is removed."""
        alias = noted.storage_provider
        if alias not in self._released:
            due = OrphanedObject.objects.filter(storage_provider=alias, first_seen_at__lt=before)
            free = released(Subject(Sweep.ORPHANS, storage=alias), due, moment="first_seen_at")
            self._released[alias] = set(free.values_list("pk", flat=True))
        return noted.pk in self._released[alias]

    def _count(self, **numbers: int) -> None:
        with self._counting:
            self.counts.update(numbers)
            if self._on_progress is not None:
                self._on_progress(numbers.get("files", 0) + numbers.get("objects", 0))


def _when_it_goes(noted: OrphanedObject | None) -> str:
    if noted is None:
        return _("Nobody saw it as an orphan before: its grace period begins with the next sweep, or with --fix.")
    end = noted.first_seen_at + timedelta(hours=settings.ORPHAN_GRACE_HOURS)
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


# Putting right


def repair_object(upload: AudioUpload, *, deep: bool) -> Finding | None:
    """Look once more at a row whose object is not what it should be, and give it a whole one if the workspace has one.

    Whole objects with the same SHA-256 are read before any lock is taken. Then, under the locks of the quota row (which
    every purge takes) and of the row, both must be what they were: the row by its columns, its object by size and time.
    If one is not, all is looked at anew. A provider that stalls must not hold up a workspace, so the object of a remote
    storage is looked at right before the locks: if it comes back after that it is replaced, and nothing is lost. None
    when there is nothing wrong any more. Its old object stays where it is: if nobody else needs it, it is an orphan now
    and has its grace.

    Raises PermanentStorageError where the storage cannot tell.
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
        whole = _whole_objects(twins_to_share(upload))
        is_far = get_storage(upload.storage_provider).directory is None
        if is_far and stat_or_none(upload.storage_provider, upload.storage_path) != seen:
            continue
        with transaction.atomic():
            lock_quota(upload.workspace_id)
            row = unchanged(upload).exclude(status__in=UNSETTLED).select_for_update().first()
            if row is None or (not is_far and stat_or_none(row.storage_provider, row.storage_path) != seen):
                continue
            twin = twins_to_share(row).filter(storage_path__in=whole).first()
            if twin is None:
                if not is_recorded(row, fault):
                    record_fault(row, fault, actor=None)
                return finding_of(row, fault)
            AudioUpload.objects.filter(pk=row.pk).update(**object_of(twin))
            details = {"from": row.storage_path, "to": twin.storage_path}
            record_event(row, "object_replaced", details=details)
        log.warning("stored_object_replaced", upload_id=str(row.pk), **details)
        return replace(finding_of(row, fault), repaired=True)


def twins_to_share(upload: AudioUpload) -> QuerySet[AudioUpload]:
    """The workspace's files that arrived with the same bytes and have an object of their own, oldest first.

    In the trash too: a purge looks who shares an object before it removes it.
    """
    return (
        AudioUpload.objects.filter(
            workspace_id=upload.workspace_id,
            storage_provider=upload.storage_provider,
            storage_class=upload.storage_class,
            checksum_sha256=upload.checksum_sha256,
            file_size=upload.file_size,
        )
        .exclude(checksum_sha256="")
        .exclude(storage_path=upload.storage_path)
        .exclude(status__in=UNSETTLED)
        .order_by("uploaded_at", "id")
    )


def _whole_objects(uploads: QuerySet[AudioUpload]) -> set[str]:
    """The names of their objects that are whole, once the first is found."""
    for upload in {upload.storage_path: upload for upload in uploads}.values():
        if isinstance(examine_object(upload), StreamDigests):
            return {upload.storage_path}
    return set()


def _fault_of(upload: AudioUpload, seen: ObjectStat | None, *, deep: bool) -> ObjectLost | ObjectDamaged | None:
    if seen is None:
        return ObjectLost()
    if deep:
        found = call_with_retry(examine_object, upload)
        return None if isinstance(found, StreamDigests) else found
    try:
        check_intact(upload, size=seen.size)
    except ObjectDamaged as error:
        return error
    return None


def stat_or_none(alias: str, name: str) -> ObjectStat | None:
    try:
        return get_storage(alias).stat(name)
    except ObjectNotFound:
        return None

"""Objects without an owner, removed after their grace period."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from audiotricks.batches import batched
from audiotricks.clock import Now, earliest_now
from objectstore import audio_storages, objects_in
from objectstore.base import ObjectStat
from objectstore.errors import ObjectNotFound, PermanentStorageError, StorageError
from objectstore.names import ParsedName, parse_name
from uploads.models import StoredObject
from uploads.models.objects import StoredObjectQuerySet
from uploads.objects import ledger
from uploads.objects.brake import Subject, Sweep, released
from uploads.objects.conditions import asking, storages_left_alone
from uploads.objects.marks import ensure_ours, held_storages

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
State = StoredObject.State


def sweep_orphaned_objects() -> dict[str, int]:
    """Remove objects without an owner for ORPHAN_GRACE_HOURS, from storages that are ours. That of an object without a
    row begins when a sweep first sees it. Only names that we make count.
    """
    before = earliest_now() - timedelta(hours=settings.ORPHAN_GRACE_HOURS)
    noted = removed = held = 0
    storages = audio_storages()
    # All marks first: the last one may show the same place as the first.
    ours = [alias for alias in storages if may_remove_from(alias)]
    for alias in [alias for alias in ours if alias not in held_storages()]:
        due = due_in(alias, before)
        try:
            with asking(alias):
                for stats in batched(objects_in(storages[alias]), BATCH_SIZE):
                    old = [stat for stat in without_owner(alias, stats) if stat.modified_at < before]
                    noted += note_unneeded(alias, old)
                count = due.count()
                free = released(Subject(Sweep.ORPHANS, storage=alias), due, moment="unneeded_since")
                held += count - free.count()
                removed += sum([_tried_to_remove(stored, before) for stored in free.iterator()])
        except StorageError as error:
            # A failing storage must not stop the others; the next run looks at it again.
            log.error("orphans_not_swept", storage=alias, error=str(error))
    return {"noted": noted, "removed": removed, "held": held} | left_alone()


def may_remove_from(alias: str) -> bool:
    """Looks at the mark now, unless the storage failed recently."""
    if alias in storages_left_alone():
        return False
    try:
        with asking(alias):
            ensure_ours(alias, within_seconds=0)
    except StorageError as error:
        log.error("storage_not_swept", storage=alias, error=str(error))
        return False
    return True


def left_alone() -> dict[str, int]:
    """The number of storages left alone, for the result of a run; empty if all respond."""
    left = storages_left_alone() & set(audio_storages())
    return {"storages_left_alone": len(left)} if left else {}


def due_in(alias: str, before: datetime) -> StoredObjectQuerySet:
    return StoredObject.objects.filter(storage_provider=alias, unneeded_since__lt=before)


def without_owner(alias: str, stats: Iterable[ObjectStat]) -> list[ObjectStat]:
    """Under our names, without a row or an owner."""
    ours = {stat.name: stat for stat in stats if parse_name(stat.name) is not None}
    # Rows of a storage that is no longer configured may mean this place.
    here = Q(storage_provider=alias) | ~Q(storage_provider__in=list(audio_storages()))
    owned = StoredObject.objects.filter(here, storage_path__in=ours).owned()
    needed = set(owned.values_list("storage_path", flat=True))
    return [stat for name, stat in ours.items() if name not in needed]


def note_unneeded(alias: str, stats: Iterable[ObjectStat]) -> int:
    """By the database's clock, unless the grace period has begun."""
    found = {stat.name: stat for stat in stats}
    known = StoredObject.objects.filter(storage_provider=alias, storage_path__in=found)
    begun = known.unneeded().count()
    StoredObject.objects.bulk_create(
        [
            StoredObject(
                storage_provider=alias,
                storage_path=stat.name,
                kind=kind_of(parsed),
                state=State.STORED,
                size_bytes=stat.size,
                storage_class=stat.storage_class,
                written_at=stat.modified_at,
                unneeded_since=Now(),
            )
            for stat in found.values()
            if (parsed := parse_name(stat.name))
        ],
        ignore_conflicts=True,
    )
    if ownerless := list(known.filter(unneeded_since=None).without_owner().values_list("pk", flat=True)):
        with transaction.atomic():
            ledger.lock(ownerless)
            ledger.release(ownerless)
    return len(found) - begun


def kind_of(parsed: ParsedName) -> StoredObject.Kind:
    return StoredObject.Kind.AUDIO if parsed.kind == "audio" else StoredObject.Kind.THUMBNAIL


def _tried_to_remove(stored: StoredObject, before: datetime) -> bool:
    """A failure (a retention lock) is retried later."""
    try:
        return remove_unneeded(stored, before)
    except PermanentStorageError as error:
        log.error("orphan_not_removed", storage=stored.storage_provider, name=stored.storage_path, error=str(error))
        StoredObject.objects.filter(pk=stored.pk, state=State.REMOVING).update(state=State.STORED, unneeded_since=Now())
        return False


def remove_unneeded(stored: StoredObject, before: datetime) -> bool:
    """Look again under the lock; return whether the object was removed. One with an owner, or written anew, stays."""
    storage = ensure_ours(stored.storage_provider)
    try:
        there = storage.stat(stored.storage_path)
    except ObjectNotFound:
        there = None
    with transaction.atomic():
        due = due_in(stored.storage_provider, before).filter(pk=stored.pk)
        row = due.select_for_update(skip_locked=True).first()
        if row is None:
            return False
        if StoredObject.objects.filter(pk=row.pk).owned().exists():
            ledger.share(row)
            return False
        if there is None:
            row.delete()
            return False
        if there.modified_at >= before:
            ledger.release([row.pk])
            return False
        ledger.discard([row.pk])
    if not ledger.remove(row):
        return False
    log.info("orphan_removed", name=row.storage_path, bytes=row.size_bytes)
    return True

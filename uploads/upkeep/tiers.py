"""Copies storage classes that providers changed into the rows."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import structlog
from django.db import transaction

from audiotricks.batches import batched
from audiotricks.database import let_others_write
from objectstore import audio_storages, objects_in
from objectstore.base import AudioStorage, Availability, ObjectStat
from objectstore.errors import ObjectNotFound, StorageError
from objectstore.names import PREFIXES
from objectstore.rules import ARCHIVE_PREFIX
from uploads.models import AudioUpload, StoredObject, UploadEvent
from uploads.models.states import IN_ARCHIVE, WITHOUT_OBJECT
from uploads.objects import ledger
from uploads.objects.conditions import asking, storages_left_alone

log = structlog.get_logger(__name__)

BATCH_SIZE = 500


def note_storage_classes() -> dict[str, int]:
    """Compare each ``storage_class`` with the listing, with the event ``storage_class_changed``. An unreadable file in
    use also gets ``found_archived`` and a logged error; its status stays.

    Holds no lock during requests, and one batch in memory. Raises the StorageError of a failing storage at the end.
    """
    counts = Counter(objects=0, changed=0, unreadable=0)
    failures: list[StorageError] = []
    left_alone = storages_left_alone()
    for alias, storage in audio_storages().items():
        if storage.classes is None or alias in left_alone:
            continue
        try:
            read_at_once: set[str] = set()
            with asking(alias):
                for stats in batched(objects_in(storage, (*PREFIXES, ARCHIVE_PREFIX)), BATCH_SIZE):
                    counts["objects"] += len(stats)
                    counts.update(note_classes(alias, storage, stats, read_at_once))
                    let_others_write()
        except StorageError as error:
            log.error("storage_classes_not_noted", storage=alias, error=error.code)
            failures.append(error)
    if failures:
        raise failures[0]
    return dict(counts)


def note_classes(
    alias: str, storage: AudioStorage, stats: Iterable[ObjectStat], read_at_once: set[str]
) -> dict[str, int]:
    """In the ledger and all owners. ``read_at_once`` collects readable classes."""
    listed = {stat.name: stat for stat in stats if stat.storage_class}
    objects = StoredObject.objects.filter(storage_provider=alias, storage_path__in=listed)
    different = [
        pk
        for pk, name, known in objects.values_list("pk", "storage_path", "storage_class")
        if known != listed[name].storage_class
    ]
    if not different:
        return {}
    sharing = AudioUpload.objects.filter(stored_object__in=different).exclude(status__in=WITHOUT_OBJECT)
    in_use = set(sharing.exclude(status__in=IN_ARCHIVE).values_list("storage_path", flat=True))
    unreadable = {name for name in in_use if cannot_be_read(storage, listed[name], read_at_once)}
    lost: list[AudioUpload] = []
    events: list[UploadEvent] = []
    counts = Counter(changed=0)
    with transaction.atomic():
        changed: dict[str, list[int]] = defaultdict(list)
        for pk, stored in ledger.lock(different).items():
            now = listed[stored.storage_path].storage_class
            if stored.storage_class != now:
                changed[now].append(pk)
        keys = [pk for pks in changed.values() for pk in pks]
        for upload in (
            sharing.filter(stored_object__in=keys).select_for_update(of=("self",)).order_by("pk").defer("metadata")
        ):
            before, now = upload.storage_class, listed[upload.storage_path].storage_class
            counts["changed"] += 1
            if before:
                events.append(event(upload, "storage_class_changed", {"from": before, "to": now}))
            if upload.storage_path in unreadable and upload.status not in IN_ARCHIVE:
                lost.append(upload)
                events.append(event(upload, "found_archived", {"name": upload.storage_path, "storage_class": now}))
        for storage_class, pks in changed.items():
            StoredObject.objects.filter(pk__in=pks).update(storage_class=storage_class)
            AudioUpload.objects.filter(stored_object__in=pks).update(storage_class=storage_class)
        UploadEvent.objects.bulk_create(events)
    for upload in lost:
        log.error(
            "stored_object_archived",
            upload_id=str(upload.pk),
            name=upload.storage_path,
            storage_class=listed[upload.storage_path].storage_class,
        )
    return {"changed": counts["changed"], "unreadable": len(lost)}


def cannot_be_read(storage: AudioStorage, listed: ObjectStat, read_at_once: set[str]) -> bool:
    """Asks for one object of each readable class and every object of the others, since a listing does not say."""
    if listed.storage_class in read_at_once:
        return False
    try:
        stat = storage.stat(listed.name)
    except ObjectNotFound:
        return False
    if stat.availability is not Availability.READABLE:
        return True
    if stat.restored_until is None:
        read_at_once.add(stat.storage_class)
    return False


def event(upload: AudioUpload, action: str, details: dict[str, str]) -> UploadEvent:
    return UploadEvent(upload_id=upload.pk, workspace_id=upload.workspace_id, action=action, details=details)

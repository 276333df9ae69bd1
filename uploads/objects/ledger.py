"""The only functions that change the owners of stored objects.

Each locks the object's row first, so that either a new owner or a removal wins. Lock order: reservation, quota, object,
upload, event; rows of a table by key.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import structlog
from django.db import IntegrityError, models, transaction

from audiotricks.clock import Now
from audiotricks.errors import NotFound
from audiotricks.models import EncryptionKey
from objectstore import get_storage
from objectstore.base import AudioStorage
from objectstore.errors import ObjectExists, ObjectNotFound
from uploads.models import AudioUpload, StoredObject
from uploads.models.objects import StoredObjectQuerySet, foreign_keys_to_objects
from uploads.objects.marks import ensure_ours

log = structlog.get_logger(__name__)

Kind = StoredObject.Kind
State = StoredObject.State


def owning(model: type[models.Model], field: str, stored: StoredObject) -> dict[str, Any]:
    """The foreign key, and the columns that repeat facts from the ledger."""
    repeated: Mapping[str, str] = getattr(model, "OBJECT_COLUMNS", {}).get(field, {})
    return {field: stored, **{column: getattr(stored, attribute) for column, attribute in repeated.items()}}


# Writing


def register(alias: str, name: str, *, kind: StoredObject.Kind, size_bytes: int, owned: bool = False) -> StoredObject:
    """Make the row before the first byte. With ``owned``, its owner is made in the same transaction; else its grace
    period begins. Raises ObjectExists.
    """
    storage = get_storage(alias)
    try:
        with transaction.atomic(savepoint=not owned):
            return StoredObject.objects.create(
                storage_provider=alias,
                storage_path=name,
                kind=kind,
                size_bytes=size_bytes,
                storage_region=storage.region,
                encryption_key=_key_of(storage),
                unneeded_since=None if owned else Now(),
            )
    except IntegrityError as error:
        raise ObjectExists from error


def _key_of(storage: AudioStorage) -> EncryptionKey | None:
    reference = storage.encryption_key
    if reference is None:
        return None
    return EncryptionKey.objects.get_or_create(provider=reference.provider, key_reference=reference.key_reference)[0]


def mark_stored(
    stored: StoredObject, *, size_bytes: int, sha256: str = "", md5: str = "", storage_class: str = ""
) -> bool:
    """False for a row that is gone, or not being written."""
    facts = {
        "state": State.STORED,
        "size_bytes": size_bytes,
        "original_size": size_bytes,
        "checksum_sha256": sha256,
        "checksum_md5": md5,
        "storage_class": storage_class,
    }
    for name, value in facts.items():
        setattr(stored, name, value)
    return bool(StoredObject.objects.filter(pk=stored.pk, state=State.WRITING).update(written_at=Now(), **facts))


def forget_unwritten(alias: str, name: str) -> None:
    """After a failed attempt, so that another one can begin."""
    StoredObject.objects.filter(storage_provider=alias, storage_path=name).exclude(
        state=State.STORED
    ).without_owner().delete()


# Owning


def lock(pks: Iterable[int | None]) -> dict[int, StoredObject]:
    """The existing rows by key, until the commit."""
    return {row.pk: row for row in _named(pks).select_for_update().order_by("pk")}


def hold_objects(upload: AudioUpload) -> AudioUpload:
    """Lock a file's objects, then its row, and return it. Raises NotFound."""
    rows = AudioUpload.objects.filter(pk=upload.pk)
    while True:
        seen = rows.values_list("stored_object", "thumbnail_object").first()
        if seen is None:
            raise NotFound
        with transaction.atomic():
            lock(seen)
            row = rows.select_for_update().first()
            if row is None:
                raise NotFound
            if (row.stored_object_id, row.thumbnail_object_id) == seen:
                return row
            # Releases the locks.
            transaction.set_rollback(True)


def share(stored: StoredObject, **columns: Any) -> None:
    """Record a new owner. The row is locked and ``stored``."""
    StoredObject.objects.filter(pk=stored.pk).update(unneeded_since=None, **columns)


def release(pks: Iterable[int | None]) -> None:
    """Owners let go; without another one, the grace period begins. The rows are locked."""
    _named(pks).without_owner().update(unneeded_since=Now())


def _named(pks: Iterable[int | None]) -> StoredObjectQuerySet:
    return StoredObject.objects.filter(pk__in={pk for pk in pks if pk is not None})


def discard(pks: Iterable[int | None]) -> list[StoredObject]:
    """:func:`release` without a grace period: returns the objects to :func:`remove` after the commit."""
    gone = list(_named(pks).without_owner())
    StoredObject.objects.filter(pk__in=[stored.pk for stored in gone]).update(
        state=State.REMOVING, unneeded_since=Now()
    )
    return gone


def forget(rows: Iterable[StoredObject]) -> None:
    """For ``removing`` objects that were never written."""
    StoredObject.objects.filter(pk__in=[row.pk for row in rows], state=State.REMOVING).delete()


def replace(old: StoredObject, new: StoredObject) -> None:
    """By one UPDATE for each table. Both rows are locked, and ``new`` is ``stored``."""
    for field in foreign_keys_to_objects():
        owners = field.model._base_manager.filter(**{field.name: old})
        if list(owners.select_for_update().order_by("pk").values_list("pk", flat=True)):
            owners.update(**owning(field.model, field.name, new))
    share(new)
    release([old.pk])


# Removing


def remove(stored: StoredObject) -> bool:
    """Remove a ``removing`` object, then its row; return whether it did. Can be repeated, and never removes a newer
    object. Raises StorageNotOurs and other storage errors.
    """
    storage = ensure_ours(stored.storage_provider)
    try:
        there = storage.stat(stored.storage_path)
    except ObjectNotFound:
        there = None
    # After the look at the mark, which gives the objects of a restored database a new grace period.
    removing = StoredObject.objects.filter(pk=stored.pk, state=State.REMOVING)
    if not removing.exists():
        return False
    if there is not None:
        storage.delete(stored.storage_path, seen=there)
    return bool(removing.delete()[0])


def give_up(stored: StoredObject) -> bool:
    """Remove a writer's unused object and its row. False if it has an owner, or is gone."""
    with transaction.atomic():
        lock([stored.pk])
        discarded = discard([stored.pk])
    return bool(discarded) and remove(discarded[0])


def vacate(alias: str, name: str) -> None:
    """Remove an object without an owner. Raises ObjectExists if it has one."""
    row = StoredObject.objects.filter(storage_provider=alias, storage_path=name).first()
    if row is not None:
        if not give_up(row) and StoredObject.objects.filter(pk=row.pk).exists():
            raise ObjectExists
        return
    ensure_ours(alias).delete(name)

"""The owners of stored objects: the only functions that change them.

Each locks the object's row first, so that either a new owner or a removal wins. Lock order: reservation, quota, object,
upload, event; rows of one table by key.
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
    """The columns of an owner: its foreign key, and those that repeat facts from the ledger."""
    repeated: Mapping[str, str] = getattr(model, "OBJECT_COLUMNS", {}).get(field, {})
    return {field: stored, **{column: getattr(stored, attribute) for column, attribute in repeated.items()}}


# Writing


def register(alias: str, name: str, *, kind: StoredObject.Kind, size_bytes: int, owned: bool = False) -> StoredObject:
    """Make the row of an object before its first byte. With ``owned``, the caller makes its owner in the same
    transaction; else its grace period begins now. Raises ObjectExists for a name in the ledger.
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
    """The row of the storage's encryption key, made at first use."""
    reference = storage.encryption_key
    if reference is None:
        return None
    return EncryptionKey.objects.get_or_create(provider=reference.provider, key_reference=reference.key_reference)[0]


def mark_stored(
    stored: StoredObject, *, size_bytes: int, sha256: str = "", md5: str = "", storage_class: str = ""
) -> bool:
    """The bytes are stored and compared. False for a row that is gone, or not being written."""
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
    """Forget a failed attempt to write this name, so that another one can begin."""
    StoredObject.objects.filter(storage_provider=alias, storage_path=name).exclude(
        state=State.STORED
    ).without_owner().delete()


# Owning


def lock(pks: Iterable[int | None]) -> dict[int, StoredObject]:
    """The existing rows by key, locked until the transaction ends."""
    return {row.pk: row for row in _named(pks).select_for_update().order_by("pk")}


def hold_objects(upload: AudioUpload) -> AudioUpload:
    """Lock a file's objects, then its row, and return the row, whose objects cannot change until the commit. Raises
    NotFound.
    """
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
    """Record a new owner of an object whose row is locked and ``stored``."""
    StoredObject.objects.filter(pk=stored.pk).update(unneeded_since=None, **columns)


def release(pks: Iterable[int | None]) -> None:
    """Owners let go of these objects, whose rows are locked; the grace period of those without an owner begins."""
    _named(pks).without_owner().update(unneeded_since=Now())


def _named(pks: Iterable[int | None]) -> StoredObjectQuerySet:
    return StoredObject.objects.filter(pk__in={pk for pk in pks if pk is not None})


def discard(pks: Iterable[int | None]) -> list[StoredObject]:
    """:func:`release` without a grace period. Returns the objects to :func:`remove` after the commit."""
    gone = list(_named(pks).without_owner())
    StoredObject.objects.filter(pk__in=[stored.pk for stored in gone]).update(
        state=State.REMOVING, unneeded_since=Now()
    )
    return gone


def forget(rows: Iterable[StoredObject]) -> None:
    """Delete the rows of ``removing`` objects that were never written."""
    StoredObject.objects.filter(pk__in=[row.pk for row in rows], state=State.REMOVING).delete()


def replace(old: StoredObject, new: StoredObject) -> None:
    """Give all owners of ``old`` to ``new``, by one UPDATE for each table. Both rows are locked, and ``new`` is
    ``stored``.
    """
    for field in foreign_keys_to_objects():
        owners = field.model._base_manager.filter(**{field.name: old})
        if list(owners.select_for_update().order_by("pk").values_list("pk", flat=True)):
            owners.update(**owning(field.model, field.name, new))
    share(new)
    release([old.pk])


# Removing


def remove(stored: StoredObject) -> bool:
    """Remove a ``removing`` object from its storage, then its row; return whether it did. Can be repeated after a kill.
    A late request never removes a newer object of the name. Raises StorageNotOurs and other storage errors.
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
    """Remove an object that its writer does not use, and its row. False if it has an owner, or is gone."""
    with transaction.atomic():
        lock([stored.pk])
        discarded = discard([stored.pk])
    return bool(discarded) and remove(discarded[0])


def vacate(alias: str, name: str) -> None:
    """Remove an object without an owner under one of our names. Raises ObjectExists if it has an owner."""
    row = StoredObject.objects.filter(storage_provider=alias, storage_path=name).first()
    if row is not None:
        if not give_up(row) and StoredObject.objects.filter(pk=row.pk).exists():
            raise ObjectExists
        return
    ensure_ours(alias).delete(name)

"""Who owns which stored object: the only functions that change it.

Each of them locks the object's row first, so that of an owner that comes and a removal only one gets it. Locks are
taken in one order everywhere: reservation, quota, object, upload, event; several rows of one table in the order of
their keys.
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
    """The columns of an owner: its foreign key, and the columns that repeat what the ledger says of the object."""
    repeated: Mapping[str, str] = getattr(model, "OBJECT_COLUMNS", {}).get(field, {})
    return {field: stored, **{column: getattr(stored, attribute) for column, attribute in repeated.items()}}


# Writing


def register(alias: str, name: str, *, kind: StoredObject.Kind, size_bytes: int, owned: bool = False) -> StoredObject:
    """Make the row of an object that is to be written, before its first byte.

    With ``owned``, its owner is made in the same transaction; otherwise its grace period begins now. Raises
    ObjectExists where the ledger has the name already.
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
    """The key that the storage encrypts with gets its row at its first use."""
    reference = storage.encryption_key
    if reference is None:
        return None
    return EncryptionKey.objects.get_or_create(provider=reference.provider, key_reference=reference.key_reference)[0]


def mark_stored(
    stored: StoredObject, *, size_bytes: int, sha256: str = "", md5: str = "", storage_class: str = ""
) -> bool:
    """The bytes are there and were compared. False for a row that is gone, or that is not being written."""
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
    """Make room in the ledger for another attempt to write this name, after one that failed."""
    StoredObject.objects.filter(storage_provider=alias, storage_path=name).exclude(
        state=State.STORED
    ).without_owner().delete()


# Owning


def lock(pks: Iterable[int | None]) -> dict[int, StoredObject]:
    """The rows, locked until the transaction ends, by their keys; those that are gone are left out."""
    return {row.pk: row for row in _named(pks).select_for_update().order_by("pk")}


def hold_objects(upload: AudioUpload) -> AudioUpload:
    """Lock the objects of a file, then its row; returns the row. What it owns cannot change until the commit.

    Raises NotFound.
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
            # Gives back the locks.
            transaction.set_rollback(True)


def share(stored: StoredObject, **columns: Any) -> None:
    """An owner points at the object from now on. Its row is locked and ``stored``."""
    StoredObject.objects.filter(pk=stored.pk).update(unneeded_since=None, **columns)


def release(pks: Iterable[int | None]) -> None:
    """Owners have let go of these objects, whose rows are locked: the grace period of those without an owner begins."""
    _named(pks).without_owner().update(unneeded_since=Now())


def _named(pks: Iterable[int | None]) -> StoredObjectQuerySet:
    return StoredObject.objects.filter(pk__in={pk for pk in pks if pk is not None})


def discard(pks: Iterable[int | None]) -> list[StoredObject]:
    """Like :func:`release`, without a grace period: returns those that :func:`remove` is to remove after the commit."""
    gone = list(_named(pks).without_owner())
    StoredObject.objects.filter(pk__in=[stored.pk for stored in gone]).update(
        state=State.REMOVING, unneeded_since=Now()
    )
    return gone


def forget(rows: Iterable[StoredObject]) -> None:
    """Take ``removing`` objects that were never written out of the ledger."""
    StoredObject.objects.filter(pk__in=[row.pk for row in rows], state=State.REMOVING).delete()


def replace(old: StoredObject, new: StoredObject) -> None:
    """All owners of ``old`` own ``new``, with one UPDATE a table. Both rows are locked, and ``new`` is ``stored``."""
    for field in foreign_keys_to_objects():
        owners = field.model._base_manager.filter(**{field.name: old})
        if list(owners.select_for_update().order_by("pk").values_list("pk", flat=True)):
            owners.update(**owning(field.model, field.name, new))
    share(new)
    release([old.pk])


# Removing


def remove(stored: StoredObject) -> bool:
    """Remove a ``removing`` object from its storage, then its row; says whether it did. Killed between, call it again.

    Only what lies there now is removed: a request that arrives late finds a newer object of this name changed. Raises
    StorageNotOurs and other storage errors.
    """
    storage = ensure_ours(stored.storage_provider)
    try:
        there = storage.stat(stored.storage_path)
    except ObjectNotFound:
        there = None
    # Asked after the mark: a database that was restored gives its objects time.
    removing = StoredObject.objects.filter(pk=stored.pk, state=State.REMOVING)
    if not removing.exists():
        return False
    if there is not None:
        storage.delete(stored.storage_path, seen=there)
    return bool(removing.delete()[0])


def give_up(stored: StoredObject) -> bool:
    """Remove an object that its writer has no use for, and its row. False where it has an owner, or is gone."""
    with transaction.atomic():
        lock([stored.pk])
        discarded = discard([stored.pk])
    return bool(discarded) and remove(discarded[0])


def vacate(alias: str, name: str) -> None:
    """Remove what lies under a name of ours and has no owner. Raises ObjectExists where it has one."""
    row = StoredObject.objects.filter(storage_provider=alias, storage_path=name).first()
    if row is not None:
        if not give_up(row) and StoredObject.objects.filter(pk=row.pk).exists():
            raise ObjectExists
        return
    ensure_ours(alias).delete(name)

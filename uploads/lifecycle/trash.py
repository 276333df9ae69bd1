"""Deleting, undeleting, purging, and limits of the trash."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Sum
from django.db.models.functions import Coalesce

from audiotricks.celery import send_on_commit
from audiotricks.clock import Now
from audiotricks.database import release_connection
from audiotricks.errors import NotFound
from objectstore import audio_storages
from objectstore.errors import StorageError
from objectstore.retry import ONCE, retry_policy
from quotas.models import LARGEST, StorageQuota
from quotas.reservations import count_in, count_out, lock_quota
from quotas.rights import Right
from uploads.lifecycle.transitions import TransitionRefused, move
from uploads.lifecycle.work import PROCESS_TASK, new_start
from uploads.models import AudioUpload, Status, StorageMark, StoredObject, UploadEvent
from uploads.objects import ledger
from uploads.objects.conditions import asking, storages_left_alone

log = structlog.get_logger(__name__)


#: The state after an undelete: the former one, or the nearest safe one before it.
UNDELETED_TO: Mapping[str, Status] = {
    Status.UPLOADED: Status.UPLOADED,
    Status.VALIDATING: Status.UPLOADED,
    Status.PROCESSING: Status.UPLOADED,
    Status.FAILED: Status.FAILED,
    Status.COMPLETED: Status.COMPLETED,
    Status.ARCHIVED: Status.ARCHIVED,
}


def delete_upload(
    upload: AudioUpload,
    *,
    actor: User | None,
    reason: str = "",
    only_if: Mapping[str, Any] | None = None,
) -> None:
    """To the trash: a 404 for listeners, with its quota released at once. A full trash purges the oldest deletions."""
    with transaction.atomic():
        quota = lock_quota(upload.workspace_id)
        displaced = _displaced_by(upload, quota)
        if displaced:
            # Objects before uploads, and rows by key, as everywhere.
            ledger.lock(pk for file in displaced for pk in (file.stored_object_id, file.thumbnail_object_id))
            rows = AudioUpload.objects.filter(pk__in=[upload.pk, *(file.pk for file in displaced)])
            list(rows.order_by("pk").select_for_update().values_list("pk", flat=True))
        move(
            upload,
            Status.DELETED,
            "deleted",
            only_if=only_if,
            actor=actor,
            right=Right.DELETE_FILES,
            reason=reason,
        )
        count_out(upload.workspace_id, size_bytes=upload.file_size)
        for file in displaced:
            # Another process restored or purged it, which makes space too.
            with suppress(TransitionRefused, NotFound):
                purge_upload(file, actor=None, action="displaced", reason="The trash was full.")


def _displaced_by(newest: AudioUpload, quota: StorageQuota) -> list[AudioUpload]:
    """The oldest deletions, until the trash is within its limit or as large as before ``newest``: so a lowered quota
    removes nothing, and the newest can be undeleted. Spares files whose storage began its grace periods anew.
    """
    if quota.max_trash_bytes is None and quota.max_trash_files is None:
        return []
    older = AudioUpload.objects.in_trash().filter(workspace=newest.workspace_id).exclude(pk=newest.pk)
    held = older.aggregate(bytes=Coalesce(Sum("file_size"), 0), files=Count("pk"))
    most_bytes = max(quota.max_trash_bytes if quota.max_trash_bytes is not None else LARGEST, held["bytes"])
    most_files = max(quota.max_trash_files if quota.max_trash_files is not None else LARGEST, held["files"])
    too_many_bytes = held["bytes"] + newest.file_size - most_bytes
    too_many_files = held["files"] + 1 - most_files
    if too_many_bytes <= 0 and too_many_files <= 0:
        return []
    began_anew = StorageMark.objects.filter(
        alias=OuterRef("storage_provider"),
        grace_from__gte=OuterRef("deleted_at"),
        grace_from__gt=Now() - timedelta(days=settings.TRASH_DAYS),
    )
    displaceable = older.filter(legal_hold=False).exclude(Exists(began_anew))
    displaced: list[AudioUpload] = []
    for upload in displaceable.order_by("deleted_at", "id").iterator():
        if too_many_bytes <= 0 and too_many_files <= 0:
            break
        displaced.append(upload)
        too_many_bytes -= upload.file_size
        too_many_files -= 1
    return displaced


def undelete_upload(upload: AudioUpload, *, actor: User | None) -> None:
    """To the former state, or the nearest safe one before. Raises QuotaExceeded."""
    with transaction.atomic():
        lock_quota(upload.workspace_id)
        deletion = UploadEvent.objects.filter(upload_id=upload.pk, to_status=Status.DELETED).order_by("-id").first()
        to = UNDELETED_TO[deletion.from_status] if deletion else Status.UPLOADED
        move(
            upload,
            to,
            "undeleted",
            only_from=frozenset({Status.DELETED}),
            actor=actor,
            deleted_at=None,
            **(new_start() if to == Status.UPLOADED else {}),
        )
        count_in(upload.workspace_id, size_bytes=upload.file_size)
        if to == Status.UPLOADED:
            send_on_commit(PROCESS_TASK, upload.pk)


def purge_upload(
    upload: AudioUpload,
    *,
    actor: User | None,
    action: str = "purged",
    reason: str = "",
    only_if: Mapping[str, Any] | None = None,
) -> None:
    """The row becomes a tombstone, which goes after its objects, except those with other owners. After a kill, a sweep
    finishes.
    """
    with transaction.atomic():
        held = ledger.hold_objects(upload)
        owned = {"stored_object": held.stored_object_id, "thumbnail_object": held.thumbnail_object_id}
        move(
            upload,
            Status.PURGED,
            action,
            only_from=frozenset({Status.DELETED}),
            only_if=only_if,
            actor=actor,
            right=Right.PURGE_FILES,
            reason=reason,
            claimable_at=Now(),
            **dict.fromkeys(owned),
        )
        discarded = {stored.pk for stored in ledger.discard(owned.values())}
        if owned["stored_object"] not in discarded:
            upload.storage_path = ""
            upload.save(update_fields=["storage_path"])
        transaction.on_commit(lambda: finish_purge(upload), robust=True)


def finish_purge(upload: AudioUpload) -> bool:
    """Return whether the tombstone is gone. A failing storage is asked once at most, and left to the sweep."""
    left = StoredObject.objects.filter(
        # A picture may lie in another storage than its file, while both are moved.
        storage_provider__in={upload.storage_provider, *audio_storages()},
        storage_path__in=[name for name in (upload.thumbnail_path, upload.storage_path) if name],
        state=StoredObject.State.REMOVING,
    )
    if upload.storage_provider in storages_left_alone():
        return False
    release_connection()
    try:
        for stored in left:
            with retry_policy(ONCE), asking(stored.storage_provider):
                ledger.remove(stored)
    except StorageError as error:
        log.warning("purge_unfinished", upload_id=str(upload.pk), error=str(error))
        return False
    with transaction.atomic():
        # In its own transaction: PostgreSQL locks the original for a transaction that updates its duplicate twice,
        # which must not wait for one that holds the original and waits for the duplicate.
        duplicates = AudioUpload.objects.filter(duplicate_of=upload.pk).order_by("pk")
        pks = list(duplicates.select_for_update().values_list("pk", flat=True))
        AudioUpload.objects.filter(pk__in=pks).update(duplicate_of=None)
    AudioUpload.objects.filter(pk=upload.pk, status=Status.PURGED).delete()
    return True

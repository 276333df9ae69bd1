"""Verifies that stored objects are what arrived."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from audiotricks.clock import Now
from audiotricks.errors import NotFound
from objectstore.hashing import StreamDigests
from quotas.rights import Right
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import TransitionRefused
from uploads.models import AudioUpload, StoredObject, UploadEvent
from uploads.models.states import WITHOUT_OBJECT
from uploads.objects import ledger
from uploads.objects.read import examine_object

log = structlog.get_logger(__name__)

#: Columns that must be unchanged for a result about the object to apply to its row.
IDENTITY = ("storage_provider", "storage_path", "file_size", "checksum_sha256", "checksum_md5")


def verify_upload(upload: AudioUpload, *, actor: User | None = None) -> None:
    """Read the object once, in constant memory, and record ``verified_at`` with the event ``verified``; or
    ``found_missing`` or ``found_damaged``, and raise ObjectLost or ObjectDamaged after the commit. Reads the row's
    new object if it changes meanwhile. Not in a transaction.

    Raises TransitionRefused for a file without an object, NotFound, and a StorageError if nothing could be read.
    """
    while True:
        try:
            upload.refresh_from_db()
        except AudioUpload.DoesNotExist:
            raise NotFound from None
        if upload.status in WITHOUT_OBJECT:
            raise TransitionRefused(state=upload.status, allowed=[])
        found = examine_object(upload)
        with transaction.atomic():
            ledger.lock([upload.stored_object_id])
            if unchanged(upload).select_for_update().first() is None:
                continue
            if isinstance(found, StreamDigests):
                note_whole([upload.pk])
                details = {"bytes": found.size, "sha256": found.sha256}
                record_event(upload, "verified", actor=actor, right=Right.SUPERVISE_FILES, details=details)
            else:
                record_fault(upload, found, actor=actor)
        upload.refresh_from_db()
        if not isinstance(found, StreamDigests):
            raise found
        return


def note_whole(pks: Iterable[UUID]) -> None:
    uploads = AudioUpload.objects.filter(pk__in=list(pks))
    with transaction.atomic():
        ledger.lock(uploads.values_list("stored_object", flat=True))
        StoredObject.objects.filter(uploads__in=uploads).update(verified_at=Now())
        uploads.update(verified_at=Now())


def unchanged(upload: AudioUpload) -> QuerySet[AudioUpload]:
    """The row, if it has the same object as ``upload``."""
    same = {name: getattr(upload, name) for name in IDENTITY}
    return AudioUpload.objects.filter(pk=upload.pk, **same).exclude(status__in=WITHOUT_OBJECT)


def record_fault(upload: AudioUpload, fault: ObjectLost | ObjectDamaged, *, actor: User | None) -> None:
    """Write ``found_missing`` or ``found_damaged``. Requires the row's lock."""
    log.error(
        "stored_object_missing" if isinstance(fault, ObjectLost) else "stored_object_damaged",
        upload_id=str(upload.pk),
        name=upload.storage_path,
        **fault.members,
    )
    details = details_of(upload, fault)
    record_event(upload, action_of(fault), actor=actor, right=Right.SUPERVISE_FILES, details=details)


def is_recorded(upload: AudioUpload, fault: ObjectLost | ObjectDamaged) -> bool:
    """Whether this fault is the last event about the bytes."""
    findings = ("verified", "found_missing", "found_damaged", "object_replaced")
    last = UploadEvent.objects.filter(upload_id=upload.pk, action__in=findings).order_by("-id").first()
    return last is not None and (last.action, last.details) == (action_of(fault), details_of(upload, fault))


def action_of(fault: ObjectLost | ObjectDamaged) -> str:
    return "found_missing" if isinstance(fault, ObjectLost) else "found_damaged"


def details_of(upload: AudioUpload, fault: ObjectLost | ObjectDamaged) -> Mapping[str, Any]:
    return {"name": upload.storage_path, **fault.members}

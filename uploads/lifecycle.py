"""A file's states and the only functions that move it from one to another.

Every move is one guarded ``UPDATE ... WHERE status = old`` whose count decides, with its time and its event in the same
transaction. Locks are taken in one order everywhere: reservation, quota, upload, event.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Sum, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.audit import Kind, record
from audiotricks.celery import send_on_commit
from audiotricks.clock import Now
from audiotricks.database import release_connection
from audiotricks.errors import Conflict, NotFound
from quotas.models import LARGEST, StorageQuota
from quotas.reservations import count_in, count_out, lock_quota
from quotas.rights import Right, basis_of
from uploads.conditions import asking, storages_left_alone
from uploads.marks import ensure_ours
from uploads.models import IN_WORK, UNLISTED, AudioUpload, Status, StorageMark, UploadEvent
from uploads.storage.errors import StorageError
from uploads.storage.retry import ONCE, retry_policy

log = structlog.get_logger(__name__)

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.RECEIVING: frozenset({Status.UPLOADED}),
    Status.UPLOADED: frozenset({Status.VALIDATING, Status.FAILED, Status.DELETED}),
    Status.VALIDATING: frozenset({Status.PROCESSING, Status.UPLOADED, Status.FAILED, Status.DELETED}),
    Status.PROCESSING: frozenset({Status.COMPLETED, Status.UPLOADED, Status.FAILED, Status.DELETED}),
    Status.FAILED: frozenset({Status.UPLOADED, Status.DELETED}),
    Status.COMPLETED: frozenset({Status.ARCHIVING, Status.DELETED}),
    Status.ARCHIVING: frozenset({Status.ARCHIVED, Status.COMPLETED}),
    Status.ARCHIVED: frozenset({Status.RESTORING, Status.DELETED}),
    Status.RESTORING: frozenset({Status.COMPLETED, Status.ARCHIVED}),
    Status.DELETED: frozenset({Status.COMPLETED, Status.ARCHIVED, Status.FAILED, Status.UPLOADED, Status.PURGED}),
    Status.PURGED: frozenset(),
}

#: The column that tells when a state was entered. Those of FIRST_TIME keep the first time: a retry or a way back
#: does not make the file younger.
ENTERED_AT: Mapping[Status, str] = {
    Status.UPLOADED: "uploaded_at",
    Status.VALIDATING: "validation_started_at",
    Status.PROCESSING: "processing_started_at",
    Status.COMPLETED: "processing_completed_at",
    Status.FAILED: "failed_at",
    Status.ARCHIVING: "archiving_started_at",
    Status.ARCHIVED: "archived_at",
    Status.RESTORING: "restoring_started_at",
    Status.DELETED: "deleted_at",
    Status.PURGED: "purged_at",
}
FIRST_TIME = frozenset({Status.UPLOADED, Status.COMPLETED, Status.ARCHIVED})

#: Where undelete leads: where the file was, or the nearest safe state before.
UNDELETED_TO: Mapping[str, Status] = {
    Status.UPLOADED: Status.UPLOADED,
    Status.VALIDATING: Status.UPLOADED,
    Status.PROCESSING: Status.UPLOADED,
    Status.FAILED: Status.FAILED,
    Status.COMPLETED: Status.COMPLETED,
    Status.ARCHIVED: Status.ARCHIVED,
}

#: The right that each action of a person needs; the others need Right.CHANGE_FILES.
RIGHT_FOR_EVENT: Mapping[str, Right] = {
    "uploaded": Right.ADD_FILES,
    "deleted": Right.DELETE_FILES,
    "purged": Right.PURGE_FILES,
    "held": Right.SUPERVISE_FILES,
    "released": Right.SUPERVISE_FILES,
    "verified": Right.SUPERVISE_FILES,
    "found_missing": Right.SUPERVISE_FILES,
    "found_damaged": Right.SUPERVISE_FILES,
    "found_archived": Right.SUPERVISE_FILES,
}

PROCESS_TASK = "uploads.tasks.process_upload"


class TransitionRefused(Conflict):
    """``state`` is the one the file is in, ``allowed`` are those that it could go to."""

    code = "state_conflict"
    title = _("The file's present state does not allow this")


class OnLegalHold(Conflict):
    code = "legal_hold"
    title = _("The file is on legal hold and can be neither deleted nor purged; staff can release it")


def record_event(
    upload: AudioUpload,
    action: str,
    *,
    actor: User | None = None,
    from_status: str = "",
    to_status: str = "",
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> UploadEvent:
    """Write the event, and by which right ``actor`` did it."""
    right = RIGHT_FOR_EVENT.get(action, Right.CHANGE_FILES)
    return UploadEvent.objects.create(
        upload_id=upload.pk,
        workspace_id=upload.workspace_id,
        action=action,
        actor=actor,
        right=basis_of(actor, right, upload.workspace_id) if actor else "",
        from_status=from_status,
        to_status=to_status,
        reason=reason,
        details=dict(details or {}),
    )


def move(
    upload: AudioUpload,
    to: Status,
    action: str,
    *,
    only_from: frozenset[Status] | None = None,
    only_if: Mapping[str, Any] | None = None,
    actor: User | None = None,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Move ``upload`` to ``to``, with its time, ``columns`` and its event, or raise.

    Guarded by the state that was seen; if another process moved the row meanwhile, looks again. ``only_from`` narrows
    what the table allows, ``only_if`` are look-ups that the row must still match. On return ``upload`` shows the row as
    stored.

    Raises TransitionRefused when the table or ``only_if`` does not allow it, OnLegalHold, or NotFound when the row is
    gone.
    """
    with transaction.atomic():
        while True:
            seen = Status(upload.status)
            if to not in TRANSITIONS[seen] or (only_from is not None and seen not in only_from):
                raise TransitionRefused(
                    format_lazy(
                        _("The file is in the state “{state}” and cannot go to “{wanted}”."),
                        state=seen.label,
                        wanted=to.label,
                    ),
                    state=seen.value,
                    allowed=sorted(state.value for state in TRANSITIONS[seen]),
                )
            rows = AudioUpload.objects.filter(pk=upload.pk, status=seen, **(only_if or {}))
            if to in (Status.DELETED, Status.PURGED):
                rows = rows.filter(legal_hold=False)
            if rows.update(status=to, **_entered(to), **columns):
                break
            try:
                upload.refresh_from_db()
            except AudioUpload.DoesNotExist:
                raise NotFound from None
            if upload.legal_hold and to in (Status.DELETED, Status.PURGED):
                raise OnLegalHold
            if only_if and upload.status == seen:
                raise TransitionRefused(_("The file changed meanwhile."), state=seen.value, allowed=[])
        record_event(upload, action, actor=actor, from_status=seen, to_status=to, reason=reason, details=details)
        upload.refresh_from_db()


def _entered(status: Status) -> dict[str, Any]:
    """By the database's clock: what sweeps compare must not depend on which machine wrote it."""
    column = ENTERED_AT[status]
    return {column: Coalesce(F(column), Now()) if status in FIRST_TIME else Now()}


# Work


def claim_upload(upload_id: str) -> AudioUpload | None:
    """Take an ``uploaded`` row for processing, or None when it is not to be had (taken, gone, or not before later).

    The claim lasts PROCESSING_CLAIM_SECONDS and is kept alive by ``processing.keep_claim``. ``retry_count`` counts the
    claims after the first one.
    """
    with transaction.atomic():
        claimed = AudioUpload.objects.filter(pk=upload_id, status=Status.UPLOADED, claimable_at__lte=Now()).update(
            status=Status.VALIDATING,
            claimable_at=claim_end(),
            retry_count=Case(When(validation_started_at=None, then=0), default=F("retry_count") + 1),
            validation_started_at=timezone.now(),
            error_code="",
            error_message="",
        )
        if not claimed:
            return None
        upload = AudioUpload.objects.select_related("workspace").get(pk=upload_id)
        record_event(upload, "validating", from_status=Status.UPLOADED, to_status=Status.VALIDATING)
    return upload


def claim_end() -> Combinable:
    """When a claim of now runs out, by the database's clock: the workers' own may differ."""
    return Now() + timedelta(seconds=settings.PROCESSING_CLAIM_SECONDS)


def claim_of(upload: AudioUpload) -> dict[str, Any]:
    """Look-ups that match the row for as long as the claim that ``upload`` was loaded under has no successor."""
    return {"validation_started_at": upload.validation_started_at}


def give_back(
    upload: AudioUpload,
    *,
    error_code: str,
    reason: str,
    wait: timedelta = timedelta(),
    only_if: Mapping[str, Any] | None = None,
) -> None:
    """Put a row that was being worked on back to ``uploaded``, not to be claimed before ``wait`` is over.

    A row that has used up its retries becomes ``failed`` with the reason instead. Raises what :func:`move` raises.
    """
    if upload.retry_count >= upload.max_retries:
        fail_upload(upload, error_code=error_code, reason=reason, only_if=only_if)
        return
    with transaction.atomic():
        move(
            upload,
            Status.UPLOADED,
            "taken_back",
            only_from=frozenset(IN_WORK),
            only_if=only_if,
            reason=reason,
            claimable_at=Now() + wait,
            error_code=error_code,
            error_message=reason,
        )
        if not wait:
            send_on_commit(PROCESS_TASK, upload.pk)


def fail_upload(upload: AudioUpload, *, error_code: str, reason: str, only_if: Mapping[str, Any] | None = None) -> None:
    move(
        upload,
        Status.FAILED,
        "failed",
        only_from=frozenset({Status.UPLOADED, *IN_WORK}),
        only_if=only_if,
        reason=reason,
        details={"error_code": error_code},
        error_code=error_code,
        error_message=reason,
    )


def retry_upload(upload: AudioUpload, *, actor: User | None) -> None:
    """Give a failed file a new start, with all its retries."""
    with transaction.atomic():
        move(
            upload,
            Status.UPLOADED,
            "retried",
            only_from=frozenset({Status.FAILED}),
            actor=actor,
            **new_start(),
        )
        send_on_commit(PROCESS_TASK, upload.pk)


def new_start() -> dict[str, Any]:
    """The columns of a file that is processed from the beginning, with all its retries."""
    return {
        "retry_count": 0,
        "validation_started_at": None,
        "claimable_at": Now(),
        "error_code": "",
        "error_message": "",
    }


# Trash


def delete_upload(
    upload: AudioUpload,
    *,
    actor: User | None,
    reason: str = "",
    only_if: Mapping[str, Any] | None = None,
) -> None:
    """Move a file to the trash: it is a 404 for listeners at once, and its quota is free.

    Where the trash is full, the files that were thrown away first go for good.
    """
    with transaction.atomic():
        quota = lock_quota(upload.workspace_id)
        move(upload, Status.DELETED, "deleted", only_if=only_if, actor=actor, reason=reason)
        count_out(upload.workspace_id, size_bytes=upload.file_size)
        _make_room_in_trash(quota, upload)


def _make_room_in_trash(quota: StorageQuota, newest: AudioUpload) -> None:
    """Purge what was thrown away first until the trash is as large as it may be, or as it was before ``newest`` came.

    So a quota that is lowered removes nothing by itself, and what was just thrown away can always be taken back. Files
    that were in the trash before the grace periods of their storage began anew have their days. Under the lock of the
    quota row.
    """
    if quota.max_trash_bytes is None and quota.max_trash_files is None:
        return
    older = AudioUpload.objects.in_trash().filter(workspace=newest.workspace_id).exclude(pk=newest.pk)
    held = older.aggregate(bytes=Coalesce(Sum("file_size"), 0), files=Count("pk"))
    most_bytes = max(quota.max_trash_bytes if quota.max_trash_bytes is not None else LARGEST, held["bytes"])
    most_files = max(quota.max_trash_files if quota.max_trash_files is not None else LARGEST, held["files"])
    too_many_bytes = held["bytes"] + newest.file_size - most_bytes
    too_many_files = held["files"] + 1 - most_files
    if too_many_bytes <= 0 and too_many_files <= 0:
        return
    began_anew = StorageMark.objects.filter(
        alias=OuterRef("storage_provider"),
        grace_from__gte=OuterRef("deleted_at"),
        grace_from__gt=Now() - timedelta(days=settings.TRASH_DAYS),
    )
    displaceable = older.filter(legal_hold=False).exclude(Exists(began_anew))
    for upload in displaceable.order_by("deleted_at", "id").iterator():
        if too_many_bytes <= 0 and too_many_files <= 0:
            return
        purge_upload(upload, actor=None, action="displaced", reason="The trash was full.")
        too_many_bytes -= upload.file_size
        too_many_files -= 1


def undelete_upload(upload: AudioUpload, *, actor: User | None) -> None:
    """Take a file out of the trash to where it was, or to the nearest safe state before.

    Raises QuotaExceeded when its workspace has no room for it any more; the file then stays in the trash.
    """
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
    """Remove a file in the trash for good: its row becomes a tombstone, and goes after its object went.

    Whether other rows still need the object is decided here and only here, under the lock of the workspace's quota
    row; a tombstone without ``storage_path`` leaves the object to them. Killed after the commit, a sweep finishes.
    """
    with transaction.atomic():
        lock_quota(upload.workspace_id)
        move(
            upload,
            Status.PURGED,
            action,
            only_from=frozenset({Status.DELETED}),
            only_if=only_if,
            actor=actor,
            reason=reason,
            claimable_at=Now(),
        )
        if AudioUpload.objects.sharing_object_of(upload).exists():
            upload.storage_path = ""
            upload.save(update_fields=["storage_path"])
        transaction.on_commit(partial(finish_purge, upload), robust=True)


def finish_purge(upload: AudioUpload) -> bool:
    """Remove what a tombstone still has in storage, then the tombstone. Says whether it is gone.

    The storage is asked once, and not at all while it is left alone: the sweep asks again, and whoever purges does not
    wait for it.
    """
    if upload.storage_provider in storages_left_alone():
        return False
    release_connection()
    try:
        with retry_policy(ONCE), asking(upload.storage_provider):
            storage = ensure_ours(upload.storage_provider)
            for name in filter(None, (upload.thumbnail_path, upload.storage_path)):
                storage.delete(name)
    except StorageError as error:
        log.warning("purge_unfinished", upload_id=str(upload.pk), error=str(error))
        return False
    AudioUpload.objects.filter(pk=upload.pk, status=Status.PURGED).delete()
    return True


def set_legal_hold(upload: AudioUpload, *, held: bool, actor: User | None, reason: str = "") -> None:
    """Put a file on hold or release it. A file that is in the trash must be undeleted first."""
    with transaction.atomic():
        changed = (
            AudioUpload.objects.filter(pk=upload.pk, legal_hold=not held)
            .exclude(status__in=UNLISTED)
            .update(legal_hold=held)
        )
        try:
            upload.refresh_from_db()
        except AudioUpload.DoesNotExist:
            raise NotFound from None
        if changed:
            event = record_event(upload, "held" if held else "released", actor=actor, reason=reason)
            details = {"held": held, "reason": reason}
            record(Kind.HOLD_CHANGED, subject=upload, actor=actor, right=event.right, details=details)
        elif upload.legal_hold != held:
            raise TransitionRefused(
                _("A file in the trash cannot be put on hold: undelete it first."), state=upload.status, allowed=[]
            )


def rename_upload(upload: AudioUpload, name: str, *, actor: User | None) -> None:
    """Give a file another name. Its object keeps its own."""
    if name == upload.original_filename:
        return
    with transaction.atomic():
        before, upload.original_filename = upload.original_filename, name
        if not AudioUpload.objects.filter(pk=upload.pk).update(original_filename=name):
            raise NotFound
        record_event(upload, "renamed", actor=actor, details={"from": before, "to": name})

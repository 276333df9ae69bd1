"""A worker's lease on an upload, and ends of an attempt."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, F, When
from django.utils import timezone

from audiotricks.celery import send_on_commit
from audiotricks.clock import Now
from audiotricks.leases import Lease, lease_end
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import move
from uploads.models import AudioUpload, Status
from uploads.models.states import IN_WORK, UNPROCESSED

PROCESS_TASK = "uploads.tasks.process_upload"


def take_upload(upload_id: str) -> AudioUpload | None:
    """None when the row is taken, gone, or paused. ``retry_count`` counts the leases after the first."""
    with transaction.atomic():
        taken = AudioUpload.objects.filter(pk=upload_id, status=Status.UPLOADED, claimable_at__lte=Now()).update(
            status=Status.VALIDATING,
            claimable_at=lease_end(settings.PROCESSING_CLAIM_SECONDS),
            retry_count=Case(When(validation_started_at=None, then=0), default=F("retry_count") + 1),
            validation_started_at=timezone.now(),
            error_code="",
            error_message="",
        )
        if not taken:
            return None
        upload = AudioUpload.objects.select_related("workspace").get(pk=upload_id)
        record_event(upload, "validating", from_status=Status.UPLOADED, to_status=Status.VALIDATING)
    return upload


def holder_of(upload: AudioUpload) -> dict[str, Any]:
    """Matches until another worker takes the row."""
    return {"validation_started_at": upload.validation_started_at}


def lease_of(upload: AudioUpload) -> Lease:
    """When it ends, a sweep gives the file back."""
    holder = {"status__in": IN_WORK, **holder_of(upload)}
    return Lease(upload, "claimable_at", seconds=settings.PROCESSING_CLAIM_SECONDS, holder=holder)


def give_back(
    upload: AudioUpload,
    *,
    error_code: str,
    reason: str,
    wait: timedelta = timedelta(),
    only_if: Mapping[str, Any] | None = None,
) -> None:
    """To ``uploaded``, after ``wait``; ``failed`` after the last retry. Raises the errors of :func:`move`."""
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
        only_from=frozenset(UNPROCESSED),
        only_if=only_if,
        reason=reason,
        details={"error_code": error_code},
        error_code=error_code,
        error_message=reason,
    )


def retry_upload(upload: AudioUpload, *, actor: User | None) -> None:
    """With all its retries."""
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
    return {
        "retry_count": 0,
        "validation_started_at": None,
        "claimable_at": Now(),
        "error_code": "",
        "error_message": "",
    }

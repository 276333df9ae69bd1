"""Runs the declared processing steps on an upload, in order, each once.

A step ``step(upload) -> StepResult`` works outside transactions and is safe to run again. Its result is stored with its
event, so that a retry resumes where it stopped.
"""

from datetime import timedelta
from typing import Any

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.utils.module_loading import import_string
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.celery import send_on_commit
from audiotricks.errors import DomainError, NotFound
from audiotricks.leases import Lease, LeaseLost, lease_end
from audiotricks.plug import declared, processing_steps
from objectstore.errors import TransientStorageError
from uploads.errors import ProcessingBroken, ProcessingTimeLimit
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import TransitionRefused, move
from uploads.lifecycle.work import fail_upload, give_back, holder_of, lease_of, take_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects.conditions import LONG_SECONDS, note_failure
from uploads.processing.backlog import next_file, note_turn
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import one_working_copy

log = structlog.get_logger(__name__)

#: Other workers may be faster this many times, and have taken a file each time.
MOST_ATTEMPTS = 100
#: Events after which every step runs again.
FRESH_STARTS = ("uploaded", "retried", "undeleted")


def process_next(upload_id: str) -> None:
    """Process the next file; one message for each upload suffices.

    Workspaces take turns, oldest file first. ``upload_id``, the file of the message, is tried if other workers were
    faster each time.
    """
    for _attempt in range(MOST_ATTEMPTS):
        next_id = next_file()
        if next_id is None:
            return
        if process_upload(str(next_id)):
            return
    process_upload(upload_id)


def process_upload(upload_id: str) -> bool:
    """Take the file, run its remaining steps, and complete it. Safe to call twice and in parallel.

    An error of the file makes it ``failed``; another one returns it for later, ``max_retries`` times. False if another
    worker has it.
    """
    with transaction.atomic():
        upload = take_upload(upload_id)
        if upload is None:
            return False
        note_turn(upload.workspace_id)
    try:
        try:
            lease = lease_of(upload)
            with lease.kept(), one_working_copy(upload):
                done = steps_done(upload)
                left = [path for path in processing_steps() if path not in done]
                for path in left:
                    run_step(upload, path, lease, is_last=path == left[-1])
                if not left:
                    complete(upload)
        except (LeaseLost, TransitionRefused, NotFound):
            raise
        except Exception as error:  # noqa: BLE001 - a worker goes on with the next file, whatever this one did
            end_attempt(upload, error)
    except (LeaseLost, TransitionRefused, NotFound):
        log.info("upload_no_longer_ours")
    return True


def end_attempt(upload: AudioUpload, error: Exception) -> None:
    """Fail the file, or return it."""
    ours = holder_of(upload)
    reported = as_domain_error(error)
    if type(error) is TransientStorageError and error.was_retried:
        # All retries failed, so it is the storage, not this object or the disk of working copies.
        note_failure(upload.storage_provider, error, seconds=LONG_SECONDS)
    if reported is error and not isinstance(error, TransientStorageError):
        fail_upload(upload, error_code=reported.code, reason=str(reported), only_if=ours)
        return
    wait = pause_before(upload.retry_count + 1)
    give_back(upload, error_code=reported.code, reason=str(reported), wait=wait, only_if=ours)


def as_domain_error(error: Exception) -> DomainError:
    """For code and English text of the row. Logs an unexpected error."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        seconds = settings.PROCESSING_TIME_LIMIT_SECONDS
        return ProcessingTimeLimit(format_lazy(_("Processing took longer than {seconds} seconds."), seconds=seconds))
    log.error("processing_error", exc_info=error)
    return ProcessingBroken()


def pause_before(attempt: int) -> timedelta:
    """10 s, 40 s, 160 s, ... up to an hour."""
    return min(timedelta(seconds=10 * 4 ** (attempt - 1)), timedelta(hours=1))


def steps_done(upload: AudioUpload) -> set[str]:
    """Since the file arrived or was started anew."""
    events = UploadEvent.objects.filter(upload_id=upload.pk)
    start = events.filter(action__in=FRESH_STARTS).aggregate(last=Max("id"))["last"] or 0
    return set(events.filter(action="step_done", id__gt=start).values_list("details__step", flat=True))


def run_step(upload: AudioUpload, path: str, lease: Lease, *, is_last: bool) -> None:
    """The last step also ends processing."""
    result: StepResult = import_string(path)(upload)
    while not _store(upload, path, result, result.look(), lease, is_last=is_last):
        pass


def _store(upload: AudioUpload, path: str, result: StepResult, seen: Any, lease: Lease, *, is_last: bool) -> bool:
    lease.ensure_held()
    with transaction.atomic():
        if not result.decide(upload, seen):
            return False
        ours = AudioUpload.objects.filter(pk=upload.pk, status=upload.status, **holder_of(upload))
        if not ours.update(claimable_at=lease_end(lease.seconds), **result.columns):
            raise LeaseLost
        record_event(upload, "step_done", details={"step": path, **result.details})
        if is_last:
            complete(upload)
        else:
            upload.refresh_from_db()
    return True


def complete(upload: AudioUpload) -> None:
    ours = holder_of(upload)
    with transaction.atomic():
        if upload.status == Status.VALIDATING:
            move(upload, Status.PROCESSING, "processing", only_from=frozenset({Status.VALIDATING}), only_if=ours)
        move(upload, Status.COMPLETED, "completed", only_from=frozenset({Status.PROCESSING}), only_if=ours)
        for task in declared(lambda app: app.follow_up_tasks):
            send_on_commit(task, upload.pk)

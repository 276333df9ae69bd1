"""What a worker does with a file that has arrived: the steps that apps declare, in order, each once.

A step is a function ``step(upload) -> StepResult``: it does its slow work outside any transaction and must be safe to
run again. The runner stores its result together with the step's event, so that a retry resumes where it stopped.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max
from django.utils.module_loading import import_string
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.celery import send_on_commit
from audiotricks.errors import DomainError, NotFound
from audiotricks.plug import declared, processing_steps
from objectstore.errors import TransientStorageError
from uploads.errors import ProcessingBroken, ProcessingTimeLimit
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import TransitionRefused, move
from uploads.lifecycle.work import claim_end, claim_of, claim_upload, fail_upload, give_back
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.models.states import IN_WORK
from uploads.objects.conditions import LONG_SECONDS, note_failure
from uploads.processing.backlog import next_file, note_turn
from uploads.processing.steps import StepResult
from uploads.processing.working_copy import one_working_copy

log = structlog.get_logger(__name__)

#: Other workers may be faster so often; each time they have taken a file that waited.
CLAIM_ATTEMPTS = 100
#: Events after which every step runs again.
FRESH_STARTS = ("uploaded", "retried", "undeleted")


class ClaimLost(Exception):
    """Somebody else moved the file meanwhile (deleted it, or took the claim back): this run has nothing to say."""


def process_next(upload_id: str) -> None:
    """Process the file whose turn it is. Each file that arrives sends one message, so that all of them get one.

    Workspaces take turns, and the oldest file of each is first: a thousand files of one do not hold up the others.
    ``upload_id`` names the file that the message was sent for; it is taken where others are faster each time.
    """
    for _attempt in range(CLAIM_ATTEMPTS):
        next_id = next_file()
        if next_id is None:
            return
        if process_upload(str(next_id)):
            return
    process_upload(upload_id)


def process_upload(upload_id: str) -> bool:
    """Claim the file, run what is left of its steps, and complete it. Safe to call twice, and twice at once.

    A file that cannot be what it says it is becomes ``failed`` with the reason. A fault that may pass, or one that we
    did not expect, gives the file back to be tried again later, ``max_retries`` times. Says whether it was to be had.
    """
    with transaction.atomic():
        upload = claim_upload(upload_id)
        if upload is None:
            return False
        note_turn(upload.workspace_id)
    try:
        try:
            with keep_claim(upload), one_working_copy(upload):
                done = steps_done(upload)
                left = [path for path in processing_steps() if path not in done]
                for path in left:
                    run_step(upload, path, is_last=path == left[-1])
                if not left:
                    complete(upload)
        except (ClaimLost, TransitionRefused, NotFound):
            raise
        except Exception as error:  # noqa: BLE001 - a worker goes on with the next file, whatever this one did
            end_attempt(upload, error)
    except (ClaimLost, TransitionRefused, NotFound):
        log.info("upload_no_longer_ours")
    return True


def end_attempt(upload: AudioUpload, error: Exception) -> None:
    """Fail the file, or give it back for another try, as its error asks for."""
    ours = claim_of(upload)
    told = as_domain_error(error)
    if type(error) is TransientStorageError and error.was_retried:
        # Tried as often as the policy wants: it is the storage, not this object or the disk for working copies.
        note_failure(upload.storage_provider, error, seconds=LONG_SECONDS)
    if told is error and not isinstance(error, TransientStorageError):
        fail_upload(upload, error_code=told.code, reason=str(told), only_if=ours)
        return
    wait = pause_before(upload.retry_count + 1)
    give_back(upload, error_code=told.code, reason=str(told), wait=wait, only_if=ours)


def as_domain_error(error: Exception) -> DomainError:
    """The error whose code and English words the row keeps. One that nobody expected is logged with its traceback."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, SoftTimeLimitExceeded):
        seconds = settings.PROCESSING_TIME_LIMIT_SECONDS
        return ProcessingTimeLimit(format_lazy(_("Processing took longer than {seconds} seconds."), seconds=seconds))
    log.error("processing_error", exc_info=error)
    return ProcessingBroken()


def pause_before(attempt: int) -> timedelta:
    """The wait grows fourfold: 10 s, 40 s, 160 s, ... and never beyond an hour."""
    return min(timedelta(seconds=10 * 4 ** (attempt - 1)), timedelta(hours=1))


def steps_done(upload: AudioUpload) -> set[str]:
    """The dotted paths of the steps that ended since the file arrived or was last given a new start."""
    events = UploadEvent.objects.filter(upload_id=upload.pk)
    start = events.filter(action__in=FRESH_STARTS).aggregate(last=Max("id"))["last"] or 0
    return set(events.filter(action="step_done", id__gt=start).values_list("details__step", flat=True))


def run_step(upload: AudioUpload, path: str, *, is_last: bool) -> None:
    """Run the step and store its result; that of the last one together with the end of processing."""
    result: StepResult = import_string(path)(upload)
    with transaction.atomic():
        if result.decide is not None:
            result.decide(upload)
        ours = AudioUpload.objects.filter(pk=upload.pk, status=upload.status, **claim_of(upload))
        if not ours.update(claimable_at=claim_end(), **result.columns):
            raise ClaimLost
        record_event(upload, "step_done", details={"step": path, **result.details})
        if is_last:
            complete(upload)
        else:
            upload.refresh_from_db()


def complete(upload: AudioUpload) -> None:
    ours = claim_of(upload)
    with transaction.atomic():
        if upload.status == Status.VALIDATING:
            move(upload, Status.PROCESSING, "processing", only_from=frozenset({Status.VALIDATING}), only_if=ours)
        move(upload, Status.COMPLETED, "completed", only_from=frozenset({Status.PROCESSING}), only_if=ours)
        for task in declared(lambda app: app.follow_up_tasks):
            send_on_commit(task, upload.pk)


@contextmanager
def keep_claim(upload: AudioUpload) -> Iterator[None]:
    """Moves the claim ahead while the block runs, from a thread, so that no step need think of it.

    When the process dies the claim runs out within PROCESSING_CLAIM_SECONDS, and a sweep takes the file back.
    """
    ended = threading.Event()
    ours = claim_of(upload)

    def extend() -> None:
        while not ended.wait(settings.PROCESSING_CLAIM_SECONDS / 4):
            try:
                AudioUpload.objects.filter(pk=upload.pk, status__in=IN_WORK, **ours).update(claimable_at=claim_end())
            except Exception:
                # The database may be back at the next beat.
                log.warning("claim_not_extended", upload_id=str(upload.pk), exc_info=True)
            finally:
                connection.close()

    thread = threading.Thread(target=extend, name="keep-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

"""One action on many files: what it would do, and doing it, with an outcome for each file.

A bulk action is a row with a row a file. Each file is acted on in the transaction that writes its outcome, so that a
worker that dies, or a task that runs twice or twice at once, neither repeats nor forgets one. Verifying reads whole
objects, which no transaction may wait for: there a worker takes the file for a while instead.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Count, F, QuerySet
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from audiotricks.batches import batched
from audiotricks.celery import send_on_commit, send_once
from audiotricks.clock import Now
from audiotricks.database import let_others_write
from audiotricks.errors import Conflict, DomainError
from quotas.rights import Right, may
from uploads.lifecycle import edits, transitions, trash, work
from uploads.models import Action, AudioUpload, BulkAction, BulkActionItem, Status
from uploads.models.states import UNLISTED, WITHOUT_OBJECT
from uploads.upkeep.sweeps import BULK_TASK
from uploads.upkeep.verification import verify_upload

__all__ = [
    "MOST_FILES",
    "NOT_ALLOWED",
    "REASON_IS_KEPT",
    "RIGHT_FOR",
    "Action",
    "Outcome",
    "apply_action",
    "is_allowed",
    "preview",
    "start",
    "waiting_for",
]

log = structlog.get_logger(__name__)

#: What one bulk action may hold; whoever wants more narrows the list.
MOST_FILES = 10_000
#: So many files are acted on while the person waits.
AT_ONCE = 20
#: Then the task lets others have the worker, and goes on behind them.
SLICE_SECONDS = 20
BATCH_SIZE = 1000
#: What a slow storage reads in a second.
VERIFIED_BYTES_PER_SECOND = 1_000_000

#: Those that write a reason into the file's history.
REASON_IS_KEPT = frozenset({Action.DELETE, Action.PURGE, Action.HOLD, Action.RELEASE})

Service = Callable[[AudioUpload, User | None, str], object]
SERVICES: Mapping[Action, Service] = {
    Action.DELETE: lambda upload, actor, reason: trash.delete_upload(upload, actor=actor, reason=reason),
    Action.UNDELETE: lambda upload, actor, reason: trash.undelete_upload(upload, actor=actor),
    Action.PURGE: lambda upload, actor, reason: trash.purge_upload(upload, actor=actor, reason=reason),
    Action.HOLD: lambda upload, actor, reason: edits.set_legal_hold(upload, held=True, actor=actor, reason=reason),
    Action.RELEASE: lambda upload, actor, reason: edits.set_legal_hold(upload, held=False, actor=actor, reason=reason),
    Action.RETRY: lambda upload, actor, reason: work.retry_upload(upload, actor=actor),
    Action.VERIFY: lambda upload, actor, reason: verify_upload(upload, actor=actor),
}


RIGHT_FOR: Mapping[Action, Right] = {
    Action.DELETE: Right.DELETE_FILES,
    Action.UNDELETE: Right.CHANGE_FILES,
    Action.PURGE: Right.PURGE_FILES,
    Action.HOLD: Right.SUPERVISE_FILES,
    Action.RELEASE: Right.SUPERVISE_FILES,
    Action.RETRY: Right.CHANGE_FILES,
    Action.VERIFY: Right.SUPERVISE_FILES,
}
NOT_ALLOWED = gettext_lazy("Your role in its workspace does not allow this.")


class TooManyFiles(Conflict):
    """``files_allowed`` says how many are possible."""

    code = "too_many_files"
    title = gettext_lazy("These are too many files for one action")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file: ``message`` says why, where it was not done."""

    upload_id: UUID
    name: str
    done: bool
    message: str = ""


def apply_action(action: Action, upload: AudioUpload, *, actor: User | None, reason: str = "") -> Outcome:
    """Do it to one file. A refusal, or a storage that fails, is an outcome with its words, not an exception."""
    if action in (Action.HOLD, Action.RELEASE) and upload.legal_hold == (action == Action.HOLD):
        stands = _("It is on hold already.") if upload.legal_hold else _("It is not on hold.")
        return Outcome(upload.pk, upload.original_filename, done=False, message=stands)
    try:
        SERVICES[action](upload, actor, reason)
    except DomainError as error:
        return Outcome(upload.pk, upload.original_filename, done=False, message=str(error.detail))
    return Outcome(upload.pk, upload.original_filename, done=True)


def is_allowed(action: Action, *, status: str, legal_hold: bool) -> bool:
    """Whether a file that stands like this can have it done. (A full quota may still refuse what leaves the trash.)"""
    if action == Action.DELETE:
        return not legal_hold and Status.DELETED in transitions.TRANSITIONS[Status(status)]
    if action in (Action.UNDELETE, Action.PURGE):
        return status == Status.DELETED
    if action == Action.RETRY:
        return status == Status.FAILED
    if action == Action.VERIFY:
        return status not in WITHOUT_OBJECT
    changes = legal_hold != (action == Action.HOLD)
    return changes and status not in UNLISTED


@dataclass(frozen=True, slots=True)
class Preview:
    """How many files were chosen, and on how many of them it could not be done as they stand.

    ``mark`` is another one for any other files, as many as they may be.
    """

    total: int
    refused: int
    mark: str

    @property
    def possible(self) -> int:
        return self.total - self.refused


def preview(action: Action, uploads: QuerySet[AudioUpload]) -> Preview:
    """What the action would meet. Raises TooManyFiles."""
    chosen = list(uploads.order_by().values_list("pk", flat=True)[: MOST_FILES + 1])
    if len(chosen) > MOST_FILES:
        raise _too_many()
    states = AudioUpload.objects.filter(pk__in=chosen).order_by().values("status", "legal_hold")
    counts = list(states.annotate(files=Count("pk")))
    possible = sum(
        row["files"] for row in counts if is_allowed(action, status=row["status"], legal_hold=row["legal_hold"])
    )
    mark = hashlib.sha256(b"".join(sorted(pk.bytes for pk in chosen))).hexdigest()
    return Preview(total=len(chosen), refused=len(chosen) - possible, mark=mark)


def _too_many() -> TooManyFiles:
    detail = ngettext(
        "One action takes at most %(count)d file. Choose fewer, or narrow the list.",
        "One action takes at most %(count)d files. Choose fewer, or narrow the list.",
        MOST_FILES,
    )
    return TooManyFiles(detail % {"count": MOST_FILES}, files_allowed=MOST_FILES)


# Running


def start(action: Action, uploads: QuerySet[AudioUpload], *, actor: User, reason: str = "") -> BulkAction:
    """Write down what is to be done and to which files, then do it: now where it is quick, else as a task.

    Raises TooManyFiles; nothing is written down then. Call it outside a transaction.
    """
    chosen = list(uploads.values_list("pk", "original_filename")[: MOST_FILES + 1])
    if len(chosen) > MOST_FILES:
        raise _too_many()
    at_once = len(chosen) <= AT_ONCE and action != Action.VERIFY
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            action=action,
            actor=actor,
            reason=reason if action in REASON_IS_KEPT else "",
            language=translation.get_language() or settings.LANGUAGE_CODE,
            active_at=Now(),
            total=len(chosen),
        )
        for batch in batched(chosen, BATCH_SIZE):
            BulkActionItem.objects.bulk_create(
                BulkActionItem(bulk_action=bulk, upload_id=pk, name=name, claimable_at=Now()) for pk, name in batch
            )
        if not at_once:
            send_on_commit(BULK_TASK, bulk.pk)
    if at_once:
        run_bulk_action(bulk.pk)
    bulk.refresh_from_db()
    return bulk


def waiting_for(action: Action, uploads: QuerySet[AudioUpload]) -> QuerySet[AudioUpload]:
    """Those of the files that a bulk action which is not finished has before it."""
    items = BulkActionItem.objects.filter(bulk_action__action=action, bulk_action__finished_at=None)
    return uploads.filter(pk__in=items.filter(outcome=BulkActionItem.Outcome.WAITING).values("upload_id"))


def run_bulk_action(bulk_id: UUID | str) -> None:
    """Go on with a bulk action for SLICE_SECONDS, then send it again. Safe twice, and twice at once."""
    bulk = BulkAction.objects.filter(pk=bulk_id, finished_at=None).first()
    if bulk is None:
        return
    BulkAction.objects.filter(pk=bulk.pk, started_at=None).update(started_at=Now())
    do_next = _verify_next if bulk.action == Action.VERIFY else _act_on_next
    deadline = time.monotonic() + SLICE_SECONDS
    with translation.override(bulk.language):
        while do_next(bulk):
            let_others_write()
            if time.monotonic() > deadline:
                send_once(BULK_TASK, bulk.pk)
                return
    waiting = bulk.items.filter(outcome=BulkActionItem.Outcome.WAITING)
    # Files that somebody else has in hand still wait; who has the last of them ends the action.
    if not waiting.exists() and BulkAction.objects.filter(pk=bulk.pk, finished_at=None).update(finished_at=Now()):
        log.info("bulk_action_finished", bulk_action_id=str(bulk.pk), action=bulk.action, total=bulk.total)


def _act_on_next(bulk: BulkAction) -> bool:
    """Act on the next file and write its outcome down, in one transaction. Says whether there was one."""
    item = None
    try:
        with transaction.atomic():
            item = _next_item(bulk)
            if item is None:
                return False
            _write_down(item, _outcome_for(bulk, item))
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:
        if item is None:
            raise
        log.error("bulk_action_error", upload_id=str(item.upload_id), exc_info=error)
        with transaction.atomic():
            _write_down(item, _unexpected(item))
    return True


def _verify_next(bulk: BulkAction) -> bool:
    """Verify the next file. While its bytes are read no transaction is open, but nobody else takes it."""
    with transaction.atomic():
        item = _next_item(bulk)
        if item is None:
            return False
        upload = AudioUpload.objects.filter(pk=item.upload_id).first()
        item.claimable_at = Now() + _time_to_read(upload.file_size if upload else 0)
        item.save(update_fields=["claimable_at"])
    try:
        outcome = _outcome_for(bulk, item)
    except SoftTimeLimitExceeded:
        message = _("It could not be read within %(seconds)d seconds.") % {
            "seconds": settings.CELERY_TASK_SOFT_TIME_LIMIT
        }
        outcome = Outcome(item.upload_id, item.name, done=False, message=message)
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:
        log.error("bulk_action_error", upload_id=str(item.upload_id), exc_info=error)
        outcome = _unexpected(item)
    with transaction.atomic():
        _write_down(item, outcome)
    return True


def _next_item(bulk: BulkAction) -> BulkActionItem | None:
    """The first file that waits and that nobody has in hand, locked."""
    waiting = bulk.items.filter(outcome=BulkActionItem.Outcome.WAITING, claimable_at__lte=Now()).order_by("id")
    return waiting.select_for_update(skip_locked=True).first()


def _time_to_read(size_bytes: int) -> timedelta:
    """How long a worker may keep a file to itself: what a slow storage needs, and no longer than a task lives."""
    seconds = settings.PROCESSING_CLAIM_SECONDS + size_bytes / VERIFIED_BYTES_PER_SECOND
    return timedelta(seconds=min(seconds, settings.CELERY_TASK_TIME_LIMIT))


def _outcome_for(bulk: BulkAction, item: BulkActionItem) -> Outcome:
    upload = AudioUpload.objects.filter(pk=item.upload_id).first()
    if upload is None:
        return Outcome(item.upload_id, item.name, done=False, message=_("The file is gone."))
    action = Action(bulk.action)
    # Asked for each file: a bulk action may run for long after the person lost the right, or was removed.
    actor = User.objects.filter(pk=bulk.actor_id).first() if bulk.actor_id is not None else None
    if actor is None or not may(actor, RIGHT_FOR[action], upload.workspace_id):
        return Outcome(upload.pk, upload.original_filename, done=False, message=str(NOT_ALLOWED))
    return apply_action(action, upload, actor=actor, reason=bulk.reason)


def _unexpected(item: BulkActionItem) -> Outcome:
    return Outcome(
        item.upload_id, item.name, done=False, message=_("Something unexpected happened; the log has more about it.")
    )


def _write_down(item: BulkActionItem, outcome: Outcome) -> None:
    """Store the outcome and count it, once."""
    kinds = BulkActionItem.Outcome
    waiting = BulkActionItem.objects.filter(pk=item.pk, outcome=kinds.WAITING)
    if waiting.update(outcome=kinds.DONE if outcome.done else kinds.REFUSED, message=outcome.message):
        counter = "done" if outcome.done else "refused"
        BulkAction.objects.filter(pk=item.bulk_action_id).update(**{counter: F(counter) + 1}, active_at=Now())

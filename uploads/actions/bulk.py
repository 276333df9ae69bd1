"""A file action on many files, with an item for each.

The transaction that acts on a file stores its outcome, so that killed and parallel tasks neither repeat nor skip one.
An action that reads whole objects leases the item instead.
"""

import hashlib
import time
from dataclasses import dataclass
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
from audiotricks.errors import Conflict
from audiotricks.leases import Lease, is_free
from quotas.rights import may
from uploads.actions import find_action
from uploads.actions.base import NOT_ALLOWED, BulkFileAction, Outcome
from uploads.models import AudioUpload, BulkAction, BulkActionItem
from uploads.upkeep.sweeps import BULK_TASK

log = structlog.get_logger(__name__)

#: The most files of one bulk action.
MOST_FILES = 10_000
#: The number of files that are acted on in the request.
AT_ONCE = 20
#: After this time the task sends itself again, so that others get the worker.
SLICE_SECONDS = 20
BATCH_SIZE = 1000


class TooManyFiles(Conflict):
    """Member: ``files_allowed``."""

    code = "too_many_files"
    title = gettext_lazy("These are too many files for one action")


@dataclass(frozen=True, slots=True)
class Preview:
    """Counts; ``mark`` identifies the chosen files."""

    total: int
    refused: int
    mark: str

    @property
    def possible(self) -> int:
        return self.total - self.refused


def preview(action: BulkFileAction, uploads: QuerySet[AudioUpload]) -> Preview:
    """Two queries. Raises TooManyFiles."""
    chosen = list(uploads.order_by().values_list("pk", flat=True)[: MOST_FILES + 1])
    if len(chosen) > MOST_FILES:
        raise _too_many()
    states = AudioUpload.objects.filter(pk__in=chosen).order_by().values("status", "legal_hold")
    counts = list(states.annotate(files=Count("pk")))
    possible = sum(
        row["files"] for row in counts if action.is_possible(status=row["status"], legal_hold=row["legal_hold"])
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


def start(action: BulkFileAction, uploads: QuerySet[AudioUpload], *, actor: User, reason: str = "") -> BulkAction:
    """Store the items and run, at once or as a task. Not in a transaction. Raises TooManyFiles and then
    stores nothing.
    """
    chosen = list(uploads.values_list("pk", "original_filename")[: MOST_FILES + 1])
    if len(chosen) > MOST_FILES:
        raise _too_many()
    at_once = len(chosen) <= AT_ONCE and not action.reads_object
    with transaction.atomic():
        bulk = BulkAction.objects.create(
            action=action.name,
            actor=actor,
            reason=reason if action.keeps_reason else "",
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


def waiting_for(action: BulkFileAction, uploads: QuerySet[AudioUpload]) -> QuerySet[AudioUpload]:
    """In an unfinished bulk action of this kind."""
    items = BulkActionItem.objects.filter(bulk_action__action=action.name, bulk_action__finished_at=None)
    return uploads.filter(pk__in=items.filter(outcome=BulkActionItem.Outcome.WAITING).values("upload_id"))


def run_bulk_action(bulk_id: UUID | str) -> None:
    """For SLICE_SECONDS, then send it again. Safe to run twice and in parallel."""
    bulk = BulkAction.objects.filter(pk=bulk_id, finished_at=None).first()
    if bulk is None:
        return
    BulkAction.objects.filter(pk=bulk.pk, started_at=None).update(started_at=Now())
    action = find_action(bulk.action)
    act = _act_under_lease if action and action.reads_object else _act_in_transaction
    deadline = time.monotonic() + SLICE_SECONDS
    with translation.override(bulk.language):
        while act(bulk, action):
            let_others_write()
            if time.monotonic() > deadline:
                send_once(BULK_TASK, bulk.pk)
                return
    waiting = bulk.items.filter(outcome=BulkActionItem.Outcome.WAITING)
    # Items leased by another worker still wait. The worker of the last one finishes the bulk action.
    if not waiting.exists() and BulkAction.objects.filter(pk=bulk.pk, finished_at=None).update(finished_at=Now()):
        log.info("bulk_action_finished", bulk_action_id=str(bulk.pk), action=bulk.action, total=bulk.total)


def _act_in_transaction(bulk: BulkAction, action: BulkFileAction | None) -> bool:
    """False if there is no next file."""
    item = None
    try:
        with transaction.atomic():
            item = _next_item(bulk)
            if item is None:
                return False
            _store_outcome(item, _outcome_for(bulk, action, item))
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:
        if item is None:
            raise
        log.error("bulk_action_error", upload_id=str(item.upload_id), exc_info=error)
        with transaction.atomic():
            _store_outcome(item, _unexpected(item))
    return True


def _act_under_lease(bulk: BulkAction, action: BulkFileAction | None) -> bool:
    """:func:`_act_in_transaction`, but outside of one while the object is read."""
    with transaction.atomic():
        item = _next_item(bulk)
        if item is None:
            return False
        lease = Lease(item, "claimable_at", seconds=settings.PROCESSING_CLAIM_SECONDS)
        lease.take()
    try:
        with lease.kept():
            outcome = _outcome_for(bulk, action, item)
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
        _store_outcome(item, outcome)
    return True


def _next_item(bulk: BulkAction) -> BulkActionItem | None:
    free = is_free("claimable_at", seconds=settings.PROCESSING_CLAIM_SECONDS)
    waiting = bulk.items.filter(free, outcome=BulkActionItem.Outcome.WAITING).order_by("id")
    return waiting.select_for_update(skip_locked=True).first()


def _outcome_for(bulk: BulkAction, action: BulkFileAction | None, item: BulkActionItem) -> Outcome:
    upload = AudioUpload.objects.filter(pk=item.upload_id).first()
    if upload is None:
        return Outcome(item.upload_id, item.name, done=False, message=_("The file is gone."))
    if action is None:
        return Outcome.refused(upload, _("There is no such action."))
    # Checked for each file: the person may lose the right during a long bulk action.
    actor = User.objects.filter(pk=bulk.actor_id).first() if bulk.actor_id is not None else None
    if actor is None or not may(actor, action.right, upload.workspace_id):
        return Outcome.refused(upload, NOT_ALLOWED)
    return action.apply(upload, actor=actor, reason=bulk.reason)


def _unexpected(item: BulkActionItem) -> Outcome:
    return Outcome(
        item.upload_id, item.name, done=False, message=_("Something unexpected happened; the log has more about it.")
    )


def _store_outcome(item: BulkActionItem, outcome: Outcome) -> None:
    """Counted once."""
    kinds = BulkActionItem.Outcome
    waiting = BulkActionItem.objects.filter(pk=item.pk, outcome=kinds.WAITING)
    if waiting.update(outcome=kinds.DONE if outcome.done else kinds.REFUSED, message=outcome.message):
        counter = "done" if outcome.done else "refused"
        BulkAction.objects.filter(pk=item.bulk_action_id).update(**{counter: F(counter) + 1}, active_at=Now())

"""Periodic sweeps, safe twice and in parallel: they act on what they find again under a lock, and compare times with
:func:`audiotricks.clock.earliest_now`.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from audiotricks.batches import batched
from audiotricks.celery import send_once, waiting_tasks
from audiotricks.clock import Now, earliest_now, elapsed_clock
from audiotricks.database import let_others_write
from audiotricks.errors import DomainError
from audiotricks.temporary import remove_leftovers
from objectstore import audio_storages, get_storage
from objectstore.errors import StorageError
from objectstore.retry import ONCE, retry_policy
from quotas.models import QuotaReservation, StorageQuota
from quotas.reservations import release_expired
from uploads.errors import WorkerLost
from uploads.intake.arrivals import abandon_receiving
from uploads.intake.sessions.sweeps import SECONDS, clean_up_sessions, complete_arrived, sweep_sessions
from uploads.lifecycle.trash import delete_upload, finish_purge, purge_upload
from uploads.lifecycle.work import PROCESS_TASK, give_back
from uploads.models import AudioUpload, BulkAction, BulkActionItem, Status
from uploads.models.states import IN_WORK, SETTLED
from uploads.objects.brake import Subject, Sweep, released
from uploads.objects.conditions import asking, storages_left_alone
from uploads.objects.marks import ensure_ours, grace_began
from uploads.objects.orphans import left_alone, may_remove_from
from uploads.processing.backlog import waiting_files

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: A file that is next and untaken for this long has lost its task.
UNTAKEN_SECONDS = 60
#: Failed removals after which a storage is left to the next sweep.
MOST_FAILURES = 3
BULK_TASK = "uploads.tasks.run_bulk_action"


def sweep_stale_work() -> dict[str, int]:
    """Take back files of dead workers, resend lost tasks, finish interrupted purges."""
    now = earliest_now()
    taken_back = 0
    for upload in AudioUpload.objects.filter(status__in=IN_WORK, claimable_at__lt=now)[:BATCH_SIZE]:
        try:
            give_back(
                upload,
                error_code=WorkerLost.code,
                reason="The worker that processed the file was lost.",
                only_if={"claimable_at__lt": now},
            )
            taken_back += 1
        except DomainError:
            log.info("stale_work_moved_on", upload_id=str(upload.pk))
        let_others_write()
    sent_again = sum([send_once(PROCESS_TASK, pk) for pk in _without_task(now)])
    sent_again += sum([send_once(BULK_TASK, pk) for pk in _standing_still(now)])
    # Last, since a storage that does not respond takes long.
    counts = {"taken_back": taken_back, "sent_again": sent_again, "purges_finished": _finish_purges(now)}
    return counts | left_alone()


def _finish_purges(now: datetime) -> int:
    """One failing storage does not stop the others."""
    a_minute_ago = now - timedelta(minutes=1)
    tombstones = AudioUpload.objects.filter(status=Status.PURGED, claimable_at__lt=a_minute_ago)
    finished = 0
    for alias in _not_left_alone(tombstones.order_by().values_list("storage_provider", flat=True).distinct()):
        failures = 0
        for upload in tombstones.filter(storage_provider=alias).order_by("claimable_at")[:BATCH_SIZE]:
            let_others_write()
            if finish_purge(upload):
                finished += 1
                continue
            # After all others in the next sweep, so that those that cannot be removed block nothing.
            behind = a_minute_ago - timedelta(seconds=1)
            AudioUpload.objects.filter(pk=upload.pk, status=Status.PURGED).update(claimable_at=behind)
            failures += 1
            if failures == MOST_FAILURES or alias in storages_left_alone():
                break
    return finished


def _not_left_alone(aliases: Iterable[str]) -> list[str]:
    """A request to a failing storage may take a time-out."""
    left = storages_left_alone()
    return [alias for alias in aliases if alias not in left]


def _standing_still(now: datetime) -> list[UUID]:
    """Bulk actions without a task, unless the queue is long; each gets another minute."""
    still = BulkAction.objects.filter(finished_at=None, active_at__lt=now - timedelta(seconds=UNTAKEN_SECONDS))
    waiting = BulkActionItem.Outcome.WAITING
    in_hand = BulkActionItem.objects.filter(bulk_action=OuterRef("pk"), outcome=waiting, claimable_at__gt=Now())
    still = still.exclude(Exists(in_hand))
    pks = list(still.order_by("active_at").values_list("pk", flat=True)[: max(0, BATCH_SIZE - waiting_tasks())])
    BulkAction.objects.filter(pk__in=pks).update(active_at=Now())
    return pks


def _without_task(now: datetime) -> list[UUID]:
    """Waiting files that may have no task, oldest first; none while the queue is long. The pause of a file that was
    given back ends here.
    """
    room = max(0, BATCH_SIZE - waiting_tasks())
    lost = Q(claimable_at__lt=now - timedelta(seconds=UNTAKEN_SECONDS))
    paused = Q(claimable_at__lte=now) & ~Q(error_code="")
    waiting = waiting_files().filter(lost | paused).order_by("uploaded_at", "id")
    return list(waiting.values_list("pk", flat=True)[:room])


def sweep_stale_reservations() -> dict[str, int]:
    """Take back stalled uploads, release reservations, remove leftovers of killed writes and expired sessions."""
    now = earliest_now()
    until = elapsed_clock() + SECONDS
    # What the storage cannot remove at once, later sweeps find by its age: the room is given back now.
    with retry_policy(ONCE):
        counts = {"completed": complete_arrived(until=until), "sessions_cleaned": clean_up_sessions(until=until)}
        counts["abandoned"] = sum(
            abandon_receiving(upload, unless_extended_beyond=now) for upload in _stale_uploads(now, until)
        )
        counts |= sweep_sessions(now, until=until)
    counts["released"] = release_expired(QuotaReservation.objects.filter(upload=None, session=None), now=now)
    before = now - timedelta(hours=settings.ORPHAN_GRACE_HOURS)
    partials = sum(_remove_partials(alias, before) for alias in _not_left_alone(audio_storages()))
    counts["partials_removed"] = partials + remove_leftovers(before)
    return counts | left_alone()


def _stale_uploads(now: datetime, until: float) -> Iterator[AudioUpload]:
    stale = AudioUpload.objects.filter(status=Status.RECEIVING).filter(
        Q(reservation__expires_at__lt=now)
        | Q(reservation=None, created_at__lt=now - timedelta(seconds=settings.RESERVATION_SECONDS))
    )
    last = UUID(int=0)
    while batch := list(stale.filter(pk__gt=last).order_by("pk")[:BATCH_SIZE]):
        for upload in batch:
            if elapsed_clock() >= until:
                return
            yield upload
            let_others_write()
        last = batch[-1].pk


def _remove_partials(alias: str, before: datetime) -> int:
    storage = get_storage(alias)
    # An upload over several requests may last so long, and rest for nearly all of it.
    longest = max(timedelta(seconds=settings.DIRECT_UPLOAD_SECONDS), timedelta(days=7))
    try:
        with retry_policy(ONCE), asking(alias):
            ensure_ours(alias)
            begun = grace_began(alias)
            before = min(before, begun) if begun else before
            return storage.remove_partials(before, sessions_older_than=before - longest)
    except StorageError as error:
        # One failing storage does not stop the others.
        log.warning("partials_left_to_the_next_sweep", provider=storage.provider, error=str(error))
        return 0


def purge_trash() -> dict[str, int]:
    """After TRASH_DAYS, in storages that are ours. After a restore or a decision on the storage, the days
    begin anew.
    """
    cutoff = earliest_now() - timedelta(days=settings.TRASH_DAYS)
    due = AudioUpload.objects.in_trash().filter(deleted_at__lt=cutoff)
    purged = held = 0
    for alias in _aliases_of(due):
        if not may_remove_from(alias):
            continue
        begun = grace_began(alias)
        if begun is not None and begun > cutoff:
            continue
        of_alias = due.filter(storage_provider=alias)
        whole = Subject(Sweep.TRASH, storage=alias)
        free = released(whole, of_alias, moment="deleted_at")
        held += of_alias.count() - free.count()
        # A permission for the whole storage covers its workspaces.
        if allowed_until := whole.allowed_until():
            purged += _purge_due(free.filter(deleted_at__lte=allowed_until).order_by("deleted_at"), cutoff)
            free = free.filter(deleted_at__gt=allowed_until)
        for workspace_id in list(free.order_by().values_list("workspace", flat=True).distinct()):
            of_workspace = free.filter(workspace=workspace_id)
            subject = Subject(Sweep.TRASH, storage=alias, workspace_id=workspace_id)
            freed = released(subject, of_workspace, moment="deleted_at")
            held += of_workspace.count() - freed.count()
            purged += _purge_due(freed.order_by("deleted_at"), cutoff)
    return {"purged": purged, "held": held}


def _aliases_of(uploads: "QuerySet[AudioUpload]") -> list[str]:
    return list(uploads.order_by().values_list("storage_provider", flat=True).distinct())


def _purge_due(due: "QuerySet[AudioUpload]", cutoff: datetime) -> int:
    purged = 0
    for upload in _in_batches(due):
        try:
            purge_upload(
                upload,
                actor=None,
                reason=f"{settings.TRASH_DAYS} days in the trash",
                only_if={"deleted_at__lt": cutoff},
            )
            purged += 1
        except DomainError:
            log.info("purge_refused", upload_id=str(upload.pk))
    return purged


def expire_uploads() -> dict[str, int]:
    """Move files older than ``retention_days`` to the trash, with ``auto_cleanup``; asks first for very many
    (``uploads.objects.brake``).
    """
    now = earliest_now()
    expired = stopped = 0
    for quota in StorageQuota.objects.filter(auto_cleanup=True, retention_days__isnull=False).iterator():
        assert quota.retention_days is not None
        expirable = {
            "uploaded_at__lt": now - timedelta(days=quota.retention_days),
            "status__in": SETTLED,
        }
        due = AudioUpload.objects.filter(workspace=quota.workspace_id, legal_hold=False, **expirable)
        free = released(Subject(Sweep.EXPIRY, workspace_id=quota.workspace_id), due, moment="uploaded_at")
        stopped += free.count() < due.count()
        for upload in _in_batches(free):
            try:
                delete_upload(upload, actor=None, reason=f"older than {quota.retention_days} days", only_if=expirable)
                expired += 1
            except DomainError:
                log.info("expiry_refused", upload_id=str(upload.pk))
    return {"expired": expired, "workspaces_stopped": stopped}


def _in_batches(due: "QuerySet[AudioUpload]") -> Iterator[AudioUpload]:
    """A row that was acted on leaves the query."""
    for pks in batched(list(due.values_list("pk", flat=True)), BATCH_SIZE):
        for upload in AudioUpload.objects.filter(pk__in=pks):
            yield upload
            let_others_write()

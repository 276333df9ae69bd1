"""The Celery tasks, each one call of a service. They take ids, and may run twice or in parallel.

Periodic tasks return their counts, which are stored as the result of the run.
"""

import json

from celery import shared_task

from audiotricks.leases import one_at_a_time
from quotas.models import StorageQuota
from uploads.actions import bulk
from uploads.objects import marks, orphans
from uploads.processing import runner
from uploads.upkeep import sweeps, tiers, usage


@shared_task(log_argument="upload_id")
def process_upload(upload_id: str) -> None:
    runner.process_next(upload_id)


@shared_task(log_argument="bulk_action_id")
def run_bulk_action(bulk_action_id: str) -> None:
    bulk.run_bulk_action(bulk_action_id)


@shared_task
@one_at_a_time
def sweep_stale_work() -> dict[str, int]:
    return sweeps.sweep_stale_work()


@shared_task
@one_at_a_time
def sweep_stale_reservations() -> dict[str, int]:
    return sweeps.sweep_stale_reservations()


@shared_task
@one_at_a_time
def expire_uploads() -> dict[str, int]:
    return sweeps.expire_uploads()


@shared_task
@one_at_a_time
def purge_trash() -> dict[str, int]:
    return sweeps.purge_trash()


@shared_task
@one_at_a_time
def sweep_orphaned_objects() -> dict[str, int]:
    return orphans.sweep_orphaned_objects()


@shared_task
@one_at_a_time
def look_at_marks() -> dict[str, int]:
    return marks.look_at_marks()


@shared_task
@one_at_a_time
def note_storage_classes() -> dict[str, int]:
    return tiers.note_storage_classes()


@shared_task
@one_at_a_time
def recalculate_quotas(workspace_ids: str | None = None) -> dict[str, int]:
    """``workspace_ids`` is a JSON list; without it, the quota of every workspace is recalculated."""
    chosen = None if workspace_ids is None else StorageQuota.objects.filter(workspace__in=json.loads(workspace_ids))
    return {"drifts": len(usage.recalculate(chosen))}

"""Celery's doors to the services. Each takes ids, may run twice or twice at once, and looks at the rows first."""

import structlog
from celery import shared_task

from uploads import processing, sweeps, usage

log = structlog.get_logger(__name__)


@shared_task(log_argument="upload_id")
def process_upload(upload_id: str) -> None:
    processing.process_upload(upload_id)


@shared_task
def sweep_stale_work() -> None:
    log.info("swept_stale_work", **sweeps.sweep_stale_work())


@shared_task
def sweep_stale_reservations() -> None:
    log.info("swept_stale_reservations", **sweeps.sweep_stale_reservations())


@shared_task
def expire_uploads() -> None:
    log.info("expired_uploads", **sweeps.expire_uploads())


@shared_task
def purge_trash() -> None:
    log.info("purged_trash", **sweeps.purge_trash())


@shared_task
def sweep_orphaned_objects() -> None:
    log.info("swept_orphaned_objects", **sweeps.sweep_orphaned_objects())


@shared_task
def recalculate_quotas() -> None:
    log.info("recalculated_quotas", drifts=len(usage.recalculate()))

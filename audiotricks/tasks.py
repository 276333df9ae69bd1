from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import Model, QuerySet

from audiotricks.audit import Kind
from audiotricks.clock import earliest_now
from audiotricks.database import let_others_write
from audiotricks.leases import one_at_a_time
from audiotricks.models import ApiToken, AuditEvent, IdempotencyKey, SignInCounter, TaskRun

BATCH = 1000
# An expired token answers "expired" for a while, before it is as unknown as any other text.
TOKENS_KEPT = timedelta(days=7)
COUNTERS_KEPT = timedelta(hours=2)
# Of each task.
RUNS_KEPT = 100

Row = TypeVar("Row", bound=Model)
log = structlog.get_logger(__name__)


@shared_task(name="audiotricks.tasks.forget_expired")
@one_at_a_time
def forget_expired() -> dict[str, int]:
    """Remove expired idempotency keys and sessions, tokens that expired a week ago, and all but the newest task runs.

    Returns how many of each. Safe twice, and twice at once.
    """
    now = earliest_now()
    counts = {
        "idempotency_keys": delete_in_batches(IdempotencyKey.objects.filter(expires_at__lt=now)),
        "sessions": delete_in_batches(Session.objects.filter(expire_date__lt=now)),
        "tokens": delete_in_batches(ApiToken.objects.filter(expiry__lt=now - TOKENS_KEPT)),
        "task_runs": forget_runs(),
        "sign_in_counters": delete_in_batches(SignInCounter.objects.filter(began_at__lt=now - COUNTERS_KEPT)),
        "audit_events": forget_audit_events(now),
    }
    log.info("forgot_expired", **counts)
    return counts


def forget_runs() -> int:
    """Keep the newest RUNS_KEPT runs of each task; returns how many went."""
    forgotten = 0
    for task in TaskRun.objects.order_by("task").values_list("task", flat=True).distinct():
        runs = TaskRun.objects.filter(task=task)
        for oldest_kept in runs.values_list("started_at", flat=True)[RUNS_KEPT - 1 : RUNS_KEPT]:
            forgotten += delete_in_batches(runs.filter(started_at__lt=oldest_kept))
    return forgotten


def forget_audit_events(now: datetime) -> int:
    """Those older than AUDIT_DAYS, and refusals older than AUDIT_REFUSALS_DAYS; returns how many went."""
    refusals = AuditEvent.objects.filter(kind__in=(Kind.SIGN_IN_FAILED, Kind.TOKEN_REFUSED))
    old = (
        AuditEvent.objects.filter(created_at__lt=now - timedelta(days=settings.AUDIT_DAYS)),
        refusals.filter(created_at__lt=now - timedelta(days=settings.AUDIT_REFUSALS_DAYS)),
    )
    forgotten = 0
    for rows in old:
        while keys := list(rows.order_by("id").values_list("pk", flat=True)[:BATCH]):
            forgotten += AuditEvent.objects.filter(pk__in=keys).forget()
    return forgotten


def delete_in_batches(rows: QuerySet[Row]) -> int:
    """Delete the rows, 1,000 in a statement; each one's condition is asked again as it goes. Returns how many."""
    deleted = 0
    while keys := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        deleted += rows.filter(pk__in=keys).delete()[0]
        let_others_write()
    return deleted

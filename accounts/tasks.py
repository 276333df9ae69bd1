from datetime import datetime, timedelta

from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session

from accounts.audit import Kind
from accounts.models import ApiToken, AuditEvent, SignInCounter
from audiotricks.clock import earliest_now
from audiotricks.database import BATCH, delete_in_batches
from audiotricks.leases import one_at_a_time

# An expired token is reported as expired for this time, then as unknown.
TOKENS_KEPT = timedelta(days=7)
COUNTERS_KEPT = timedelta(hours=2)


@shared_task
@one_at_a_time
def forget_expired() -> dict[str, int]:
    """Remove ended sessions, tokens a week after their end, old counters and audit events; return how many of each."""
    now = earliest_now()
    return {
        "sessions": delete_in_batches(Session.objects.filter(expire_date__lt=now)),
        "tokens": delete_in_batches(ApiToken.objects.filter(expiry__lt=now - TOKENS_KEPT)),
        "sign_in_counters": delete_in_batches(SignInCounter.objects.filter(began_at__lt=now - COUNTERS_KEPT)),
        "audit_events": forget_audit_events(now),
    }


def forget_audit_events(now: datetime) -> int:
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

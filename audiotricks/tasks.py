from datetime import timedelta

from celery import shared_task
from django.db.models import QuerySet

from audiotricks.clock import earliest_now
from audiotricks.models import ApiToken, IdempotencyKey

BATCH = 1000
# An expired token answers "expired" for a while, before it is as unknown as any other text.
TOKENS_KEPT = timedelta(days=7)


@shared_task(name="audiotricks.tasks.forget_expired")
def forget_expired() -> None:
    """Remove idempotency keys that have expired, and tokens that expired a week ago. Safe twice, and twice at once."""
    now = earliest_now()
    delete_in_batches(IdempotencyKey.objects.filter(expires_at__lt=now))
    delete_in_batches(ApiToken.objects.filter(expiry__lt=now - TOKENS_KEPT))


def delete_in_batches(rows: QuerySet[IdempotencyKey] | QuerySet[ApiToken]) -> int:
    """Delete the rows, 1,000 in a statement; each one's condition is asked again as it goes. Returns how many."""
    deleted = 0
    while keys := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        deleted += rows.filter(pk__in=keys).delete()[0]
    return deleted

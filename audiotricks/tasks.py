from celery import shared_task

from audiotricks.clock import earliest_now
from audiotricks.database import delete_in_batches
from audiotricks.leases import one_at_a_time
from audiotricks.models import IdempotencyKey, TaskRun

# For each task.
RUNS_KEPT = 100


@shared_task(name="audiotricks.tasks.forget_expired")
@one_at_a_time
def forget_expired() -> dict[str, int]:
    """Remove expired idempotency keys and old task runs; return how many of each."""
    return {
        "idempotency_keys": delete_in_batches(IdempotencyKey.objects.filter(expires_at__lt=earliest_now())),
        "task_runs": forget_runs(),
    }


def forget_runs() -> int:
    forgotten = 0
    for task in TaskRun.objects.order_by("task").values_list("task", flat=True).distinct():
        runs = TaskRun.objects.filter(task=task)
        for oldest_kept in runs.values_list("started_at", flat=True)[RUNS_KEPT - 1 : RUNS_KEPT]:
            forgotten += delete_in_batches(runs.filter(started_at__lt=oldest_kept))
    return forgotten

"""The embedded default: the same SQL on SQLite, in a process that is configured for it."""

from pathlib import Path

from tests.prepared import ran_on_sqlite

PROGRAM = """
import threading
from datetime import timedelta
import django
django.setup()
from django.db import connection, transaction
from django.utils import timezone
from quotas import reservations
from quotas.errors import QuotaExceeded
from quotas.models import QuotaReservation, StorageQuota, Workspace

assert connection.vendor == "sqlite"
workspace = Workspace.objects.create(name="Embedded", slug="embedded")
StorageQuota.objects.create(workspace=workspace, max_storage_bytes=1000, max_monthly_uploads=100)

refused = []
def reserve():
    for _ in range(5):
        try:
            reservations.reserve_storage(workspace, size_bytes=100, seconds=60)
        except QuotaExceeded as error:
            refused.append(error.members["limit"])
    connection.close()
threads = [threading.Thread(target=reserve) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert refused == ["max_storage_bytes"] * 20, refused

first, second, third, *rest = QuotaReservation.objects.all()
with transaction.atomic():
    assert reservations.settle_reservation(first, size_bytes=60)
    assert not reservations.settle_reservation(first.pk, size_bytes=60)
assert reservations.release_reservation(second)
assert not reservations.release_reservation(second.pk)
reservations.extend_reservation(third, size_bytes=240, seconds=3600)
quota = reservations.ensure_quota(workspace)
assert (quota.current_storage_bytes, quota.reserved_bytes) == (60, 940), vars(quota)
assert (quota.monthly_uploads, quota.monthly_upload_bytes) == (1, 60)
later = timezone.now() + timedelta(seconds=120)
assert reservations.release_expired(QuotaReservation.objects.all(), now=later) == len(rest) == 7
with transaction.atomic():
    reservations.count_out(workspace.pk, size_bytes=60)
    reservations.count_in(workspace.pk, size_bytes=50)
next_year = timezone.now() + timedelta(days=366)
reservations.reserve_storage(workspace, size_bytes=1, now=next_year)
quota = reservations.ensure_quota(workspace)
assert (quota.current_storage_bytes, quota.reserved_bytes, quota.monthly_uploads) == (50, 241, 0), vars(quota)
assert quota.month == next_year.date().replace(day=1)
from audiotricks.errors import NotFound
from quotas.rights import Role
from quotas.workspaces import change_role, remove_member
for manage in (lambda: change_role(workspace, user_id=10**30, role=Role.OWNER),
               lambda: remove_member(workspace, user_id=10**30)):
    try:
        manage()
    except NotFound:
        continue
    raise AssertionError("there is no such member")
print("done")
"""


def test_quotas_hold_on_sqlite_too(tmp_path: Path) -> None:
    """Promise 27. The embedded database never oversells either, with several threads."""
    ran_on_sqlite(PROGRAM, tmp_path)

"""50 threads reserve on one workspace, against 50 threads that run the bare UPDATE in a transaction.

Starts a PostgreSQL of its own. On both sides each thread keeps one connection, without a pool in between. Every run
checks that nothing was oversold; the peer is psycopg alone with `UPDATE storage_quotas SET reserved_bytes = ...`.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers import running_postgres  # noqa: E402

THREADS = 50
PER_THREAD = 40
ROUNDS = 7
TARGET = 0.5
FILE_BYTES = 1_000_000

BARE = """
    UPDATE storage_quotas SET reserved_bytes = reserved_bytes + %s, reserved_files = reserved_files + 1
    WHERE workspace_id = %s AND current_storage_bytes + reserved_bytes + %s <= max_storage_bytes
"""


def in_threads(work: Callable[[threading.Barrier], None]) -> float:
    """Runs ``work`` in all threads, which meet at the barrier when they are connected; operations a second."""
    barrier = threading.Barrier(THREADS + 1)
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work(barrier)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which raises it
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=guarded) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        barrier.wait(timeout=60)
    except threading.BrokenBarrierError:
        failures.append(RuntimeError("not all threads could connect"))
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    if failures:
        raise failures[0]
    return THREADS * PER_THREAD / seconds


def bare_updates(url: str, workspace_id: Any) -> float:
    def work(barrier: threading.Barrier) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT 1")
            connection.commit()
            barrier.wait()
            for _ in range(PER_THREAD):
                changed = connection.execute(BARE, (FILE_BYTES, workspace_id, FILE_BYTES)).rowcount
                connection.commit()
                if changed != 1:
                    raise RuntimeError("the bare UPDATE was refused")

    return in_threads(work)


def reservations(workspace: Any) -> float:
    from django.db import connection

    from quotas.reservations import reserve_storage

    def work(barrier: threading.Barrier) -> None:
        try:
            connection.ensure_connection()
            barrier.wait()
            for _ in range(PER_THREAD):
                reserve_storage(workspace, size_bytes=FILE_BYTES)
        finally:
            connection.close()

    return in_threads(work)


def oversell(workspace: Any, *, room: int) -> int:
    """How many files too many are let in when there is room for ``room`` and the threads ask for more."""
    from django.db import connection

    from quotas.errors import QuotaExceeded
    from quotas.models import QuotaReservation
    from quotas.reservations import reserve_storage

    set_room(workspace, files=room)

    def work(barrier: threading.Barrier) -> None:
        try:
            connection.ensure_connection()
            barrier.wait()
            for _ in range(PER_THREAD):
                try:
                    reserve_storage(workspace, size_bytes=FILE_BYTES)
                except QuotaExceeded:
                    continue
        finally:
            connection.close()

    in_threads(work)
    return QuotaReservation.objects.filter(workspace=workspace).count() - room


def set_room(workspace: Any, *, files: int) -> None:
    """An empty workspace again, with room for this many files of FILE_BYTES."""
    from quotas.models import QuotaReservation, StorageQuota

    QuotaReservation.objects.all().delete()
    StorageQuota.objects.filter(workspace=workspace).update(
        max_storage_bytes=files * FILE_BYTES,
        max_file_count=files,
        max_monthly_uploads=files,
        max_monthly_upload_bytes=files * FILE_BYTES,
        reserved_bytes=0,
        reserved_files=0,
    )


def main() -> int:
    with running_postgres() as url, tempfile.TemporaryDirectory() as var:
        os.environ.update(DATABASE_URL=url, VAR_DIR=var, DJANGO_SETTINGS_MODULE="audiotricks.settings")
        import django
        from django.conf import settings

        settings.DATABASES["default"]["OPTIONS"].pop("pool")
        django.setup()
        from django.core.management import call_command
        from django.db import connection

        from quotas.models import Workspace
        from quotas.reservations import ensure_quota

        call_command("migrate", "quotas", verbosity=0)
        workspace = Workspace.objects.create(name="Busy", slug="busy")
        ensure_quota(workspace)

        peers, ours = [], []
        for _ in range(ROUNDS):
            set_room(workspace, files=THREADS * PER_THREAD)
            peers.append(bare_updates(url, workspace.pk))
            set_room(workspace, files=THREADS * PER_THREAD)
            ours.append(reservations(workspace))
        excess = oversell(workspace, room=THREADS * PER_THREAD // 3)
        connection.close()

    # Rounds alternate, so that a machine which is busy for a while slows both sides of a pair.
    ratio = statistics.median(mine / peer for mine, peer in zip(ours, peers, strict=True))
    print(f"bare UPDATE in a transaction: {statistics.median(peers):7.0f} a second, {THREADS} threads, one row")
    print(f"reserve_storage:              {statistics.median(ours):7.0f} a second")
    print(f"ratio {ratio:.2f} (at least {TARGET}); oversold by {excess} (must be 0)")
    return 0 if ratio >= TARGET and excess == 0 else 1


if __name__ == "__main__":
    sys.exit(main())

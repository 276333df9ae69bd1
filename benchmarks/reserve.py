"""50 threads reserve on one workspace, against 50 threads that run the bare UPDATE in a transaction.

On a PostgreSQL of its own, with commits that wait for the disk. On both sides each thread keeps one connection, without
a pool in between; the peer is psycopg alone, whose statement is prepared too.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.rows import prepare
from tests.servers import running_postgres

THREADS = 50
PER_THREAD = 40
ROUNDS = 7
AT_LEAST = 0.5
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


def bare_updates(url: str, workspace: Any) -> float:
    make_room(workspace, files=THREADS * PER_THREAD)

    def work(barrier: threading.Barrier) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT 1")
            connection.commit()
            barrier.wait()
            for _ in range(PER_THREAD):
                changed = connection.execute(BARE, (FILE_BYTES, workspace.pk, FILE_BYTES)).rowcount
                connection.commit()
                if changed != 1:
                    raise RuntimeError("the bare UPDATE was refused")

    return in_threads(work)


def reservations(workspace: Any) -> float:
    from django.db import connection

    from quotas.reservations import reserve_storage

    make_room(workspace, files=THREADS * PER_THREAD)

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

    make_room(workspace, files=room)

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


def make_room(workspace: Any, *, files: int) -> None:
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


def wait_for_the_disk(url: str) -> None:
    """As production does; the tests' server is told not to."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


def main() -> int:
    with running_postgres() as url, tempfile.TemporaryDirectory() as var:
        wait_for_the_disk(url)
        prepare(url, var)
        from django.core.management import call_command
        from django.db import connection

        from quotas.models import Workspace
        from quotas.reservations import ensure_quota

        call_command("migrate", verbosity=0)
        workspace = Workspace.objects.create(name="Busy", slug="busy")
        ensure_quota(workspace)
        rates = by_turns(ROUNDS, bare=partial(bare_updates, url, workspace), ours=partial(reservations, workspace))
        excess = oversell(workspace, room=THREADS * PER_THREAD // 3)
        connection.close()
    ours, bare = (statistics.median(rates[side]) for side in ("ours", "bare"))
    return report(
        [
            Figure(
                f"{THREADS} threads reserve on one workspace, to the bare UPDATE in a transaction",
                f"{ours:.0f} to {bare:.0f} a second",
                ratio=median_ratio(rates["ours"], rates["bare"]),
                at_least=AT_LEAST,
            ),
            Figure(f"files that {THREADS} threads get in beyond the quota", str(excess), ratio=excess, at_most=0),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

"""Releases the database connection early, and retries while the database is down."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

import structlog
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.db.models import Model, QuerySet

#: PostgreSQL's error for a write to a read-only server, such as a standby after a failover.
READ_ONLY = "25006"
RETRY_SECONDS = 1.0
#: Rows that one statement deletes.
BATCH = 1000

Row = TypeVar("Row", bound=Model)

log = structlog.get_logger(__name__)

#: SQLite's waiting writers retry within 0.1 s, so a few of these pauses serve all of them.
PAUSE_SECONDS = 0.03


def release_connection() -> None:
    """Before a long wait. Does nothing inside a transaction or on SQLite, which has no pool."""
    if connection.vendor != "sqlite" and not connection.in_atomic_block:
        connection.close()


def let_others_write() -> None:
    """Pause between two transactions on SQLite, whose one writer has no queue. Does nothing inside a transaction or on
    PostgreSQL.
    """
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        time.sleep(PAUSE_SECONDS)


def is_unavailable(error: BaseException | None) -> bool:
    """Whether a retry may succeed soon: the database restarts, refuses, is full or locked. Also for follow-up errors in
    the transaction.
    """
    if not isinstance(error, DatabaseError | InterfaceError):
        return False
    while error is not None:
        if isinstance(error, OperationalError | InterfaceError) or getattr(error, "sqlstate", "") == READ_ONLY:
            return True
        error = error.__cause__ or error.__context__
    return False


def look_at_pool() -> None:
    """Replace connections that a restart of the database broke."""
    pool = getattr(connection, "pool", None)
    if pool is not None and not _looking.locked():
        threading.Thread(target=_check, args=(pool,), name="database-pool", daemon=True).start()


_looking = threading.Lock()


def _check(pool: object) -> None:
    if _looking.acquire(blocking=False):
        try:
            pool.check()  # type: ignore[attr-defined]
        except Exception:
            log.exception("pool_not_checked")
        finally:
            _looking.release()


def when_available(action: Callable[[], object], *, seconds: float) -> None:
    """Run ``action`` outside of transactions; while the database is unavailable, retry every second in a thread for
    ``seconds``. Raises other errors of the first attempt.
    """
    try:
        action()
    except (DatabaseError, InterfaceError) as error:
        if not is_unavailable(error):
            raise
        log.warning("put_off_until_the_database_answers", error=str(error))
        put_off(action, seconds=seconds)


def put_off(action: Callable[[], object], *, seconds: float) -> None:
    """:func:`when_available`, later."""
    _later.add(action, time.monotonic() + seconds)


class _Later:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.actions: deque[tuple[Callable[[], object], float]] = deque()
        self.thread: threading.Thread | None = None

    def add(self, action: Callable[[], object], deadline: float) -> None:
        with self.lock:
            self.actions.append((action, deadline))
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="database-later", daemon=True)
                self.thread.start()

    def work(self) -> None:
        while True:
            time.sleep(RETRY_SECONDS)
            with self.lock:
                if not self.actions:
                    self.thread = None
                    return
                action, deadline = self.actions[0]
            if time.monotonic() < deadline and not self.is_done(action):
                continue
            with self.lock:
                self.actions.popleft()

    def is_done(self, action: Callable[[], object]) -> bool:
        try:
            action()
        except Exception as error:
            if is_unavailable(error):
                return False
            log.exception("put_off_in_vain")
        finally:
            connection.close()
        return True


_later = _Later()


def delete_in_batches(rows: QuerySet[Row]) -> int:
    """Return how many; each statement repeats the condition."""
    deleted = 0
    while keys := list(rows.order_by().values_list("pk", flat=True)[:BATCH]):
        deleted += rows.filter(pk__in=keys).delete()[0]
        let_others_write()
    return deleted

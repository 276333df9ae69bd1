"""``/health``, without sign-in and secrets."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import connections
from django.http import HttpRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.http import require_safe
from kombu.connection import Connection

from audiotricks.clock import Now
from audiotricks.errors import DomainError
from audiotricks.models import TaskLease, WorkerHeartbeat
from audiotricks.plug import declared

#: The time limit of a response, for all checks together.
ANSWER_SECONDS = 0.8
#: A check that runs for longer hangs.
LONGEST_SECONDS = 5.0
#: A good result is valid for this time, and any result while the next run has none.
FRESH_SECONDS = 10.0
KEPT_SECONDS = 60.0

Check = Callable[[], dict[str, Any] | None]
log = structlog.get_logger(__name__)


class CheckFailed(Exception):
    """Its text is public; other exceptions are only logged."""


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """``{status: ok|degraded|failing, checks: {name: {ok, ...}}}``; 503 when failing.

    A check returns members for its entry, or raises. The response has the newest results, so a hanging check delays
    nothing.
    """
    declarations = dict(declared(lambda app: app.health_checks.items()))
    states = {name: state_of(check.function) for name, check in declarations.items()}
    for name, state in states.items():
        state.refresh(name)
    deadline = time.monotonic() + ANSWER_SECONDS
    checks = {name: state.result(deadline) for name, state in states.items()}
    failed = {name for name, result in checks.items() if not result["ok"]}
    fails = any(declarations[name].is_vital for name in failed)
    status = "failing" if fails else "degraded" if failed else "ok"
    return JsonResponse({"status": status, "checks": checks}, status=503 if status == "failing" else 200)


class Run:
    """In a thread of its own, since a check may hang."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self.check = check
        self.outcome: dict[str, Any] | None = None
        self.started_at = time.monotonic()
        self.finished_at = self.started_at
        self.thread = threading.Thread(target=self.work, name=f"health-{name}", daemon=True)
        self.thread.start()

    def work(self) -> None:
        try:
            outcome: dict[str, Any] = {"ok": True, **(self.check() or {})}
        except (CheckFailed, DomainError) as error:
            outcome = {"ok": False, "detail": str(error)}
        except Exception:
            log.exception("health_check_failed", check=self.name)
            outcome = {"ok": False, "detail": "It does not work; the log says why."}
        finally:
            connections.close_all()
        self.finished_at = time.monotonic()
        self.outcome = outcome

    @property
    def is_good(self) -> bool:
        return self.outcome is not None and bool(self.outcome["ok"])

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started_at

    @property
    def age(self) -> float:
        return time.monotonic() - self.finished_at


class State:
    """The newest result of a check, and its one run in progress."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.last: Run | None = None
        self.current: Run | None = None

    def refresh(self, name: str) -> None:
        """Start a run unless one is in progress or the result is fresh."""
        with self.lock:
            self._note_end()
            if self.current is None and not (self.last and self.last.is_good and self.last.age < FRESH_SECONDS):
                self.current = Run(name, import_string(self.path))

    def result(self, deadline: float) -> dict[str, Any]:
        """A good result at once, else the newest by the deadline."""
        with self.lock:
            last, current = self.last, self.current
        if current is not None and not (last is not None and last.is_good and last.age < KEPT_SECONDS):
            current.thread.join(max(0.0, deadline - time.monotonic()))
        with self.lock:
            self._note_end()
            last, current = self.last, self.current
        if current is not None and current.seconds > LONGEST_SECONDS:
            return {"ok": False, "detail": f"No answer within {LONGEST_SECONDS:.0f} seconds."}
        if last is not None and last.outcome is not None and last.age < KEPT_SECONDS:
            return last.outcome
        return {"ok": False, "detail": "No answer yet."}

    def _note_end(self) -> None:
        if self.current is not None and self.current.outcome is not None:
            self.last, self.current = self.current, None


states: dict[str, State] = {}
states_lock = threading.Lock()


def state_of(path: str) -> State:
    with states_lock:
        return states.setdefault(path, State(path))


def forget() -> None:
    with states_lock:
        for state in states.values():
            if state.current is not None:
                state.current.thread.join()
        states.clear()


def check_database() -> None:
    """Writes, since a read-only database takes no file and SQLite's writer may be blocked."""
    TaskLease.objects.update_or_create(task="health", defaults={"sent_at": Now()})


def check_broker() -> None:
    if urlsplit(settings.CELERY_BROKER_URL).scheme == "filesystem":
        folder = str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"])
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CheckFailed("The broker's folder cannot be written.")
        return
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "socket_connect_timeout": 1, "socket_timeout": 1}
    with Connection(settings.CELERY_BROKER_URL, connect_timeout=1, transport_options=options) as broker:  # type: ignore[no-untyped-call]
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=2)


def check_worker() -> dict[str, Any]:
    """Workers seen within WORKER_SEEN_SECONDS, by the database's clock."""
    seen = WorkerHeartbeat.objects.filter(seen_at__gte=Now() - timedelta(seconds=settings.WORKER_SEEN_SECONDS)).count()
    if not seen:
        raise CheckFailed(f"No worker was seen for {settings.WORKER_SEEN_SECONDS} seconds.")
    return {"workers": seen}

"""``/health``: does everything answer that the product needs? For load balancers and people; no sign-in, no secrets."""

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.db import connection, connections
from django.http import HttpRequest, JsonResponse
from django.utils.module_loading import import_string
from django.views.decorators.http import require_safe
from kombu.connection import Connection

from audiotricks.clock import Now
from audiotricks.errors import DomainError
from audiotricks.models import WorkerHeartbeat

LONGEST_SECONDS = 2.0
# Without these, files are still served; work, removals or new files wait.
DEGRADING = frozenset({"broker", "worker", "vault"})

Check = Callable[[], dict[str, Any] | None]
log = structlog.get_logger(__name__)


class CheckFailed(Exception):
    """Raised by a check whose text may be shown to anybody; what else a check raises is logged and not shown."""


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """``{status: ok|degraded|failing, checks: {name: {ok, ...}}}``; 503 when failing.

    A check of ``settings.HEALTH_CHECKS`` returns members for its entry, or raises. Each has two seconds.
    """
    runs = {name: run_of(name, path) for name, path in settings.HEALTH_CHECKS.items()}
    deadline = time.monotonic() + LONGEST_SECONDS
    checks = {name: run.result(max(0.0, deadline - time.monotonic())) for name, run in runs.items()}
    failed = {name for name, result in checks.items() if not result["ok"]}
    status = "ok" if not failed else "degraded" if failed <= DEGRADING else "failing"
    return JsonResponse({"status": status, "checks": checks}, status=503 if status == "failing" else 200)


class Run:
    """One check on its way, in a thread of its own, since some things that hang cannot be interrupted."""

    def __init__(self, name: str, check: Check) -> None:
        self.name = name
        self.check = check
        self.outcome: dict[str, Any] | None = None
        self.thread = threading.Thread(target=self.work, name=f"health-{name}", daemon=True)
        self.thread.start()

    def work(self) -> None:
        try:
            self.outcome = {"ok": True, **(self.check() or {})}
        except (CheckFailed, DomainError) as error:
            self.outcome = {"ok": False, "detail": str(error)}
        except Exception:
            log.exception("health_check_failed", check=self.name)
            self.outcome = {"ok": False, "detail": "It does not work; the log says why."}
        finally:
            connections.close_all()

    def result(self, seconds: float) -> dict[str, Any]:
        self.thread.join(seconds)
        return self.outcome or {"ok": False, "detail": f"No answer within {LONGEST_SECONDS:.0f} seconds."}


runs: dict[str, Run] = {}
runs_lock = threading.Lock()


def run_of(name: str, path: str) -> Run:
    """The run of this check that is on its way, or a new one: a check that hangs takes one thread for all requests."""
    with runs_lock:
        if name not in runs or not runs[name].thread.is_alive():
            runs[name] = Run(name, import_string(path))
        return runs[name]


def check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def check_broker() -> None:
    if urlsplit(settings.CELERY_BROKER_URL).scheme == "filesystem":
        folder = str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_out"])
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CheckFailed("The broker's folder cannot be written.")
        return
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "socket_connect_timeout": 1, "socket_timeout": 1}
    with Connection(settings.CELERY_BROKER_URL, connect_timeout=1, transport_options=options) as broker:  # type: ignore[no-untyped-call]
        broker.ensure_connection(max_retries=1, interval_start=0, timeout=LONGEST_SECONDS)


def check_worker() -> dict[str, Any]:
    """How many workers were seen within WORKER_SEEN_SECONDS, by the database's clock."""
    seen = WorkerHeartbeat.objects.filter(seen_at__gte=Now() - timedelta(seconds=settings.WORKER_SEEN_SECONDS)).count()
    if not seen:
        raise CheckFailed(f"No worker was seen for {settings.WORKER_SEEN_SECONDS} seconds.")
    return {"workers": seen}

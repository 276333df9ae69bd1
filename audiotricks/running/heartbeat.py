"""Each worker writes a row of ``worker_heartbeats`` from its main process."""

import threading
from datetime import timedelta
from typing import Any

import structlog
from celery.signals import worker_ready, worker_shutdown
from django.conf import settings
from django.db import connections

from audiotricks.clock import Now
from audiotricks.models import WorkerHeartbeat

FORGET_AFTER = timedelta(days=1)

log = structlog.get_logger(__name__)


def beat(name: str) -> None:
    """Also removes workers that were silent for a day."""
    WorkerHeartbeat.objects.update_or_create(name=name[:255], defaults={"seen_at": Now()})
    WorkerHeartbeat.objects.filter(seen_at__lt=Now() - FORGET_AFTER).delete()


def interval_seconds() -> float:
    return min(20.0, settings.WORKER_SEEN_SECONDS / 3)


class Heartbeat:
    """A daemon thread without a database connection between beats."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self.thread.start()

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                beat(self.name)
            except Exception as error:  # noqa: BLE001 - a database that is away must not end the thread
                log.warning("heartbeat_not_written", worker=self.name, error=str(error))
            finally:
                connections.close_all()
            self.stopped.wait(interval_seconds())

    def stop(self) -> None:
        """Also removes the row, so that ``/health`` knows at once."""
        self.stopped.set()
        self.thread.join(timeout=5)
        try:
            WorkerHeartbeat.objects.filter(name=self.name[:255]).delete()
        except Exception as error:  # noqa: BLE001 - the worker ends in any case
            log.warning("heartbeat_not_removed", worker=self.name, error=str(error))
        finally:
            connections.close_all()


running: dict[str, Heartbeat] = {}


@worker_ready.connect
def start_beating(sender: Any = None, **kwargs: Any) -> None:
    running[sender.hostname] = Heartbeat(sender.hostname)
    running[sender.hostname].start()


@worker_shutdown.connect
def stop_beating(sender: Any = None, **kwargs: Any) -> None:
    if heartbeat := running.pop(sender.hostname, None):
        heartbeat.stop()

import os
from functools import partial
from typing import Any

import structlog
from celery import Celery
from celery.signals import worker_init
from django.db import connections, transaction

from audiotricks.running import broker

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "audiotricks.settings")

broker.register()
app = Celery("audiotricks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

log = structlog.get_logger(__name__)


def send_on_commit(task_name: str, *args: Any) -> None:
    """Send a task by its dotted name after the commit, in one short attempt. A failure is logged; the sweep sends
    again.
    """
    transaction.on_commit(partial(send_once, task_name, *args), robust=True)


def send_once(task_name: str, *args: Any) -> bool:
    """Return whether the broker took it, in one short attempt; a failure is logged."""
    try:
        # Without limits of ours: those of the worker apply.
        app.send_task(task_name, args=[str(arg) for arg in args], retry=False, time_limit=None, soft_time_limit=None)
    except Exception as error:  # noqa: BLE001 - every transport has exceptions of its own
        log.warning("task_not_sent", task=task_name, args=[str(arg) for arg in args], error=str(error))
        return False
    return True


def waiting_tasks() -> int:
    """In the default queue. Raises the transport's error."""
    with app.connection_for_read() as broker:
        try:
            return int(broker.default_channel.queue_declare(app.conf.task_default_queue, passive=True).message_count)
        except broker.channel_errors:
            # An empty queue need not exist.
            return 0


@worker_init.connect
def use_plain_connections(**kwargs: Any) -> None:
    """Children of the worker would share a pool from before the fork."""
    connections.settings["default"].get("OPTIONS", {}).pop("pool", None)

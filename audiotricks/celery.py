"""The Celery application, and the one way in which a task is sent."""

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
    """Send a task by its dotted name once the present transaction is committed; never, if it rolls back.

    One short attempt. A broker that cannot be reached is logged and nothing more: what the task was to do stands in
    the database as a state, and the sweep sends it again.
    """
    transaction.on_commit(partial(send_once, task_name, *args), robust=True)


def send_once(task_name: str, *args: Any) -> bool:
    """Send a task now, in one short attempt. Says whether the broker took it; that it did not is logged."""
    try:
        # No limits of ours go along: those of the worker that runs the task are the ones that hold.
        app.send_task(task_name, args=[str(arg) for arg in args], retry=False, time_limit=None, soft_time_limit=None)
    except Exception as error:  # noqa: BLE001 - every transport has exceptions of its own
        log.warning("task_not_sent", task=task_name, args=[str(arg) for arg in args], error=str(error))
        return False
    return True


def waiting_tasks() -> int:
    """How many tasks wait in the default queue. Raises what the transport raises when the broker is away."""
    with app.connection_for_read() as broker:
        try:
            return int(broker.default_channel.queue_declare(app.conf.task_default_queue, passive=True).message_count)
        except broker.channel_errors:
            # A queue that is empty need not exist.
            return 0


@worker_init.connect
def use_plain_connections(**kwargs: Any) -> None:
    """A pool that was opened before the fork would be shared by every child of the worker."""
    connections.settings["default"].get("OPTIONS", {}).pop("pool", None)

"""Sends no second message for a task while one waits."""

from typing import Any

import structlog
from django.db import Error
from django_celery_beat.schedulers import DatabaseScheduler

from audiotricks.leases import guarded, note_not_sent, note_sending

log = structlog.get_logger(__name__)


class Scheduler(DatabaseScheduler):
    def apply_async(self, entry: Any, producer: Any = None, advance: bool = True, **kwargs: Any) -> Any:
        if entry.task not in guarded:
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        try:
            sent_at = note_sending(entry.task)
        except Error as error:
            log.warning("sending_not_noted", task=entry.task, error=str(error))
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        if sent_at is None:
            log.info("task_waits_already", task=entry.task)
            return None
        entry.options["headers"] = {**(entry.options.get("headers") or {}), "sent_at": sent_at.isoformat()}
        try:
            return super().apply_async(entry, producer=producer, advance=advance, **kwargs)
        except Exception:
            note_not_sent(entry.task)
            raise

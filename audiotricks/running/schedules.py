"""Puts ``settings.PERIODIC_TASKS`` into django-celery-beat's tables: each name once, after migrating."""

from typing import Any

from django.conf import settings
from django.db import connections, transaction
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from audiotricks.models import SeededTask


def seed_after_migrate(using: str = "default", **kwargs: Any) -> None:
    """Receiver of ``post_migrate``. Does nothing while a table is missing (a partial migration)."""
    tables = connections[using].introspection.table_names()
    if {PeriodicTask._meta.db_table, SeededTask._meta.db_table} <= set(tables):
        seed_periodic_tasks()


def seed_periodic_tasks() -> list[str]:
    """Add the tasks that were never added before; return their names. Names in ``seeded_tasks`` are left as staff left
    them.
    """
    added = []
    for name, (task, schedule) in settings.PERIODIC_TASKS.items():
        with transaction.atomic():
            if not SeededTask.objects.get_or_create(name=name)[1]:
                continue
            row, field = ModelEntry.to_model_schedule(schedule)
            PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, field: row})
            added.append(name)
    return added

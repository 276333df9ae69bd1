"""Seeds the schedule with declared periodic tasks."""

from typing import Any

from django.db import connections, transaction
from django_celery_beat.models import PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from audiotricks.models import SeededTask
from audiotricks.plug import periodic_tasks


def seed_after_migrate(using: str = "default", **kwargs: Any) -> None:
    """Does nothing while a table is missing (a partial migration)."""
    tables = connections[using].introspection.table_names()
    if {PeriodicTask._meta.db_table, SeededTask._meta.db_table} <= set(tables):
        seed_periodic_tasks()


def seed_periodic_tasks() -> list[str]:
    """Add each task once and return the new names; later changes of staff stay."""
    added = []
    for name, (task, schedule) in periodic_tasks():
        with transaction.atomic():
            if not SeededTask.objects.get_or_create(name=name)[1]:
                continue
            row, field = ModelEntry.to_model_schedule(schedule)
            PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, field: row})
            added.append(name)
    return added

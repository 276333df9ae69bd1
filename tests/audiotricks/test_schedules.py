from collections.abc import Callable
from datetime import timedelta

import pytest
from celery.schedules import crontab
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from audiotricks.models import SeededTask
from audiotricks.plug import periodic_tasks
from audiotricks.running.schedules import seed_periodic_tasks

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_seeded(db: None, declare: Callable[..., None]) -> None:
    PeriodicTask.objects.all().delete()
    SeededTask.objects.all().delete()
    declare(
        periodic_tasks={
            "Every minute": ("a.b", timedelta(seconds=60)),
            "At night": ("c.d", crontab(hour="3", minute="15")),
        }
    )


def migrate_again() -> None:
    emit_post_migrate_signal(verbosity=0, interactive=False, db="default")


def test_the_schedule_is_made_after_migrating() -> None:
    migrate_again()
    minute, night = PeriodicTask.objects.get(name="Every minute"), PeriodicTask.objects.get(name="At night")
    assert (minute.task, minute.interval.every, minute.interval.period) == ("a.b", 60, "seconds")
    assert (night.task, night.crontab.hour, night.crontab.minute) == ("c.d", "3", "15")
    assert minute.enabled and night.enabled


def test_migrating_again_leaves_what_staff_changed_disabled_or_deleted() -> None:
    migrate_again()
    PeriodicTask.objects.filter(name="Every minute").update(enabled=False, task="x.y")
    PeriodicTask.objects.filter(name="At night").delete()
    migrate_again()
    (left,) = PeriodicTask.objects.all()
    assert (left.name, left.enabled, left.task) == ("Every minute", False, "x.y")


def test_a_task_that_is_new_in_a_release_is_added_then(declare: Callable[..., None]) -> None:
    assert seed_periodic_tasks() == ["Every minute", "At night"]
    declare(periodic_tasks={**dict(periodic_tasks()), "New": ("e.f", timedelta(hours=1))})
    assert seed_periodic_tasks() == ["New"]
    assert PeriodicTask.objects.count() == 3


def test_a_task_that_staff_made_under_the_same_name_is_theirs() -> None:
    hour = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.HOURS)
    schedule = PeriodicTask.objects.create(name="Every minute", task="own", interval=hour, enabled=False)
    seed_periodic_tasks()
    schedule.refresh_from_db()
    assert (schedule.task, schedule.enabled) == ("own", False)


@pytest.mark.django_db(transaction=True)
def test_the_tables_can_be_taken_back_and_made_again() -> None:
    try:
        # The other apps' tables refer to ours, and so go and come with them.
        call_command("migrate", "audiotricks", "zero", verbosity=0, skip_checks=True)
    finally:
        call_command("migrate", verbosity=0, skip_checks=True)
    assert SeededTask.objects.count() == 2

from datetime import timedelta

from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _

from audiotricks.plug import HealthCheck, VaultApp


class AudioTricksConfig(VaultApp):
    name = "audiotricks"
    label = "audiotricks"
    verbose_name = "AudioTricks"

    periodic_tasks = {
        # Existing installations have this name.
        "Forget old idempotency keys and tokens": ("audiotricks.tasks.forget_expired", timedelta(hours=1)),
    }
    health_checks = {
        "database": HealthCheck("audiotricks.running.health.check_database"),
        "broker": HealthCheck("audiotricks.running.health.check_broker", is_vital=False),
        "worker": HealthCheck("audiotricks.running.health.check_worker", is_vital=False),
    }
    figures = ("audiotricks.admin.site.operation_figures",)
    sidebar = {
        "django_celery_beat.periodictask": (_("Operation"), "schedule"),
        "audiotricks.taskrun": (_("Operation"), "task_alt"),
        "django_celery_beat.intervalschedule": (_("Operation"), "timer"),
        "django_celery_beat.crontabschedule": (_("Operation"), "calendar_month"),
        "audiotricks.workerheartbeat": (_("Operation"), "memory"),
        "audiotricks.idempotencykey": (_("Operation"), "replay"),
        "audiotricks.encryptionkey": (_("Operation"), "lock"),
    }
    registers = (
        "audiotricks.celery",
        "audiotricks.sqlite",
        "audiotricks.running.checks",
        "audiotricks.running.heartbeat",
        "audiotricks.running.runs",
    )

    def ready(self) -> None:
        super().ready()
        from audiotricks.running.schedules import seed_after_migrate  # models are loaded only now

        post_migrate.connect(seed_after_migrate, sender=self)

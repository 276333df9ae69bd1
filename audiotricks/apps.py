from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AudioTricksConfig(AppConfig):
    name = "audiotricks"
    label = "audiotricks"
    verbose_name = "AudioTricks"

    def ready(self) -> None:
        from audiotricks import database  # noqa: F401 - its receivers are connected only now
        from audiotricks.running import checks, heartbeat, runs, schedules  # noqa: F401 - models are loaded only now

        post_migrate.connect(schedules.seed_after_migrate, sender=self)

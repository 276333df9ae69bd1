from django.apps import AppConfig


class ObjectStoreConfig(AppConfig):
    name = "objectstore"

    def ready(self) -> None:
        from objectstore import checks  # noqa: F401 - settings are complete only now

from django.apps import apps
from django.utils.module_loading import import_string

from uploads.actions.base import BulkFileAction


def file_actions() -> list[BulkFileAction]:
    """The file actions that the installed apps declare, in the order of the apps."""
    declared = (path for config in apps.get_app_configs() for path in getattr(config, "file_actions", ()))
    return [import_string(path) for path in declared]


def find_action(name: str) -> BulkFileAction | None:
    return next((action for action in file_actions() if action.name == name), None)

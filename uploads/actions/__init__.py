from django.utils.module_loading import import_string

from audiotricks.plug import declared
from uploads.actions.base import BulkFileAction


def file_actions() -> list[BulkFileAction]:
    """Of all installed apps."""
    return [import_string(path) for path in declared(lambda app: app.file_actions)]


def find_action(name: str) -> BulkFileAction | None:
    return next((action for action in file_actions() if action.name == name), None)

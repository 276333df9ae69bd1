from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import InvalidStorageError, storages
from django.utils.translation import gettext as _

from audiotricks.management.prompt import usage_error
from objectstore import get_storage
from objectstore.base import AudioStorage
from objectstore.errors import StorageError


def storages_to_look_at(alias: str | None) -> dict[str, AudioStorage]:
    """All without an alias. Raises CommandError."""
    return {name: get_storage(name) for name in aliases_to_look_at(alias)}


def aliases_to_look_at(alias: str | None) -> list[str]:
    """For storages that may not be usable."""
    aliases = [name for name in settings.STORAGES if may_hold_audio(name)]
    if alias is None:
        return aliases
    if alias not in aliases:
        raise usage_error(
            _("The storage “%(alias)s” is not configured. Configured are: %(aliases)s.")
            % {"alias": alias, "aliases": ", ".join(aliases)}
        )
    return [alias]


def may_hold_audio(alias: str) -> bool:
    try:
        return isinstance(storages[alias], AudioStorage)
    except (InvalidStorageError, ImproperlyConfigured, StorageError, ValueError):
        return True

"""Where audio lies: one interface (``base``), a backend a file, names of ours, and retries."""

from django.conf import settings
from django.core.files.storage import InvalidStorageError, storages
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from .base import AudioStorage
from .errors import PermanentStorageError


def get_storage(alias: str) -> AudioStorage:
    """Return the storage that a row's ``storage_provider`` names. Raises PermanentStorageError if there is none now."""
    try:
        storage = storages[alias]
    except InvalidStorageError as error:
        raise PermanentStorageError(format_lazy(_("The storage “{alias}” is not configured."), alias=alias)) from error
    if not isinstance(storage, AudioStorage):
        raise PermanentStorageError(format_lazy(_("The storage “{alias}” is not one for audio."), alias=alias))
    return storage


def default_alias() -> str:
    """Return the alias of the storage that new files go to."""
    return str(settings.AUDIO_STORAGE)

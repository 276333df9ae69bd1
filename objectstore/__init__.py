"""The object store: one interface (``base``) and a package for each backend."""

from collections.abc import Iterable, Iterator
from itertools import chain

from django.conf import settings
from django.core.files.storage import InvalidStorageError, storages
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from .base import AudioStorage, ObjectStat
from .capabilities import DirectUploads
from .errors import DirectUploadUnsupported, PermanentStorageError
from .names import PREFIXES


def get_storage(alias: str) -> AudioStorage:
    """Raises PermanentStorageError for an alias that is not configured."""
    try:
        storage = storages[alias]
    except InvalidStorageError as error:
        raise PermanentStorageError(format_lazy(_("The storage “{alias}” is not configured."), alias=alias)) from error
    if not isinstance(storage, AudioStorage):
        raise PermanentStorageError(format_lazy(_("The storage “{alias}” is not one for audio."), alias=alias))
    return storage


def audio_storages() -> dict[str, AudioStorage]:
    """Every configured storage by its alias."""
    configured = {alias: storages[alias] for alias in settings.STORAGES}
    return {alias: storage for alias, storage in configured.items() if isinstance(storage, AudioStorage)}


def objects_in(storage: AudioStorage, prefixes: Iterable[str] = PREFIXES) -> Iterator[ObjectStat]:
    """The objects under these prefixes; without any, all that a sweep may remove."""
    return chain.from_iterable(storage.list(prefix) for prefix in prefixes)


def direct_uploads_of(storage: AudioStorage) -> DirectUploads:
    """Raises DirectUploadUnsupported."""
    if storage.direct is None:
        raise DirectUploadUnsupported
    return storage.direct


def default_alias() -> str:
    return str(settings.AUDIO_STORAGE)

from django.utils.translation import gettext as _

from audiotricks.management.prompt import usage_error
from uploads.storage import get_storage
from uploads.storage.base import AudioStorage
from uploads.storage.errors import PermanentStorageError
from uploads.sweeps import audio_storages


def storages_to_look_at(alias: str | None) -> dict[str, AudioStorage]:
    """The one that was named, or all that are configured. Raises CommandError for a name that none has."""
    if alias is None:
        return audio_storages()
    try:
        return {alias: get_storage(alias)}
    except PermanentStorageError as error:
        raise usage_error(
            _("%(why)s Configured are: %(aliases)s.")
            % {"why": error.detail, "aliases": ", ".join(sorted(audio_storages()))}
        ) from error

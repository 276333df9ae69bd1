"""The columns of a row that say where its object lies."""

from typing import Any

from audiotricks.models import EncryptionKey
from uploads.models import AudioUpload
from uploads.storage import get_storage

OBJECT_COLUMNS = (
    "storage_provider",
    "storage_path",
    "storage_url",
    "storage_region",
    "storage_class",
    "encryption_key",
)


def place_columns(alias: str, name: str) -> dict[str, Any]:
    """Those of an object that this storage is to write now; its ``storage_class`` is known when it is stored.

    The key that it will be encrypted with gets its row in ``encryption_keys`` at its first use.
    """
    storage = get_storage(alias)
    reference = storage.encryption_key
    key = None
    if reference is not None:
        key, _ = EncryptionKey.objects.get_or_create(provider=reference.provider, key_reference=reference.key_reference)
    return {
        "storage_provider": alias,
        "storage_path": name,
        "storage_url": storage.location_of(name),
        "storage_region": storage.region,
        "encryption_key": key,
    }


def object_of(upload: AudioUpload) -> dict[str, Any]:
    """The columns that say where a file's bytes lie; what shares its object has the same."""
    return {name: getattr(upload, name) for name in OBJECT_COLUMNS}

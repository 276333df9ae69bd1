"""What a row says of its object, and what is kept beside the object, so that a bucket alone tells what is in it."""

from typing import Any
from uuid import UUID

from audiotricks.models import EncryptionKey
from objectstore import get_storage
from uploads.models import AudioUpload

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


def object_metadata(upload: AudioUpload) -> dict[str, str]:
    """What is known of a file from the first byte on."""
    return {
        "audio_id": str(upload.pk),
        "original_filename": upload.original_filename,
        "file_type": upload.file_type,
        "upload_timestamp": upload.created_at.isoformat(timespec="seconds"),
    }


def content_metadata(*, size_bytes: int, md5: str = "", sha256: str = "", has_thumbnail: bool) -> dict[str, str]:
    """What is known beyond that when all bytes have come. A hash that nobody knows is left out."""
    facts = {
        "file_size": str(size_bytes),
        "checksum_md5": md5,
        "checksum_sha256": sha256,
        "has_thumbnail": "true" if has_thumbnail else "false",
    }
    return {name: value for name, value in facts.items() if value}


def thumbnail_metadata(upload_id: UUID, *, extension: str, size_bytes: int) -> dict[str, str]:
    return {"audio_id": str(upload_id), "file_type": extension, "file_size": str(size_bytes)}

import base64

import structlog
from django.utils.translation import gettext_lazy as _
from google.cloud.storage import Blob

from ..base import ObjectStat
from ..errors import TransientStorageError
from ..metadata import decode_metadata

log = structlog.get_logger(__name__)


def stat_of(name: str, blob: Blob) -> ObjectStat:
    checksums = {"md5": blob.md5_hash, "crc32c": blob.crc32c}
    return ObjectStat(
        name=name,
        size=blob.size,
        modified_at=blob.time_created,
        storage_class=blob.storage_class or "",
        checksums={name: base64.b64decode(value).hex() for name, value in checksums.items() if value},
        content_type=blob.content_type or "",
        metadata=decode_metadata(blob.metadata or {}),
        version=str(blob.generation),
        # The API appends the version of the key.
        encryption_key=(blob.kms_key_name or "").partition("/cryptoKeyVersions/")[0],
    )


def check_described(blob: Blob) -> None:
    """Raise TransientStorageError for an incomplete description."""
    if None in (blob.generation, blob.size, blob.crc32c, blob.time_created):
        log.warning("gcs_failed", object=blob.name, error="cut, or not of the storage")
        raise TransientStorageError(_("The storage's answer cannot be understood."))


def compare(stored: Blob, size: int, crc32c: str) -> None:
    """Raise TransientStorageError for another size in bytes or CRC32C (base64)."""
    if (stored.size, stored.crc32c) != (size, crc32c):
        log.warning("gcs_failed", action="write", object=stored.name, error="size or crc32c differs")
        error = TransientStorageError(_("What the storage has is not what was sent."))
        error.was_retried = True
        raise error


def lost_content() -> TransientStorageError:
    """What was sent is lost: everything must be sent again."""
    error = TransientStorageError(_("The storage lost a part of the file."))
    error.was_retried = True
    return error

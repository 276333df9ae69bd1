"""Metadata, from which a bucket can be understood without the database."""

from uuid import UUID

from uploads.models import AudioUpload


def object_metadata(upload: AudioUpload) -> dict[str, str]:
    """Known from the first byte on."""
    return {
        "audio_id": str(upload.pk),
        "original_filename": upload.original_filename,
        "file_type": upload.file_type,
        "upload_timestamp": upload.created_at.isoformat(timespec="seconds"),
    }


def content_metadata(*, size_bytes: int, md5: str = "", sha256: str = "", has_thumbnail: bool) -> dict[str, str]:
    """Known after the last byte, without unknown hashes."""
    facts = {
        "file_size": str(size_bytes),
        "checksum_md5": md5,
        "checksum_sha256": sha256,
        "has_thumbnail": "true" if has_thumbnail else "false",
    }
    return {name: value for name, value in facts.items() if value}


def thumbnail_metadata(upload_id: UUID, *, extension: str, size_bytes: int) -> dict[str, str]:
    return {"audio_id": str(upload_id), "file_type": extension, "file_size": str(size_bytes)}

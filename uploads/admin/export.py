"""Files as streamed CSV, with all columns for staff."""

from collections.abc import Iterator
from typing import Any

from django.utils import translation
from django.utils.translation import gettext as _

from audiotricks.database import release_connection
from audiotricks.keyset import pages_of
from uploads.models import AudioUpload, AudioUploadQuerySet

BATCH_SIZE = 1000


def csv_rows(uploads: AudioUploadQuerySet, *, language: str) -> Iterator[list[Any]]:
    """By id. ``language`` is the reader's, not active while rows are sent."""
    with translation.override(language):
        headings = [
            *("ID", _("Name"), _("Workspace"), _("Owner"), _("State"), _("Error"), _("On hold"), _("Format")),
            *(_("Bytes"), _("Seconds"), _("Uploaded (UTC)"), _("Verified (UTC)"), _("Deleted (UTC)")),
            *(_("Storage"), _("Path"), "SHA-256", "MD5"),
        ]
    yield headings
    for batch in pages_of(uploads.select_related("workspace", "owner"), ("id",), size=BATCH_SIZE):
        release_connection()
        for upload in batch:
            yield _row(upload)


def _row(upload: AudioUpload) -> list[Any]:
    return [
        *(upload.pk, upload.original_filename, upload.workspace.slug, upload.owner, upload.status),
        *(upload.error_code, "yes" if upload.legal_hold else "", upload.file_type, upload.file_size),
        *(upload.duration, upload.uploaded_at, upload.verified_at, upload.deleted_at),
        *(upload.storage_provider, upload.storage_path, upload.checksum_sha256, upload.checksum_md5),
    ]

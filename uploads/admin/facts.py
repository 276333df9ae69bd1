"""The non-empty facts in a file's row, in four groups."""

from typing import Any

from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from accounts.templatetags.people import duration, grouped
from audiotricks.admin.base import link, link_to, moment
from uploads.admin.shown import exact_size, file_link
from uploads.models import AudioUpload
from uploads.models.states import LEASABLE

Facts = list[tuple[Any, Any]]
#: A longer text takes a line of its own.
WIDE = 32


def facts_of(upload: AudioUpload) -> list[tuple[str, list[tuple[Any, Any, bool]]]]:
    """For each group the heading and lines: label, text or link, whether wide."""
    groups = [
        (_("What it is"), _what_it_is(upload)),
        (_("Whose it is"), _whose_it_is(upload)),
        (_("When it was where"), _when(upload)),
        (_("Where it lies"), _where_it_lies(upload)),
    ]
    return [(heading, described(facts)) for heading, facts in groups]


def described(facts: Facts) -> list[tuple[Any, Any, bool]]:
    return [(label, value, _is_wide(value)) for label, value in facts if value not in (None, "")]


def _is_wide(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, SafeString) and len(value) >= WIDE


def _what_it_is(upload: AudioUpload) -> Facts:
    return [
        (_("Size"), exact_size(upload.file_size)),
        (_("Length"), duration(upload.duration)),
        (_("Format"), f"{upload.file_type} ({upload.mime_type})"),
        (_("Codec"), upload.codec),
        (_("Sample rate"), upload.sample_rate and f"{grouped(upload.sample_rate)} Hz"),
        (_("Channels"), upload.channels),
        (_("Bitrate"), upload.bitrate and f"{grouped(upload.bitrate)} kbit/s"),
        ("SHA-256", upload.checksum_sha256),
        ("MD5", upload.checksum_md5),
    ]


def _whose_it_is(upload: AudioUpload) -> Facts:
    files = reverse("admin:uploads_audioupload_changelist")
    others = link(f"{files}?workspace__id__exact={upload.workspace_id}", _("Files of this workspace"))
    return [
        ("ID", str(upload.pk)),
        (_("Workspace"), link_to(upload.workspace)),
        (_("Beside it"), others),
        (_("Owner"), link_to(upload.owner)),
        (_("Reservation"), link_to(upload.reservation)),
    ]


def _when(upload: AudioUpload) -> Facts:
    times: dict[str, Any] = {
        _("Begun"): upload.created_at,
        _("Uploaded"): upload.uploaded_at,
        _("Check began"): upload.validation_started_at,
        _("Check passed"): upload.validation_completed_at,
        _("Processing began"): upload.processing_started_at,
        _("Ready"): upload.processing_completed_at,
        _("Verified"): upload.verified_at,
        _("Failed"): upload.failed_at,
        _("Archiving began"): upload.archiving_started_at,
        _("Archived"): upload.archived_at,
        _("Restoring began"): upload.restoring_started_at,
        _("Restored until"): upload.restore_expires_at,
        _("Deleted"): upload.deleted_at,
        _("Purged"): upload.purged_at,
        _("No worker before"): upload.claimable_at if upload.status in LEASABLE else None,
    }
    tries = _("%(count)d of %(most)d") % {"count": upload.retry_count, "most": upload.max_retries}
    return [*((label, moment(when)) for label, when in times.items()), (_("Tried again"), tries)]


def _where_it_lies(upload: AudioUpload) -> Facts:
    original = upload.duplicate_of
    return [
        (_("Storage"), upload.storage_provider),
        (_("Path"), upload.storage_path),
        (_("Picture"), upload.thumbnail_path),
        (_("Region"), upload.storage_region),
        (_("Storage class"), upload.storage_class),
        (_("Location"), upload.storage_url),
        (_("Encryption key"), link_to(upload.encryption_key)),
        (_("Compression"), "" if upload.compression_type == "none" else upload.compression_type),
        (_("Size as it arrived"), exact_size(upload.original_size)),
        (_("Size as compressed"), exact_size(upload.compressed_size)),
        (_("Duplicate of"), file_link(original.pk, original.original_filename) if original else None),
    ]

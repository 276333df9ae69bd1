from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.safestring import SafeString

from accounts.templatetags.people import grouped
from audiotricks.admin.base import link
from uploads.models import BulkAction, Status, UploadEvent

#: The colour of each state.
STATE_LOOKS = {
    **dict.fromkeys(Status, "info"),
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
    Status.DELETED: "warning",
    Status.ARCHIVED: "default",
    Status.PURGED: "default",
}


def file_link(pk: UUID, name: Any, *, is_there: bool = True) -> SafeString:
    """To the event log if the row is gone."""
    if is_there:
        return link(reverse("admin:uploads_audioupload_change", args=[pk]), name)
    return link(history_of(pk), name)


def history_of(pk: UUID) -> str:
    return f"{reverse('admin:uploads_uploadevent_changelist')}?{urlencode({'q': pk})}"


def exact_size(size_bytes: int | None) -> str | None:
    """``1.2 MB (1,258,291)``"""
    return None if size_bytes is None else f"{filesizeformat(size_bytes)} ({grouped(size_bytes)})"


def state_label(event: UploadEvent) -> str:
    """``-`` if the event changed no state."""
    return str(event.get_to_status_display()) if event.to_status else "-"


def link_to_bulk_action(bulk: BulkAction) -> SafeString:
    return link(reverse("admin:uploads_bulkaction_change", args=[bulk.pk]), bulk.get_action_display())

"""Writes the event log of uploads."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from quotas.rights import SUPERUSER, Right, Role, basis_of
from uploads.models import AudioUpload, UploadEvent

#: The right that each action of a person needs; the others need Right.CHANGE_FILES.
RIGHT_FOR_EVENT: Mapping[str, Right] = {
    "uploaded": Right.ADD_FILES,
    "deleted": Right.DELETE_FILES,
    "purged": Right.PURGE_FILES,
    "held": Right.SUPERVISE_FILES,
    "released": Right.SUPERVISE_FILES,
    "verified": Right.SUPERVISE_FILES,
    "found_missing": Right.SUPERVISE_FILES,
    "found_damaged": Right.SUPERVISE_FILES,
    "found_archived": Right.SUPERVISE_FILES,
}


def record_event(
    upload: AudioUpload,
    action: str,
    *,
    actor: User | None = None,
    from_status: str = "",
    to_status: str = "",
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> UploadEvent:
    """Write the event, and by which right ``actor`` did it."""
    right = RIGHT_FOR_EVENT.get(action, Right.CHANGE_FILES)
    return UploadEvent.objects.create(
        upload_id=upload.pk,
        workspace_id=upload.workspace_id,
        action=action,
        actor=actor,
        right=basis_of(actor, right, upload.workspace_id) if actor else "",
        from_status=from_status,
        to_status=to_status,
        reason=reason,
        details=dict(details or {}),
    )


def basis_in_words(event: UploadEvent) -> str:
    """By which right the actor did it; empty for AudioTricks itself, and for events older than this record."""
    if not event.right:
        return ""
    if event.right == SUPERUSER:
        return _("as superuser")
    if event.right in Role:
        return _("as %(role)s") % {"role": Role(event.right).label}
    return _("by the permission %(permission)s") % {"permission": event.right}

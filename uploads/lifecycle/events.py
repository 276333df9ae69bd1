from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from quotas.rights import SUPERUSER, Right, Role, basis_of
from uploads.models import AudioUpload, UploadEvent


def record_event(
    upload: AudioUpload,
    action: str,
    *,
    actor: User | None = None,
    right: Right = Right.CHANGE_FILES,
    from_status: str = "",
    to_status: str = "",
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> UploadEvent:
    """With the role or permission that gives ``actor`` the ``right``."""
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
    """Empty for AudioTricks itself and older events."""
    if not event.right:
        return ""
    if event.right == SUPERUSER:
        return _("as superuser")
    if event.right in Role:
        return _("as %(role)s") % {"role": Role(event.right).label}
    return _("by the permission %(permission)s") % {"permission": event.right}

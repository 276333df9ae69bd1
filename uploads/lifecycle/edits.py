"""Changes of an upload that are no transition: its name and its legal hold."""

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from accounts.audit import Kind, record
from audiotricks.errors import NotFound
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import TransitionRefused
from uploads.models import AudioUpload
from uploads.models.states import UNLISTED


def set_legal_hold(upload: AudioUpload, *, held: bool, actor: User | None, reason: str = "") -> None:
    """Put a file on hold or release it. A file that is in the trash must be undeleted first."""
    with transaction.atomic():
        changed = (
            AudioUpload.objects.filter(pk=upload.pk, legal_hold=not held)
            .exclude(status__in=UNLISTED)
            .update(legal_hold=held)
        )
        try:
            upload.refresh_from_db()
        except AudioUpload.DoesNotExist:
            raise NotFound from None
        if changed:
            event = record_event(upload, "held" if held else "released", actor=actor, reason=reason)
            details = {"held": held, "reason": reason}
            record(Kind.HOLD_CHANGED, subject=upload, actor=actor, right=event.right, details=details)
        elif upload.legal_hold != held:
            raise TransitionRefused(
                _("A file in the trash cannot be put on hold: undelete it first."), state=upload.status, allowed=[]
            )


def rename_upload(upload: AudioUpload, name: str, *, actor: User | None) -> None:
    """Give a file another name. Its object keeps its own."""
    if name == upload.original_filename:
        return
    with transaction.atomic():
        before, upload.original_filename = upload.original_filename, name
        if not AudioUpload.objects.filter(pk=upload.pk).update(original_filename=name):
            raise NotFound
        record_event(upload, "renamed", actor=actor, details={"from": before, "to": name})

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from accounts.audit import Kind, record
from audiotricks.errors import NotFound
from quotas.rights import Right
from uploads.actions.base import BulkFileAction
from uploads.lifecycle.events import record_event
from uploads.lifecycle.transitions import TransitionRefused
from uploads.models import AudioUpload, Status
from uploads.models.states import UNLISTED


class Hold(BulkFileAction):
    name = "hold"
    label = _("Put on hold")
    right = Right.SUPERVISE_FILES
    states = frozenset(Status) - frozenset(UNLISTED)
    legal_hold = False
    question = ngettext_lazy("Put %(count)d file on hold?", "Put %(count)d files on hold?", "count")
    effect = _("What is on hold can be neither deleted nor purged, by anyone or anything, until it is released.")
    keeps_reason = True

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        if upload.legal_hold:
            raise TransitionRefused(_("It is on hold already."), state=upload.status, allowed=[])
        set_legal_hold(upload, held=True, actor=actor, reason=reason)


class Release(BulkFileAction):
    name = "release"
    label = _("Release from hold")
    right = Right.SUPERVISE_FILES
    states = frozenset(Status) - frozenset(UNLISTED)
    legal_hold = True
    question = ngettext_lazy("Release %(count)d file from hold?", "Release %(count)d files from hold?", "count")
    effect = _("They can be deleted again, and they expire again where a workspace's files do.")
    keeps_reason = True

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        if not upload.legal_hold:
            raise TransitionRefused(_("It is not on hold."), state=upload.status, allowed=[])
        set_legal_hold(upload, held=False, actor=actor, reason=reason)


HOLD = Hold()
RELEASE = Release()


def set_legal_hold(upload: AudioUpload, *, held: bool, actor: User | None, reason: str = "") -> None:
    """Raises NotFound, and TransitionRefused for a file in the trash."""
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
            event = record_event(
                upload, "held" if held else "released", actor=actor, right=Right.SUPERVISE_FILES, reason=reason
            )
            details = {"held": held, "reason": reason}
            record(Kind.HOLD_CHANGED, subject=upload, actor=actor, right=event.right, details=details)
        elif upload.legal_hold != held:
            raise TransitionRefused(
                _("A file in the trash cannot be put on hold: undelete it first."), state=upload.status, allowed=[]
            )

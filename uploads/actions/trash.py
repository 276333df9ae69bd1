from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from quotas.rights import Right
from uploads.actions.base import BulkFileAction
from uploads.lifecycle.transitions import TRANSITIONS
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.models import AudioUpload, Status


class Delete(BulkFileAction):
    name = "delete"
    label = _("Move to the trash")
    right = Right.DELETE_FILES
    states = frozenset(state for state, following in TRANSITIONS.items() if Status.DELETED in following)
    legal_hold = False
    question = ngettext_lazy("Move %(count)d file to the trash?", "Move %(count)d files to the trash?", "count")
    effect = _(
        "Nobody can listen to what is in the trash, and no quota counts it. It can be taken out again until it is "
        "deleted for good, which happens by itself after a while."
    )
    done = ngettext_lazy("%(count)d file is in the trash now.", "%(count)d files are in the trash now.", "count")
    button = _("Move to the trash")
    list_button = _("Move ticked files to the trash")
    is_dangerous = True
    keeps_reason = True

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        delete_upload(upload, actor=actor, reason=reason)


class Undelete(BulkFileAction):
    name = "undelete"
    label = _("Take out of the trash")
    right = Right.CHANGE_FILES
    states = frozenset({Status.DELETED})
    question = ngettext_lazy("Take %(count)d file out of the trash?", "Take %(count)d files out of the trash?", "count")
    effect = _(
        "Each file goes back to where it was and counts against its workspace's quota again. Where the quota has no "
        "room, the file stays in the trash."
    )
    done = ngettext_lazy("%(count)d file is out of the trash.", "%(count)d files are out of the trash.", "count")
    button = _("Take out of the trash")
    list_button = _("Take ticked files out")
    api_summary = "Take out of the trash"
    api_errors = (413,)

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        undelete_upload(upload, actor=actor)


class Purge(BulkFileAction):
    name = "purge"
    label = _("Delete for good")
    right = Right.PURGE_FILES
    states = frozenset({Status.DELETED})
    question = ngettext_lazy("Delete %(count)d file for good?", "Delete %(count)d files for good?", "count")
    effect = _(
        "Nobody can bring back what is deleted for good. What it held is gone from the storage, unless another file of "
        "the workspace has the same content."
    )
    done = ngettext_lazy("%(count)d file is gone for good.", "%(count)d files are gone for good.", "count")
    button = _("Delete for good…")
    list_button = _("Delete ticked files for good…")
    is_dangerous = True
    asks_first = True
    keeps_reason = True

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        purge_upload(upload, actor=actor, reason=reason)


DELETE = Delete()
UNDELETE = Undelete()
PURGE = Purge()

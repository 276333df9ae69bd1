from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from quotas.rights import Right
from uploads.actions.base import BulkFileAction
from uploads.models import AudioUpload, Status
from uploads.models.states import WITHOUT_OBJECT
from uploads.upkeep.verification import verify_upload


class Verify(BulkFileAction):
    name = "verify"
    label = _("Verify the stored bytes")
    right = Right.SUPERVISE_FILES
    states = frozenset(Status) - frozenset(WITHOUT_OBJECT)
    question = ngettext_lazy("Verify %(count)d file?", "Verify %(count)d files?", "count")
    effect = _(
        "Every stored byte is read once and compared with what arrived. Large files take a while; workers do it, one "
        "file after the other."
    )
    reads_object = True

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        verify_upload(upload, actor=actor)


VERIFY = Verify()

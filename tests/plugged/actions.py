from django.contrib.auth.models import User
from django.utils.translation import ngettext_lazy

from quotas.rights import Right
from uploads.actions.base import BulkFileAction
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status


class Applaud(BulkFileAction):
    name = "applaud"
    label = "Clap hands"
    right = Right.CHANGE_FILES
    states = frozenset({Status.UPLOADED, Status.COMPLETED})
    question = ngettext_lazy("Clap for %(count)d file?", "Clap for %(count)d files?", "count")
    effect = "It is heard."
    button = "Applaud this"
    list_button = "Applaud ticked files"
    api_summary = "Applaud a file"

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        record_event(upload, "plugged", actor=actor, right=self.right)


APPLAUD = Applaud()

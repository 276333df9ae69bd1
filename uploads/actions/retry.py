from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from quotas.rights import Right
from uploads.actions.base import BulkFileAction
from uploads.lifecycle.work import retry_upload
from uploads.models import AudioUpload, Status


class Retry(BulkFileAction):
    name = "retry"
    label = _("Process again")
    right = Right.CHANGE_FILES
    states = frozenset({Status.FAILED})
    question = ngettext_lazy("Process %(count)d file again?", "Process %(count)d files again?", "count")
    effect = _("Each starts from the beginning, with all its retries.")
    done = ngettext_lazy("%(count)d file is tried again.", "%(count)d files are tried again.", "count")
    button = _("Try again")
    api_summary = "Try a failed file again"

    def run(self, upload: AudioUpload, *, actor: User | None, reason: str = "") -> None:
        retry_upload(upload, actor=actor)


RETRY = Retry()

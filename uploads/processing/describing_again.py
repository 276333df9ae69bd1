"""Reads facts of stored files again, for a version that reads more."""

from django.db import transaction
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import Conflict
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status
from uploads.processing.description import describe


def describe_again(upload: AudioUpload) -> bool:
    """Read and store the facts of a completed file; return whether they differ. Raises Conflict, ObjectLost, MediaError
    and storage errors, without a change.
    """
    if upload.status != Status.COMPLETED:
        raise Conflict(_("Only a completed file can be described again."))
    columns = describe(upload).columns
    if all(getattr(upload, name) == value for name, value in columns.items()):
        return False
    with transaction.atomic():
        if not AudioUpload.objects.filter(pk=upload.pk, status=Status.COMPLETED).update(**columns):
            raise Conflict(_("Only a completed file can be described again."))
        record_event(upload, "described_again")
    return True

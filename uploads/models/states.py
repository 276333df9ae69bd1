"""The states of an upload, and every named set of states. ``uploads.lifecycle.transitions`` says what leads where."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    RECEIVING = "receiving", _("Receiving")
    UPLOADED = "uploaded", _("Uploaded")
    VALIDATING = "validating", _("Validating")
    PROCESSING = "processing", _("Processing")
    COMPLETED = "completed", _("Completed")
    FAILED = "failed", _("Failed")
    ARCHIVING = "archiving", _("Archiving")
    ARCHIVED = "archived", _("Archived")
    RESTORING = "restoring", _("Restoring")
    DELETED = "deleted", _("In the trash")
    PURGED = "purged", _("Purged")


#: The row has no object that anybody may read: it is still being written, or it is being removed. Shown to nobody.
WITHOUT_OBJECT = (Status.RECEIVING, Status.PURGED)
#: Lists and quotas leave these rows out.
UNLISTED = (Status.RECEIVING, Status.DELETED, Status.PURGED)
#: A deletion leads here; a legal hold refuses it.
DISCARDED = (Status.DELETED, Status.PURGED)

#: A worker holds a lease on the row.
IN_WORK = (Status.VALIDATING, Status.PROCESSING)
#: The steps of processing are not done yet.
UNPROCESSED = (Status.UPLOADED, *IN_WORK)
#: A worker may take the row when ``claimable_at`` has passed.
LEASABLE = (*UNPROCESSED, Status.PURGED)

#: The provider moves the object between storage classes.
CHANGING_CLASS = (Status.ARCHIVING, Status.RESTORING)
#: The object may be in a storage class that cannot be read at once.
IN_ARCHIVE = (Status.ARCHIVING, Status.ARCHIVED, Status.RESTORING)
#: The object cannot be read before it is restored.
UNREADABLE = (Status.ARCHIVED, Status.RESTORING)

#: Work is going on with a stored object: a move passes it over.
OBJECT_IN_USE = (*IN_WORK, *CHANGING_CLASS)
#: Row and object need not agree: the object is being written, worked on or removed.
UNSETTLED = (*WITHOUT_OBJECT, *OBJECT_IN_USE)
#: The state changes by itself: a page that shows it looks again.
TRANSIENT = (*UNPROCESSED, *CHANGING_CLASS)
#: The state lasts until somebody, or a retention policy, does something.
SETTLED = (Status.COMPLETED, Status.FAILED, Status.ARCHIVED)
#: The content was found to be good audio: a duplicate may share the object.
VALIDATED = (Status.PROCESSING, Status.COMPLETED)
#: The time of entering is that of the first entry: a retry or a way back does not make the file younger.
FIRST_TIME_KEPT = (Status.UPLOADED, Status.COMPLETED, Status.ARCHIVED)

"""The states of an upload, and every named set of states."""

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


#: Nobody may read the object, which is being written or removed. Never shown.
WITHOUT_OBJECT = (Status.RECEIVING, Status.PURGED)
#: Not in lists and quotas.
UNLISTED = (Status.RECEIVING, Status.DELETED, Status.PURGED)
#: The results of a deletion, which a legal hold refuses.
DISCARDED = (Status.DELETED, Status.PURGED)

#: A worker holds a lease on the row.
IN_WORK = (Status.VALIDATING, Status.PROCESSING)
#: Not fully processed.
UNPROCESSED = (Status.UPLOADED, *IN_WORK)
#: A worker may take the row when ``claimable_at`` has passed.
LEASABLE = (*UNPROCESSED, Status.PURGED)

#: The provider moves the object between storage classes.
CHANGING_CLASS = (Status.ARCHIVING, Status.RESTORING)
#: The object may be in a storage class that cannot be read at once.
IN_ARCHIVE = (Status.ARCHIVING, Status.ARCHIVED, Status.RESTORING)
#: The object cannot be read before it is restored.
UNREADABLE = (Status.ARCHIVED, Status.RESTORING)

#: Work on the stored object is in progress, so a move skips it.
OBJECT_IN_USE = (*IN_WORK, *CHANGING_CLASS)
#: Row and object may disagree: the object is being written, worked on or removed.
UNSETTLED = (*WITHOUT_OBJECT, *OBJECT_IN_USE)
#: The state changes by itself, so pages refresh it.
TRANSIENT = (*UNPROCESSED, *CHANGING_CLASS)
#: The state lasts until a person or a retention policy acts.
SETTLED = (Status.COMPLETED, Status.FAILED, Status.ARCHIVED)
#: The content is known to be good audio, so a duplicate may share the object.
VALIDATED = (Status.PROCESSING, Status.COMPLETED)
#: Keeps the time of the first entry, so that a retry does not make the file younger.
FIRST_TIME_KEPT = (Status.UPLOADED, Status.COMPLETED, Status.ARCHIVED)

"""Storage errors: not found, retryable or permanent, with the vendor's as ``__cause__``. Clients read ``detail``, so
paths and vendors' words are only logged.
"""

from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError


class StorageError(DomainError):
    code = "storage_error"
    status = 503
    title = _("The storage could not do this")


class ObjectNotFound(StorageError):
    code = "object_not_found"
    status = 404
    title = _("The stored object is not there")


class ObjectExists(StorageError):
    code = "object_exists"
    status = 409
    title = _("An object of this name is stored already")


class TransientStorageError(StorageError):
    """``retry_after`` is the wait in seconds that the storage asked for, or None. ``was_retried``: callers must not
    retry again.
    """

    retry_after: float | None = None
    was_retried = False

    code = "storage_unavailable"
    status = 503
    title = _("The storage cannot be reached just now; try again")


class ObjectReadDiffers(TransientStorageError):
    """The bytes read do not match the storage's checksum. Members: ``algorithm``, ``expected`` (the storage's),
    ``found``.
    """


class RangeIgnored(TransientStorageError):
    """The response has another range, and was not read."""

    title = _("The storage sent other bytes than those that were asked for; its operator has to look if it goes on")


class PermanentStorageError(StorageError):
    """Fails until an operator repairs something."""

    code = "storage_failed"
    status = 500
    title = _("The storage failed; its operator has to look")


class StorageFull(PermanentStorageError):
    """Members, where known: ``required_bytes`` and ``free_bytes``."""

    code = "storage_full"
    status = 507
    title = _("There is no room left for this file")


class InvalidObjectName(PermanentStorageError):
    """Absolute, with ``..``, NUL, a backslash, a drive letter, a link."""

    code = "invalid_object_name"
    status = 400
    title = _("This is not the name of a stored object")


class CredentialsRefused(PermanentStorageError):
    code = "storage_credentials_refused"
    title = _("The storage refuses access; its operator has to look at keys and rights")


class BucketNotFound(PermanentStorageError):
    code = "storage_bucket_not_found"
    title = _("The place where files are stored is not there; its operator has to look")


class ObjectArchived(PermanentStorageError):
    code = "object_archived"
    status = 409
    title = _("The file lies in an archive: it has to be restored before it can be read")


class PartsDiffer(StorageError):
    """The storage does not hold the parts that an object is to be made of."""

    code = "parts_differ"
    status = 422
    title = _("The storage does not hold what was sent to it: begin the upload again")


class NotMine(Exception):
    """Another writer took the upload: nothing was written."""


class DirectUploadUnsupported(PermanentStorageError):
    code = "direct_upload_unsupported"
    status = 409
    title = _("Files cannot be sent to this storage directly: send them to uploads/ instead")


class DirectUploadIncomplete(StorageError):
    """``expected`` and ``received`` are bytes."""

    code = "direct_upload_incomplete"
    status = 409
    title = _("Not all bytes have arrived in the storage: send the rest, then complete again")


class DirectUploadAmbiguous(StorageError):
    """``parts`` are the numbers of parts that exist with different bytes."""

    code = "direct_upload_ambiguous"
    status = 409
    title = _(
        "A part was sent more than once with different bytes: complete with the ETag of each part, or send these again"
    )


class LifecycleUnsupported(PermanentStorageError):
    code = "lifecycle_unsupported"
    status = 409
    title = _("This storage does not move objects between classes by itself")


class LifecycleChanged(PermanentStorageError):
    code = "lifecycle_changed"
    status = 409
    title = _("Somebody changed the rules of the storage at the same time: look at them again")


class LifecycleByHand(PermanentStorageError):
    """We may not write the rules: ``rules`` are the wanted ones, ``command`` sets them."""

    code = "lifecycle_by_hand"
    status = 409
    title = _("The rules of this storage cannot be changed with the present settings")

"""What a storage can answer instead of doing what was asked; a vendor's own error is the ``__cause__``.

Callers need to know three things: is it not there, is it worth asking again, or must a person look. A ``detail`` never
holds a path or a vendor's words, since clients read it; those are in the log.
"""

from django.utils.translation import gettext_lazy as _

from audiotricks.errors import DomainError


class StorageError(DomainError):
    """Any of the below."""

    code = "storage_error"
    status = 503
    title = _("The storage could not do this")


class ObjectNotFound(StorageError):
    """There is no object of this name. Asking again does not help."""

    code = "object_not_found"
    status = 404
    title = _("The stored object is not there")


class ObjectExists(StorageError):
    """The name is taken, and an object is never overwritten."""

    code = "object_exists"
    status = 409
    title = _("An object of this name is stored already")


class TransientStorageError(StorageError):
    """It may work in a moment: ``call_with_retry`` tries these again.

    ``retry_after`` is how many seconds the storage asked us to wait, None if it did not say. ``was_retried`` tells that
    it has been tried as often as the policy wants, so that nobody further out begins anew.
    """

    retry_after: float | None = None
    was_retried = False

    code = "storage_unavailable"
    status = 503
    title = _("The storage cannot be reached just now; try again")


class ObjectReadDiffers(TransientStorageError):
    """What came is not what the storage says that it holds: corrupted on its way or, if it comes again, where it lies.

    ``algorithm`` names the checksum, ``expected`` is the storage's and ``found`` that of what came.
    """


class RangeIgnored(TransientStorageError):
    """The answer has other bytes than those that were asked for, and says so; none of them was read."""

    title = _("The storage sent other bytes than those that were asked for; its operator has to look if it goes on")


class PermanentStorageError(StorageError):
    """It fails again until a person repairs something: a dying disk, wrong rights, a storage that is not configured.

    This is the one honest 500 of the catalogue: nothing that the client sends differently would help.
    """

    code = "storage_failed"
    status = 500
    title = _("The storage failed; its operator has to look")


class StorageFull(PermanentStorageError):
    """There is no room. ``required_bytes`` and ``free_bytes`` are members where they are known."""

    code = "storage_full"
    status = 507
    title = _("There is no room left for this file")


class InvalidObjectName(PermanentStorageError):
    """Not a name that a storage of ours may hold: absolute, with ``..``, NUL, a backslash, a drive letter, a link."""

    code = "invalid_object_name"
    status = 400
    title = _("This is not the name of a stored object")


class CredentialsRefused(PermanentStorageError):
    """The storage does not know us, or does not let us do this."""

    code = "storage_credentials_refused"
    title = _("The storage refuses access; its operator has to look at keys and rights")


class BucketNotFound(PermanentStorageError):
    """The bucket or container that everything should lie in is not there."""

    code = "storage_bucket_not_found"
    title = _("The place where files are stored is not there; its operator has to look")


class ObjectArchived(PermanentStorageError):
    """It is there, in a class that cannot be read before it is restored."""

    code = "object_archived"
    status = 409
    title = _("The file lies in an archive: it has to be restored before it can be read")


class DirectUploadUnsupported(PermanentStorageError):
    """This storage takes no bytes but through us."""

    code = "direct_upload_unsupported"
    status = 409
    title = _("Files cannot be sent to this storage directly: send them to uploads/ instead")


class DirectUploadIncomplete(StorageError):
    """``expected`` and ``received`` are bytes."""

    code = "direct_upload_incomplete"
    status = 409
    title = _("Not all bytes have arrived in the storage: send the rest, then complete again")


class DirectUploadAmbiguous(StorageError):
    """``parts`` are the numbers of those that lie there more than once, with different bytes."""

    code = "direct_upload_ambiguous"
    status = 409
    title = _(
        "A part was sent more than once with different bytes: complete with the ETag of each part, or send these again"
    )


class LifecycleUnsupported(PermanentStorageError):
    """It has no rules by which it would move objects by itself."""

    code = "lifecycle_unsupported"
    status = 409
    title = _("This storage does not move objects between classes by itself")


class LifecycleChanged(PermanentStorageError):
    """Somebody else changed the rules since they were read."""

    code = "lifecycle_changed"
    status = 409
    title = _("Somebody changed the rules of the storage at the same time: look at them again")


class LifecycleByHand(PermanentStorageError):
    """We may not write the rules. ``rules`` are those that are wanted, ``command`` a line that puts them in place."""

    code = "lifecycle_by_hand"
    status = 409
    title = _("The rules of this storage cannot be changed with the present settings")

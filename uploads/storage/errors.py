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
    """It may work in a moment: ``call_with_retry`` tries these again."""

    code = "storage_unavailable"
    status = 503
    title = _("The storage cannot be reached just now; try again")


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

"""What can go wrong with an upload over several requests.

Clients of tus retry a 409 and a 423 for ever: an error that ends a session has another status.
"""

from django.utils.translation import gettext_lazy as _

from audiotricks.errors import Conflict, DomainError


class SessionLocked(DomainError):
    """``retry_after`` is in seconds."""

    code = "upload_locked"
    status = 423
    title = _("Another request is writing to this upload: ask again in a moment")

    def __init__(self) -> None:
        super().__init__(retry_after=3)


class OffsetMismatch(Conflict):
    """``offset`` is where the next byte belongs."""

    code = "offset_mismatch"
    title = _("The upload continues at another offset: send the bytes from there")


class SessionEnded(DomainError):
    """``reason`` is the code of the error that ended it."""

    code = "upload_ended"
    status = 410
    title = _("This upload is over: begin a new one")


class UploadTooLong(DomainError):
    """``expected`` and ``received`` are bytes."""

    code = "upload_too_long"
    status = 413
    title = _("The upload has more bytes than were declared")


class SizeAlreadyDeclared(DomainError):
    """``declared`` is in bytes."""

    code = "size_already_declared"
    status = 400
    title = _("Another size was declared for this upload already")


class ChecksumMismatch(DomainError):
    code = "checksum_mismatch"
    status = 460
    title = _("The bytes are not those of the checksum: send them again")


class NotConcatenable(DomainError):
    code = "not_concatenable"
    status = 400
    title = _("These partial uploads cannot be joined: each must be yours, whole, of one workspace and not used before")


class FinalUpload(DomainError):
    code = "final_upload"
    status = 403
    title = _("An upload that is made of others, or a part of one, takes no bytes")


class UploadFinished(Conflict):
    """``upload`` is the id of the file; empty for a partial upload."""

    code = "upload_finished"
    title = _("The upload is complete already: delete the file itself")


class UploadDamaged(DomainError):
    code = "upload_damaged"
    status = 422
    title = _("The storage lost a part of the upload, or holds another one: send the file again")


class ChunkUnknown(DomainError):
    """``total`` is how many chunks the upload has; indexes begin with 0."""

    code = "chunk_unknown"
    status = 404
    title = _("The upload has no chunk with this index")


class ChunkSizeWrong(DomainError):
    """``expected`` and ``received`` are bytes."""

    code = "chunk_size_wrong"
    status = 422
    title = _("The chunk has another size than the upload's chunks have at this index")


class ChunkBusy(Conflict):
    """``retry_after`` is in seconds."""

    code = "chunk_busy"
    title = _("Another request is sending this chunk: ask again in a moment")

    def __init__(self) -> None:
        super().__init__(retry_after=3)

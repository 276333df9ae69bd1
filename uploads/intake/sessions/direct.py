"""Direct uploads: only begin and end pass through here, as reserve, row, object, row.

One without an end leaves a ``receiving`` row, which ``uploads.upkeep.sweeps`` ends after DIRECT_UPLOAD_SECONDS, also at
the provider.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now, database_now
from audiotricks.database import release_connection
from audiotricks.errors import Conflict, DomainError
from audiotricks.leases import Lease
from media.formats import ContentMismatch, TooShort
from objectstore import default_alias, direct_uploads_of, get_storage
from objectstore.base import AudioStorage, ObjectStat
from objectstore.capabilities import SignedRequest
from objectstore.errors import DirectUploadIncomplete, ObjectNotFound
from quotas.models import Workspace
from quotas.reservations import check_room, ensure_quota
from uploads.intake.arrivals import UploadTakenBack, abandon_receiving, begin_receiving, finish_receiving
from uploads.intake.ingest import DigestMismatch, check_declared
from uploads.intake.sessions.complete import check_content
from uploads.models import AudioUpload, Status, UploadSession
from uploads.models.states import WITHOUT_OBJECT
from uploads.objects.marks import ensure_ours
from uploads.objects.metadata import content_metadata, object_metadata

log = structlog.get_logger(__name__)

DOOR = "direct"
BUSY_SECONDS = 5


class DirectUploadTooLong(DomainError):
    """``expected`` and ``received`` are bytes."""

    code = "direct_upload_too_long"
    status = 422
    title = _("More bytes arrived in the storage than were announced: begin again with the right size")


class DirectUploadEnded(Conflict):
    """``upload`` is the id of the file."""

    code = "direct_upload_ended"
    title = _("The file has arrived already: delete the file itself")


class DirectUploadBusy(Conflict):
    """``retry_after`` is in seconds."""

    code = "direct_upload_busy"
    title = _("The upload is being completed already: ask again in a moment")


#: What arrived can never become the announced file.
REFUSALS = (ContentMismatch, TooShort, DigestMismatch, DirectUploadTooLong, UploadTakenBack)


def begin_direct_upload(
    filename: str,
    *,
    size_bytes: int,
    workspace: Workspace,
    owner: User,
    sha256: str = "",
    md5: str = "",
    origin: str = "",
    on_begun: Callable[[UploadSession, Sequence[SignedRequest]], None] | None = None,
) -> tuple[UploadSession, Sequence[SignedRequest]]:
    """Reserve the size and prepare the storage; return the session and the requests to send.

    ``sha256`` and ``md5`` are the client's, hexadecimal; ``origin`` is that of its page. ``on_begun`` is called in the
    transaction. An error leaves nothing. Raises DirectUploadUnsupported, UnsupportedFormat, EmptyFile, FilenameMissing,
    QuotaExceeded, FileTooLarge, storage errors.
    """
    filename, file_format = check_declared(filename, size_bytes)
    storage = get_storage(default_alias())
    direct_uploads = direct_uploads_of(storage)
    seconds = settings.DIRECT_UPLOAD_SECONDS
    upload = begin_receiving(
        filename, file_format, size_bytes=size_bytes, workspace=workspace, owner=owner, seconds=seconds
    )
    direct = None
    try:
        assert upload.reservation is not None
        direct = direct_uploads.begin(
            upload.storage_path,
            size_bytes=size_bytes,
            content_type=upload.mime_type,
            metadata=lambda: _metadata(upload),
            seconds=seconds,
            origin=origin,
        )
        requests = direct_uploads.requests(upload.storage_path, direct, size_bytes=size_bytes, seconds=seconds)
        session = UploadSession(
            kind=UploadSession.Kind.DIRECT,
            workspace=workspace,
            owner=owner,
            upload=upload,
            storage_provider=upload.storage_provider,
            storage_path=upload.storage_path,
            size_bytes=size_bytes,
            method=direct.method,
            handle=direct.handle,
            part_bytes=direct.part_bytes,
            sha256=sha256,
            md5=md5,
            expires_at=upload.reservation.expires_at,
        )
        with transaction.atomic():
            session.save(force_insert=True)
            if on_begun is not None:
                on_begun(session, requests)
    except BaseException:
        abandon_receiving(upload, object_stored=False, direct=direct)
        raise
    log.info("direct_upload_begun", upload_id=str(upload.pk), method=session.method, bytes=size_bytes)
    return session, requests


def requests_left(session: UploadSession) -> Sequence[SignedRequest]:
    """What the client has still to send, signed until the session ends; nothing when the file has arrived.

    Raises UploadTakenBack when its time is over, or when the storage no longer knows it, and storage errors.
    """
    upload = session.file
    if upload.status != Status.RECEIVING:
        return []
    seconds = int((session.expires_at - timezone.now()).total_seconds())
    if seconds <= 0:
        raise UploadTakenBack
    release_connection()
    try:
        return direct_uploads_of(get_storage(upload.storage_provider)).requests(
            upload.storage_path, session.direct_upload, size_bytes=upload.file_size, seconds=seconds
        )
    except ObjectNotFound as error:
        raise UploadTakenBack from error


def complete_direct_upload(
    session: UploadSession,
    *,
    actor: User,
    etags: Mapping[int, str] | None = None,
    on_stored: Callable[[AudioUpload], None] | None = None,
) -> tuple[AudioUpload, bool]:
    """Make what arrived an ``uploaded`` file; return it, and whether this call made it.

    Compares size, first bytes and the storage's checksums. ``etags`` names the parts of the file, by number.
    ``on_stored`` is called in the transaction. Repeated and parallel calls make one file; after a kill, it can be
    called again after RESERVATION_SECONDS.

    Raises DirectUploadBusy during another call. Can be called again after DirectUploadIncomplete,
    DirectUploadAmbiguous, QuotaExceeded, FileTooLarge and storage errors; nothing is left after ContentMismatch,
    TooShort, DigestMismatch, DirectUploadTooLong and UploadTakenBack.
    """
    # Parallel calls would mistake each other's changes in the storage for another client's.
    lease = Lease(session, "claimable_at", seconds=settings.RESERVATION_SECONDS)
    taken = lease.take()
    try:
        if arrived := _arrived(session.file):
            return arrived, False
        if not taken:
            raise DirectUploadBusy(retry_after=BUSY_SECONDS)
        with lease.kept():
            return _complete(session, actor, etags or {}, on_stored)
    finally:
        if taken:
            lease.give_back()


def abort_direct_upload(session: UploadSession) -> None:
    """Give it up: row, reservation, and what the client sent. Raises DirectUploadEnded for a file that arrived."""
    if not abandon_receiving(session.file, object_stored=False) and _arrived(session.file):
        raise DirectUploadEnded(upload=str(session.file.pk))


def _complete(
    session: UploadSession,
    actor: User,
    etags: Mapping[int, str],
    on_stored: Callable[[AudioUpload], None] | None,
) -> tuple[AudioUpload, bool]:
    upload = session.file
    try:
        _check_quota(upload)
        with _reservation_lease(session).kept():
            release_connection()
            stat = _put_in_place(ensure_ours(upload.storage_provider), session, etags)
            finish_receiving(
                upload,
                size_bytes=stat.size,
                sha256=stat.checksums.get("sha256", session.sha256),
                md5=stat.checksums.get("md5", session.md5),
                storage_class=stat.storage_class,
                door=DOOR,
                actor=actor,
                on_stored=lambda stored: _end(session, stored, on_stored),
            )
    except REFUSALS:
        # Another call may have completed the upload after this one's lease ended.
        if not abandon_receiving(upload) and (arrived := _arrived(upload)):
            return arrived, False
        raise
    log.info("audio_uploaded", door=DOOR, bytes=upload.file_size, filename=upload.original_filename)
    return upload, True


def _metadata(upload: AudioUpload) -> Mapping[str, str]:
    return object_metadata(upload) | content_metadata(size_bytes=upload.file_size, has_thumbnail=False)


def _check_quota(upload: AudioUpload) -> None:
    """Limits may have been lowered."""
    check_room(
        ensure_quota(upload.workspace), size_bytes=upload.file_size, other_bytes=-upload.file_size, other_files=-1
    )


def _reservation_lease(session: UploadSession) -> Lease:
    """Keeps the reservation while the upload is completed, and never makes it shorter than the session."""
    reservation = session.file.reservation
    left = (session.expires_at - database_now()).total_seconds()
    if reservation is None:
        raise UploadTakenBack
    lease = Lease(reservation, "expires_at", seconds=max(settings.RESERVATION_SECONDS, left), holder={})
    if not lease.extend():
        raise UploadTakenBack
    return lease


def _put_in_place(storage: AudioStorage, session: UploadSession, etags: Mapping[int, str]) -> ObjectStat:
    """Have the storage put the object in place, and look at it as far as that costs no reading of the whole."""
    upload = session.file

    def keep_parts(md5s: Sequence[str]) -> None:
        # Before the object is made, since the response to that may be lost.
        UploadSession.objects.filter(pk=session.pk).update(part_md5s=list(md5s))
        release_connection()

    try:
        stat = direct_uploads_of(storage).complete(
            upload.storage_path,
            session.direct_upload,
            size_bytes=upload.file_size,
            metadata=lambda: _metadata(upload),
            etags=etags,
            on_parts=keep_parts,
        )
        check_content(storage, session, stat)
    except ObjectNotFound as error:
        raise UploadTakenBack from error
    except DirectUploadIncomplete as error:
        if error.members.get("received", 0) > upload.file_size:
            raise DirectUploadTooLong(**error.members) from error
        raise
    return stat


def _end(session: UploadSession, upload: AudioUpload, on_stored: Callable[[AudioUpload], None] | None) -> None:
    """Keep the session for repeated requests, without its secret."""
    UploadSession.objects.filter(pk=session.pk).update(
        state=UploadSession.State.COMPLETED,
        received_bytes=upload.file_size,
        handle="",
        expires_at=Now() + timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS),
    )
    if on_stored is not None:
        on_stored(upload)


def _arrived(upload: AudioUpload) -> AudioUpload | None:
    return AudioUpload.objects.filter(pk=upload.pk).exclude(status__in=WITHOUT_OBJECT).first()

"""Beginning a session, and what a client may tell of it later."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import database_now
from audiotricks.database import release_connection
from audiotricks.errors import Invalid
from objectstore import default_alias
from objectstore.base import AudioStorage
from objectstore.names import partial_name
from quotas.errors import FileTooLarge
from quotas.models import Workspace
from quotas.reservations import release_reservation, reserve_storage
from uploads.intake.arrivals import abandon_receiving, begin_receiving
from uploads.intake.ingest import EmptyFile, check_declared, noting_failed_write
from uploads.intake.sessions.complete import end_session
from uploads.intake.sessions.errors import SessionEnded, SizeAlreadyDeclared, UploadTooLong
from uploads.intake.sessions.writing import reserve_more, session_row
from uploads.models import AudioUpload, StoredObject, UploadSession
from uploads.objects.marks import ensure_ours
from uploads.objects.metadata import content_metadata, object_metadata

log = structlog.get_logger(__name__)

OnBegun = Callable[[UploadSession], None]


def begin_session(
    kind: UploadSession.Kind,
    *,
    workspace: Workspace,
    owner: User,
    filename: str = "",
    size_bytes: int | None,
    sha256: str = "",
    is_partial: bool = False,
    part_bytes: int | None = None,
    client_metadata: Mapping[str, str] | None = None,
    on_begun: OnBegun | None = None,
) -> UploadSession:
    """Reserve room for an upload and have the storage await its bytes.

    ``size_bytes`` is None where the client declares it later. ``sha256`` is that of the whole file, as the client says.
    A partial upload has no name and becomes a part of another upload. ``on_begun`` is called inside the transaction
    that makes the session. On any error nothing stays, except that EmptyFile names an ended session in ``session``.
    Raises also UnsupportedFormat, FilenameMissing, QuotaExceeded, FileTooLarge, and storage errors.
    """
    session = UploadSession(
        kind=kind,
        workspace=workspace,
        owner=owner,
        is_partial=is_partial,
        size_bytes=size_bytes,
        sha256=sha256,
        client_metadata=[*(client_metadata or {}).items()],
        storage_provider=default_alias(),
        part_bytes=part_bytes or 0,
    )
    if is_partial:
        _begin_partial(session, on_begun)
    else:
        _begin_file(session, filename, on_begun)
    log.info("upload_session_begun", session=str(session.pk), kind=kind, bytes=size_bytes, is_partial=is_partial)
    return session


def _begin_file(session: UploadSession, filename: str, on_begun: OnBegun | None) -> None:
    size_bytes, owner = session.size_bytes, session.owner
    filename, file_format = check_declared(filename, 1 if size_bytes is None else size_bytes or 1)
    if size_bytes == 0:
        raise EmptyFile(session=str(_keep_ended(session, EmptyFile.code).pk))
    assert owner is not None
    with noting_failed_write():
        storage = ensure_ours(session.storage_provider)
        check_size(storage, session, size_bytes)
        upload = begin_receiving(
            filename,
            file_format,
            size_bytes=size_bytes or 0,
            workspace=session.workspace,
            owner=owner,
            seconds=settings.UPLOAD_SESSION_SECONDS,
        )
        try:
            assert upload.reservation is not None
            session.upload, session.storage_path = upload, upload.storage_path
            session.expires_at = upload.reservation.expires_at
            _begin_storage(storage, session)
            _keep(session, on_begun)
        except BaseException:
            _forget_bytes(storage, session)
            abandon_receiving(upload, object_stored=False)
            raise


def _begin_partial(session: UploadSession, on_begun: OnBegun | None) -> None:
    with noting_failed_write():
        storage = ensure_ours(session.storage_provider)
        check_size(storage, session, session.size_bytes)
        session.storage_path = partial_name(session.pk)
        session.reservation = reserve_storage(
            session.workspace, size_bytes=session.size_bytes or 0, files=0, seconds=settings.UPLOAD_SESSION_SECONDS
        )
        session.expires_at = session.reservation.expires_at
        try:
            _begin_storage(storage, session)
            _keep(session, on_begun)
        except BaseException:
            _forget_bytes(storage, session)
            release_reservation(session.reservation)
            raise


def check_size(storage: AudioStorage, session: UploadSession, size_bytes: int | None) -> None:
    """Raise FileTooLarge for more than the storage takes, in parts of the session's size if that is chosen."""
    parts = storage.parts
    most = parts.most_bytes
    if session.part_bytes:
        most = min(most, session.part_bytes * parts.most_parts)
    if (size_bytes or 0) > most:
        raise FileTooLarge(_("The file is larger than the storage takes."), maximum=most, asked=size_bytes)


def _begin_storage(storage: AudioStorage, session: UploadSession) -> None:
    release_connection()
    storage.ensure_space(session.size_bytes or 0)
    upload = session.upload
    session.part_bytes = session.part_bytes or storage.parts.part_bytes(session.size_bytes)

    def metadata() -> dict[str, str]:
        known = object_metadata(upload) if upload else {}
        if session.size_bytes is not None:
            known |= content_metadata(size_bytes=session.size_bytes, has_thumbnail=False)
        return known

    session.handle = storage.parts.begin(
        session.storage_path,
        size_bytes=session.size_bytes,
        part_bytes=session.part_bytes,
        content_type=upload.mime_type if upload else "",
        metadata=metadata,
    )


def _keep(session: UploadSession, on_begun: OnBegun | None) -> None:
    with transaction.atomic():
        session.save(force_insert=True)
        if on_begun is not None:
            on_begun(session)


def _forget_bytes(storage: AudioStorage, session: UploadSession) -> None:
    """What cannot be removed now, a sweep removes by its age."""
    if session.handle and not UploadSession.objects.filter(pk=session.pk).exists():
        try:
            storage.parts.abort(session.storage_path, session.handle)
        except Exception as error:  # noqa: BLE001 - the first error is the one to tell
            log.warning("parts_left_to_the_sweeps", session=str(session.pk), error=str(error))


def _keep_ended(session: UploadSession, error_code: str) -> UploadSession:
    session.state, session.error_code = UploadSession.State.ENDED, error_code
    session.expires_at = database_now() + timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS)
    session.save(force_insert=True)
    return session


def check_told(session: UploadSession, *, size_bytes: int | None, sha256: str, end: int) -> None:
    """Refuse what a request tells of the whole file before anything changes. The request's bytes reach up to ``end``.

    Raises SizeAlreadyDeclared, UploadTooLong, FileTooLarge, and Invalid for another SHA-256 than before.
    """
    if size_bytes is not None:
        if session.size_bytes not in (None, size_bytes):
            raise SizeAlreadyDeclared(declared=session.size_bytes)
        if end > size_bytes:
            raise UploadTooLong(expected=size_bytes, received=end)
        if session.size_bytes is None:
            check_size(ensure_ours(session.storage_provider), session, size_bytes)
    if sha256 and session.sha256 not in ("", sha256):
        raise Invalid(_("Another SHA-256 was announced for this upload before."))


def take_told(session: UploadSession, *, size_bytes: int | None, sha256: str) -> None:
    """Declare the size and announce the SHA-256 of the whole file, as far as they are told."""
    if size_bytes is not None:
        declare_size(session, size_bytes)
    if sha256:
        announce_sha256(session, sha256)


def declare_size(session: UploadSession, size_bytes: int) -> None:
    """Declare the size of an upload that began without one. The same again changes nothing.

    Raises SizeAlreadyDeclared, UploadTooLong for less than arrived, QuotaExceeded, FileTooLarge; EmptyFile for 0, which
    ends the session.
    """
    found = session_row(session.pk)
    if found.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=found.error_code)
    if found.size_bytes is None:
        if size_bytes < found.received_bytes:
            raise UploadTooLong(expected=size_bytes, received=found.received_bytes)
        if size_bytes == 0 and not found.is_partial:
            end_session(found, EmptyFile.code)
            raise EmptyFile
        check_size(ensure_ours(found.storage_provider), found, size_bytes)
        _declare(found, size_bytes)
        found = session_row(session.pk)
    if found.size_bytes != size_bytes:
        raise SizeAlreadyDeclared(declared=found.size_bytes)
    session.size_bytes = size_bytes


def _declare(session: UploadSession, size_bytes: int) -> None:
    undeclared = UploadSession.objects.open().filter(pk=session.pk, size_bytes=None)
    with transaction.atomic():
        expires_at = reserve_more(session, size_bytes)
        if session.upload is not None:
            StoredObject.objects.filter(uploads=session.upload.pk).update(size_bytes=size_bytes)
            AudioUpload.objects.filter(pk=session.upload.pk).update(file_size=size_bytes)
        changed = undeclared.filter(received_bytes__lte=size_bytes).update(size_bytes=size_bytes, expires_at=expires_at)
        transaction.set_rollback(not changed)
    if not changed:
        found = undeclared.values_list("received_bytes", flat=True).first()
        if found is not None:
            raise UploadTooLong(expected=size_bytes, received=found)


def announce_sha256(session: UploadSession, sha256: str) -> None:
    """Take the SHA-256 of the whole file, in lower-case hexadecimal, from a client that computed it while it sent.
    Raises Invalid for another one than before.
    """
    open_session = UploadSession.objects.open().filter(pk=session.pk)
    if not open_session.filter(sha256__in=["", sha256]).update(sha256=sha256):
        known = UploadSession.objects.filter(pk=session.pk).values_list("sha256", flat=True).first()
        if known not in (None, "", sha256):
            raise Invalid(_("Another SHA-256 was announced for this upload before."))
    session.sha256 = sha256

"""The end of a session: its bytes become a file, or nothing stays of them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import BoundedSemaphore
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from audiotricks.clock import Now, database_now
from audiotricks.database import is_unavailable, release_connection
from audiotricks.errors import DomainError
from audiotricks.leases import Lease
from media.formats import HEAD_BYTES, audio_format, check_signature
from objectstore.base import AudioStorage, ObjectStat
from objectstore.capabilities import IsMine, PartsOf, StoredPart
from objectstore.checksums import difference
from objectstore.errors import NotMine, ObjectExists, ObjectNotFound, PartsDiffer, StorageError
from objectstore.hashing import digest_of_file
from quotas.reservations import check_room, ensure_quota, release_reservation
from uploads.intake.arrivals import UploadTakenBack, abandon_receiving, end_row, finish_receiving
from uploads.intake.cleaning import clean_up_session, remove_tails
from uploads.intake.ingest import DigestMismatch
from uploads.intake.sessions.errors import (
    OffsetMismatch,
    SessionEnded,
    SessionLocked,
    UploadDamaged,
    UploadFinished,
)
from uploads.intake.sessions.writing import (
    Writer,
    await_writer,
    begin_writing,
    fence_ended_writer,
    is_being_written,
    session_row,
)
from uploads.models import AudioUpload, UploadPart, UploadSession
from uploads.objects.conditions import asking, note_written, storages_left_alone
from uploads.objects.marks import ensure_ours
from uploads.objects.metadata import content_metadata, object_metadata

log = structlog.get_logger(__name__)

OnStored = Callable[[AudioUpload], None]
Kind = UploadSession.Kind
State = UploadSession.State

#: Requests of a process that may wait for another writer, or complete an upload, while they ask for an offset.
WAITS = BoundedSemaphore(4)


def complete(session: UploadSession, *, actor: User, on_stored: OnStored | None = None) -> AudioUpload:
    """Make a file, ``uploaded``, of an upload whose bytes all arrived. Called again, it is the same file.

    ``on_stored`` is called inside the transaction that makes it a file. After an error of the storage or the database
    the upload is as before, and this can be called again; any other error ends the session and is raised. Raises
    SessionLocked while another request writes or completes, SessionEnded.
    """
    found = session_row(session.pk)
    if upload := _file_of(found):
        return upload
    if found.is_open and not found.is_whole:
        raise OffsetMismatch(offset=found.received_bytes)
    try:
        writer = begin_writing(found, found.received_bytes)
    except SessionLocked:
        # Another call may have completed it meanwhile.
        if upload := _file_of(session_row(session.pk)):
            return upload
        raise
    try:
        return complete_as_writer(session_row(session.pk), writer, actor=actor, on_stored=on_stored)
    finally:
        writer.give_back()


def _file_of(session: UploadSession) -> AudioUpload | None:
    """The file of a completed session. Raises SessionEnded where it was purged since."""
    if session.state == State.COMPLETED and session.upload is None:
        raise SessionEnded(reason="")
    return session.upload if session.state == State.COMPLETED else None


def complete_as_writer(
    session: UploadSession,
    writer: Writer,
    *,
    actor: User,
    on_stored: OnStored | None = None,
    sha256: str = "",
) -> AudioUpload:
    """See :func:`complete`. ``sha256`` was computed while the bytes came."""
    try:
        with writer.kept():
            return _complete(session, writer, actor, on_stored, sha256)
    except NotMine as error:
        raise writer.lost() from error
    except (SessionLocked, SessionEnded):
        raise
    except UploadTakenBack as error:
        raise SessionEnded(reason=error.code) from error
    except (ObjectExists, ObjectNotFound, PartsDiffer) as error:
        _fail(session, UploadDamaged.code)
        raise UploadDamaged from error
    except StorageError:
        raise
    except DomainError as error:
        _fail(session, error.code)
        raise


def offset_to_tell(session: UploadSession, *, actor: User) -> UploadSession:
    """The session, when nobody writes to it: a request that continues at its offset is accepted next.

    All bytes of one are there only if it is a file: it is completed first. Raises SessionLocked while a writer is
    active, and for any trouble that may pass; SessionEnded.
    """
    found = session_row(session.pk)
    if not _needs_wait(found):
        fence_ended_writer(found)
        return _told(session_row(session.pk))
    if not WAITS.acquire(blocking=False):
        raise SessionLocked
    try:
        await_writer(found)
        found = session_row(session.pk)
        if found.is_open and found.is_whole and not found.is_partial:
            complete(found, actor=actor)
            found = session_row(session.pk)
    except (SessionLocked, SessionEnded):
        raise
    except StorageError as error:
        raise SessionLocked from error
    except DomainError as error:
        if session_row(session.pk).is_open:
            raise SessionLocked from error
        raise SessionEnded(reason=error.code) from error
    except Exception as error:
        if is_unavailable(error):
            raise SessionLocked from error
        raise
    finally:
        WAITS.release()
    return _told(found)


def _needs_wait(session: UploadSession) -> bool:
    if not session.is_open:
        return False
    return (session.is_whole and not session.is_partial) or is_being_written(session)


def _told(session: UploadSession) -> UploadSession:
    if session.state == State.ENDED:
        raise SessionEnded(reason=session.error_code)
    if session.is_open and session.claimable_at is not None:
        raise SessionLocked
    return session


def end_session(session: UploadSession, error_code: str) -> None:
    """Give an upload up: its row, its reservation and its bytes. A request that still sends bytes loses its lease.

    Raises UploadFinished for one that is complete or joined into another, SessionLocked while it is being completed,
    SessionEnded.
    """
    found = session_row(session.pk)
    if found.state == State.ENDED:
        raise SessionEnded(reason=found.error_code)
    if found.state == State.COMPLETED or found.final_id is not None:
        raise UploadFinished(upload=str(found.upload_id or ""))
    if found.is_whole and is_being_written(found):
        raise SessionLocked
    if found.upload is None:
        _end_partials(UploadSession.objects.filter(pk=found.pk, final=None), error_code)
    else:
        partials = list(found.partials.values_list("pk", flat=True))
        abandon_receiving(found.upload, error_code=error_code)
        _end_partials(UploadSession.objects.filter(pk__in=partials), error_code)
    if session_row(session.pk).is_open:
        raise SessionLocked


def _end_partials(partials: Any, error_code: str) -> None:
    for pk in list(partials.values_list("pk", flat=True)):
        with transaction.atomic():
            reservation = partials.filter(pk=pk).values_list("reservation", flat=True).first()
            if reservation is not None:
                release_reservation(reservation)
            ended = end_row(partials.filter(pk=pk), error_code)
            # Somebody joined it in between.
            transaction.set_rollback(ended is None)
        if ended is not None:
            clean_up_ended(ended)


def clean_up_ended(session: UploadSession) -> bool:
    """Remove the bytes of an ended session; says whether nothing is left. A sweep tries again."""
    alias = session.storage_provider
    if alias in storages_left_alone():
        return False
    release_connection()
    try:
        with asking(alias):
            clean_up_session(ensure_ours(alias), session)
    except StorageError as error:
        log.warning("parts_left_to_the_sweeps", session=str(session.pk), error=str(error))
        return False
    return True


def _fail(session: UploadSession, error_code: str) -> None:
    """End a session that cannot become a file. One that another call completed stays."""
    if session.upload is None:
        return
    partials = list(session.partials.values_list("pk", flat=True))
    if abandon_receiving(session.upload, error_code=error_code):
        _end_partials(UploadSession.objects.filter(pk__in=partials), error_code)


def _complete(
    session: UploadSession, writer: Writer, actor: User, on_stored: OnStored | None, sha256: str
) -> AudioUpload:
    upload = session.upload
    assert upload is not None
    size_bytes = session.received_bytes
    check_room(ensure_quota(upload.workspace), size_bytes=size_bytes, other_bytes=-upload.file_size, other_files=-1)
    with _reservation_kept(session):
        release_connection()
        storage = ensure_ours(session.storage_provider)
        partials = list(session.partials.order_by("final_place"))
        for whole in (session, *partials):
            store_tail(storage, whole, writer.is_mine)
        stat = _make_object(storage, session, writer, partials)
        check_content(storage, session, stat)
        sha256 = sha256 or _sha256_of(storage, session, stat)
        release_connection()
        finish_receiving(
            upload,
            size_bytes=stat.size,
            sha256=sha256,
            md5=stat.checksums.get("md5", session.md5),
            storage_class=stat.storage_class,
            door=session.kind,
            actor=actor,
            on_stored=lambda stored: _end_completed(session, partials, stored, on_stored),
        )
    note_written(session.storage_provider)
    _remove_rest(storage, session, partials)
    log.info("audio_uploaded", door=session.kind, bytes=upload.file_size, filename=upload.original_filename)
    return upload


@contextmanager
def _reservation_kept(session: UploadSession) -> Iterator[None]:
    """The reservation lasts while the upload is completed, and never becomes shorter than the session."""
    reservation = session.held_reservation
    if reservation is None:
        raise UploadTakenBack
    left = (session.expires_at - database_now()).total_seconds()
    lease = Lease(reservation, "expires_at", seconds=max(settings.RESERVATION_SECONDS, left), holder={})
    if not lease.extend():
        raise UploadTakenBack
    with lease.kept():
        yield


def store_tail(storage: AudioStorage, session: UploadSession, is_mine: IsMine) -> None:
    """Make the last part of bytes that wait in an object of their own: no more come."""
    tail = session.tail
    if not tail:
        return
    with storage.open_range(tail) as file:
        data = file.read()
    number = session.received_bytes // session.part_bytes + 1
    tag = storage.parts.write(
        session.storage_path,
        session.handle,
        number=number,
        start=session.received_bytes - len(data),
        data=memoryview(data),
        is_mine=is_mine,
    )
    with transaction.atomic():
        if UploadSession.objects.open().filter(pk=session.pk, tail=tail).update(tail=""):
            UploadPart.objects.create(session=session, number=number, size_bytes=len(data), tag=tag, is_stored=True)
    release_connection()
    remove_tails(storage, [tail])


def stored_parts(session: UploadSession) -> list[StoredPart]:
    parts = UploadPart.objects.stored().filter(session=session.pk)
    return [StoredPart(part.number, part.size_bytes, part.tag) for part in parts]


def _make_object(
    storage: AudioStorage, session: UploadSession, writer: Writer, partials: Sequence[UploadSession]
) -> ObjectStat:
    upload = session.upload
    assert upload is not None
    size_bytes = session.received_bytes
    parts = stored_parts(session)
    sources = [
        PartsOf(partial.storage_path, partial.handle, stored_parts(partial), partial.received_bytes, partial.part_bytes)
        for partial in partials
    ]
    release_connection()

    def metadata() -> dict[str, str]:
        return {**object_metadata(upload), **content_metadata(size_bytes=size_bytes, has_thumbnail=False)}

    if partials:
        if not session.handle:
            session.handle = storage.parts.begin(
                session.storage_path,
                size_bytes=size_bytes,
                part_bytes=session.part_bytes,
                content_type=upload.mime_type,
                metadata=metadata,
            )
            writer.save(received_bytes=size_bytes, handle=session.handle)
        stat = storage.parts.join(
            session.storage_path,
            session.handle,
            sources,
            size_bytes=size_bytes,
            content_type=upload.mime_type,
            metadata=metadata,
        )
    else:
        stat = storage.parts.complete(
            session.storage_path,
            session.handle,
            parts,
            size_bytes=size_bytes,
            part_bytes=session.part_bytes,
            content_type=upload.mime_type,
            metadata=metadata,
        )
    if stat.size != size_bytes:
        raise PartsDiffer
    return stat


def check_content(storage: AudioStorage, session: UploadSession, stat: ObjectStat) -> None:
    """Compare an object that lies under its final name with what was announced, as far as that needs no reading of the
    whole. Raises DigestMismatch, ContentMismatch, TooShort.
    """
    with storage.open_range(session.storage_path, 0, HEAD_BYTES) as stored:
        head = stored.read(HEAD_BYTES)
    told = {"sha256": session.sha256, "md5": session.md5}
    if algorithm := difference(told, stat.facts):
        raise DigestMismatch(algorithm=algorithm, expected=told[algorithm], received=stat.checksums[algorithm])
    check_signature(audio_format(session.storage_path), head, complete=stat.size <= HEAD_BYTES)


def _sha256_of(storage: AudioStorage, session: UploadSession, stat: ObjectStat) -> str:
    """The SHA-256 to record: of a file on a disk computed, if one was announced; else the announced one, which
    validating compares. Raises DigestMismatch.
    """
    if not session.sha256 or storage.directory is None:
        return stat.checksums.get("sha256", session.sha256)
    with storage.open_range(session.storage_path) as file:
        digests = digest_of_file(file)
    if digests.sha256 != session.sha256:
        raise DigestMismatch(expected=session.sha256, received=digests.sha256)
    return digests.sha256


def _end_completed(
    session: UploadSession, partials: Sequence[UploadSession], upload: AudioUpload, on_stored: OnStored | None
) -> None:
    """Sessions stay for as long as an answer that was lost may be asked for."""
    rows = UploadSession.objects.filter(Q(pk=session.pk) | Q(pk__in=[partial.pk for partial in partials]))
    rows.update(
        state=State.COMPLETED,
        handle="",
        tail="",
        received_bytes=F("size_bytes"),
        writer=None,
        claimable_at=None,
        expires_at=Now() + timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS),
    )
    UploadPart.objects.filter(session__in=rows.values("pk")).delete()
    if on_stored is not None:
        on_stored(upload)


def _remove_rest(storage: AudioStorage, session: UploadSession, partials: Sequence[UploadSession]) -> None:
    """What stays because this fails, a sweep removes by its age."""
    try:
        remove_tails(storage, [session.tail])
        for partial in partials:
            storage.parts.abort(partial.storage_path, partial.handle)
            remove_tails(storage, [partial.tail])
    except StorageError as error:
        log.warning("parts_left_to_the_sweeps", session=str(session.pk), error=str(error))

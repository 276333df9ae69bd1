"""Numbered chunks of one size: in any order, in parallel, each as often as the client likes."""

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from audiotricks.database import release_connection
from audiotricks.leases import Lease
from media.formats import HEAD_BYTES, ContentMismatch, TooShort, audio_format, check_signature
from objectstore import default_alias, get_storage
from objectstore.errors import NotMine, ObjectNotFound
from quotas.errors import FileTooLarge
from quotas.models import Workspace
from uploads.intake.ingest import DigestMismatch, noting_failed_write
from uploads.intake.sessions.begin import OnBegun, begin_session
from uploads.intake.sessions.complete import complete, end_session
from uploads.intake.sessions.errors import (
    ChunkBusy,
    ChunkSizeWrong,
    ChunkUnknown,
    SessionEnded,
    SessionLocked,
    UploadDamaged,
)
from uploads.intake.sessions.receive import Body
from uploads.intake.sessions.writing import WRITER_SECONDS, keep_reservation, later_expiry, session_row
from uploads.models import AudioUpload, UploadPart, UploadSession
from uploads.objects.marks import ensure_ours

MIB = 1024**2
DEFAULT_CHUNK_BYTES = 5 * MIB
#: A chunk is held in memory while it is sent on.
MOST_CHUNK_BYTES = 64 * MIB
#: Each chunk has a row.
MOST_CHUNKS = 10_000


@dataclass(frozen=True, slots=True)
class ChunkProgress:
    """``completed`` of ``total`` chunks have arrived. ``upload`` is the file, once it is one."""

    index: int
    completed: int
    total: int
    received_bytes: int
    upload: AudioUpload | None


def begin_chunks(
    *,
    workspace: Workspace,
    owner: User,
    filename: str,
    size_bytes: int,
    chunk_size: int | None = None,
    sha256: str = "",
    client_metadata: Mapping[str, str] | None = None,
    on_begun: OnBegun | None = None,
) -> UploadSession:
    """Begin an upload in chunks of ``chunk_size`` bytes, or of more where the storage or the number of chunks needs it.
    ``part_bytes`` of the session is the size that holds. Raises what ``begin_session`` raises.
    """
    return begin_session(
        UploadSession.Kind.CHUNKS,
        workspace=workspace,
        owner=owner,
        filename=filename,
        size_bytes=size_bytes,
        sha256=sha256,
        part_bytes=chunk_bytes(size_bytes, chunk_size or DEFAULT_CHUNK_BYTES),
        client_metadata=client_metadata,
        on_begun=on_begun,
    )


def chunk_bytes(size_bytes: int, wanted: int) -> int:
    """Raises FileTooLarge."""
    parts = get_storage(default_alias()).parts
    most_chunks = min(parts.most_parts, MOST_CHUNKS)
    needed = -(-size_bytes // most_chunks)
    if needed > wanted:
        wanted = -(-needed // MIB) * MIB
    wanted = max(wanted, parts.least_bytes)
    if wanted > MOST_CHUNK_BYTES and needed > MOST_CHUNK_BYTES:
        most = MOST_CHUNK_BYTES * most_chunks
        raise FileTooLarge(_("The file is larger than can be sent in chunks."), maximum=most, asked=size_bytes)
    return min(wanted, MOST_CHUNK_BYTES)


def arrived_chunks(session: UploadSession) -> list[int]:
    """The indexes of the chunks that are stored, from 0 on, in order."""
    if session.state == UploadSession.State.COMPLETED:
        return list(range(session.total_parts))
    stored = UploadPart.objects.stored().filter(session=session.pk)
    return [number - 1 for number in stored.values_list("number", flat=True)]


def store_chunk(
    session: UploadSession,
    index: int,
    body: Body,
    *,
    length: int,
    actor: User,
    digests: Sequence[tuple[str, bytes]] = (),
) -> ChunkProgress:
    """Store one chunk, and complete the upload with the last one. A chunk that is stored already changes nothing.

    ``digests`` are algorithms of hashlib and the digests of this chunk, compared also where it is stored. Raises
    ChunkUnknown and ChunkSizeWrong before a byte is read, ChunkBusy while another request stores the same one,
    DigestMismatch, ContentMismatch, SessionEnded, and what :func:`uploads.intake.sessions.complete.complete` raises.
    """
    found = session_row(session.pk)
    if found.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=found.error_code)
    _check_place(found, index, length)
    is_missing = found.is_open and not found.parts.filter(number=index + 1, is_stored=True).exists()
    if is_missing or digests:
        # The client may be slow, and others need the connection.
        release_connection()
        data = _read(body, length, digests)
    if is_missing:
        if index == 0:
            _check_head(found, data)
        _store(found, index, data)
    found = session_row(session.pk)
    if found.is_open and found.is_whole:
        try:
            complete(found, actor=actor)
        except SessionLocked:
            # Whoever stored another last chunk is completing it.
            return _progress(found, index)
    return _progress(session_row(session.pk), index)


def _check_place(session: UploadSession, index: int, length: int) -> None:
    total = session.total_parts
    if not 0 <= index < total:
        raise ChunkUnknown(total=total)
    expected = min(session.part_bytes, (session.size_bytes or 0) - index * session.part_bytes)
    if length != expected:
        raise ChunkSizeWrong(expected=expected, received=length)


def _read(body: Body, length: int, digests: Sequence[tuple[str, bytes]]) -> memoryview:
    data = memoryview(mmap.mmap(-1, length))
    filled = 0
    while filled < length and (count := body.readinto(data[filled:])):
        filled += count
    if filled < length:
        raise ChunkSizeWrong(expected=length, received=filled)
    for algorithm, digest in digests:
        found = hashlib.new(algorithm, data, usedforsecurity=False)
        if found.digest() != digest:
            raise DigestMismatch(algorithm=algorithm, expected=digest.hex(), received=found.hexdigest())
    return data


def _check_head(session: UploadSession, data: memoryview) -> None:
    """Refuse a wrong file as early as its first chunk tells. Raises ContentMismatch, TooShort."""
    is_complete = len(data) == session.size_bytes
    if len(data) < HEAD_BYTES and not is_complete:
        return
    try:
        check_signature(
            audio_format(session.storage_path),
            bytes(data[:HEAD_BYTES]),
            complete=is_complete and len(data) <= HEAD_BYTES,
        )
    except (ContentMismatch, TooShort) as error:
        end_session(session, error.code)
        raise


def _store(session: UploadSession, index: int, data: memoryview) -> None:
    number, token = index + 1, uuid4()
    storage = ensure_ours(session.storage_provider)
    release_connection()
    storage.ensure_space(len(data))
    part, _made = UploadPart.objects.get_or_create(session=session, number=number, defaults={"size_bytes": len(data)})
    mine = {"is_stored": False, "writer": token}
    rows = UploadPart.objects.filter(pk=part.pk)
    if not session_row(session.pk).is_open:
        _forget_claim(session, number)
        return
    lease = Lease(part, "claimable_at", seconds=WRITER_SECONDS, holder=mine)
    if not lease.take(Q(is_stored=False), writer=token):
        if rows.filter(is_stored=True).exists():
            return
        raise ChunkBusy

    def is_mine() -> bool:
        held = rows.filter(session__state=UploadSession.State.OPEN, **mine).exists()
        release_connection()
        return held

    release_connection()
    try:
        with lease.kept(), noting_failed_write():
            tag = storage.parts.write(
                session.storage_path,
                session.handle,
                number=number,
                start=index * session.part_bytes,
                data=data,
                is_mine=is_mine,
            )
    except (NotMine, ObjectNotFound) as error:
        if not session_row(session.pk).is_open:
            _forget_claim(session, number)
            return
        if isinstance(error, NotMine):
            raise ChunkBusy from error
        end_session(session, UploadDamaged.code)
        raise UploadDamaged from error
    except BaseException:
        lease.give_back()
        raise
    _count(session, part, token, tag)


def _count(session: UploadSession, part: UploadPart, token: UUID, tag: str) -> None:
    """Publish a stored chunk. Raises ChunkBusy where another request took the claim, SessionEnded."""
    columns: dict[str, object] = {"received_bytes": F("received_bytes") + part.size_bytes}
    expires_at = later_expiry(session)
    with transaction.atomic():
        if expires_at is not None:
            keep_reservation(session, expires_at)
            columns["expires_at"] = expires_at
        counted = UploadSession.objects.open().filter(pk=session.pk).update(**columns)
        claimed = UploadPart.objects.filter(pk=part.pk, is_stored=False, writer=token)
        published = claimed.update(is_stored=True, tag=tag, writer=None, claimable_at=None)
        transaction.set_rollback(not (counted and published))
    if not counted:
        _forget_claim(session, part.number)
        return
    if not published and not UploadPart.objects.filter(pk=part.pk, is_stored=True).exists():
        raise ChunkBusy


def _forget_claim(session: UploadSession, number: int) -> None:
    """Of a session that is no longer open: whoever closed it may have removed the rows before this one came. Raises
    SessionEnded, unless the session is complete.
    """
    UploadPart.objects.filter(session=session.pk, number=number, is_stored=False).delete()
    found = session_row(session.pk)
    if found.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=found.error_code)


def _progress(session: UploadSession, index: int) -> ChunkProgress:
    total = session.total_parts
    is_complete = session.state == UploadSession.State.COMPLETED
    completed = total if is_complete else session.parts.filter(is_stored=True).count()
    return ChunkProgress(index, completed, total, session.received_bytes, None if session.is_open else session.upload)

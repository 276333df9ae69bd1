"""The one way in for the bytes of a session: as many as a request brings, from the offset where the last ones ended.

Bytes are durable before the row counts them. What a request brought before it broke off is kept, except under a
checksum of its own: then the offset moves only when all of it is right.
"""

import hashlib
import mmap
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol

from django.contrib.auth.models import User
from django.core.files.base import ContentFile

from audiotricks.clock import elapsed_clock
from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from media.formats import HEAD_BYTES, ContentMismatch, TooShort, audio_format, check_signature
from objectstore.base import AudioStorage
from objectstore.errors import NotMine, ObjectNotFound, StorageFull
from objectstore.names import side_name
from uploads.intake.cleaning import remove_tails
from uploads.intake.ingest import DigestMismatch, noting_failed_write
from uploads.intake.sessions.begin import check_told, take_told
from uploads.intake.sessions.complete import complete_as_writer, end_session
from uploads.intake.sessions.errors import (
    ChecksumMismatch,
    FinalUpload,
    OffsetMismatch,
    SessionEnded,
    SessionLocked,
    UploadDamaged,
    UploadTooLong,
)
from uploads.intake.sessions.writing import Writer, reserve_more, session_row, writing
from uploads.models import UploadPart, UploadSession
from uploads.objects.marks import ensure_ours

#: On a disk, so many bytes are written before they are made durable and counted.
SYNC_BYTES = 32 * 1024**2
#: The lease is extended so often, if bytes came.
BEAT_SECONDS = 3.0
#: After such a silence what came is saved, since the connection may be dead: soon enough before the lease ends.
SILENCE_SECONDS = 2.0


class Body(Protocol):
    def readinto(self, buffer: memoryview) -> int:
        """Read at least one byte as soon as there is one; 0 at the end. Raises an error where the client broke off."""

    def is_idle(self, seconds: float) -> bool:
        """Whether no byte comes within ``seconds``; False at once where that cannot be told."""


def receive(
    session: UploadSession,
    body: Body,
    *,
    offset: int,
    length: int,
    actor: User,
    checksum: tuple[str, bytes] | None = None,
    size_bytes: int | None = None,
    sha256: str = "",
) -> UploadSession:
    """Take ``length`` bytes from ``offset`` on, and complete the upload when all are there; returns the session's row.

    ``checksum`` is an algorithm of hashlib and the digest of exactly these bytes. What arrived is kept whatever is
    raised, except under a checksum. ``size_bytes`` and ``sha256`` are those of the whole file, where the request tells
    them: they are taken only from the writer, and under a checksum once these bytes are right.

    Raises OffsetMismatch, SessionLocked, SessionEnded, FinalUpload, UploadTooLong, SizeAlreadyDeclared before a byte is
    read, ChecksumMismatch, errors of the body, of the quota and of storages, and what
    :func:`uploads.intake.sessions.complete.complete` raises.
    """
    found = session_row(session.pk)
    _check_state(found, offset, length)
    if found.state == UploadSession.State.COMPLETED:
        check_told(found, size_bytes=size_bytes, sha256=sha256, end=offset + length)
        return found
    with writing(found, offset=offset) as writer:
        found = writer.session = session_row(session.pk)
        _check_state(found, offset, length)
        check_told(found, size_bytes=size_bytes, sha256=sha256, end=offset + length)
        if checksum is None or not length:
            take_told(found, size_bytes=size_bytes, sha256=sha256)
            found = writer.session = session_row(session.pk)
        elif size_bytes is not None:
            # A refusal for want of room comes before the bytes.
            reserve_more(found, size_bytes)
        storage = ensure_ours(found.storage_provider)
        found_sha256 = ""
        if length:
            _make_room(found, storage, offset + length)
            with noting_failed_write(), _ending_what_is_wrong(found, writer):
                found_sha256 = Reception(found, storage, writer, checksum).run(body, length)
            if checksum is not None:
                take_told(found, size_bytes=size_bytes, sha256=sha256)
        found = session_row(session.pk)
        if found.is_whole and not found.is_partial:
            complete_as_writer(found, writer, actor=actor, sha256=found_sha256)
    return session_row(session.pk)


def _check_state(session: UploadSession, offset: int, length: int) -> None:
    if session.state == UploadSession.State.ENDED:
        raise SessionEnded(reason=session.error_code)
    if session.final_id is not None or session.partials.exists():
        raise FinalUpload
    if session.state == UploadSession.State.COMPLETED and offset != session.received_bytes:
        raise OffsetMismatch(offset=session.received_bytes)
    if offset == session.received_bytes and session.size_bytes is not None and offset + length > session.size_bytes:
        raise UploadTooLong(expected=session.size_bytes, received=offset + length)


def _make_room(session: UploadSession, storage: AudioStorage, end: int) -> None:
    most = storage.parts.most_parts * session.part_bytes
    if end > min(most, storage.parts.most_bytes):
        raise UploadTooLong(expected=most, received=end)
    if session.size_bytes is None:
        reserve_more(session, end)
    release_connection()
    storage.ensure_space(end - session.received_bytes)


@contextmanager
def _ending_what_is_wrong(session: UploadSession, writer: Writer) -> Iterator[None]:
    """Bytes that can never become the file that was announced end the session."""
    try:
        yield
    except NotMine as error:
        raise writer.lost() from error
    except ObjectNotFound as error:
        if not writer.is_mine():
            raise writer.lost() from error
        end_if_open(session, UploadDamaged.code)
        raise UploadDamaged from error
    except (ContentMismatch, TooShort, DigestMismatch) as error:
        end_if_open(session, error.code)
        raise


def end_if_open(session: UploadSession, error_code: str) -> None:
    try:
        # The lease is ours, which would make a whole upload look like one that is being completed.
        UploadSession.objects.open().filter(pk=session.pk).update(claimable_at=None)
        end_session(session, error_code)
    except (SessionEnded, SessionLocked):
        return


class Reception:
    """The bytes of one request on their way to the storage, through one buffer of a part's size."""

    def __init__(
        self, session: UploadSession, storage: AudioStorage, writer: Writer, checksum: tuple[str, bytes] | None
    ) -> None:
        self._session = session
        self._storage = storage
        self._writer = writer
        self._checksum = checksum
        self._in_place = storage.directory is not None
        # Its pages take memory only as they are filled.
        self._buffer = memoryview(mmap.mmap(-1, session.part_bytes))
        #: Where the buffer begins in the upload.
        self._start = session.received_bytes
        self._filled = 0
        self._hashed = 0
        self._unsaved: list[UploadPart] = []
        self._tail = session.tail
        self._beat = elapsed_clock()
        self._checked = self._start > 0 or session.is_partial
        self._digest = hashlib.new(checksum[0], usedforsecurity=False) if checksum else None
        self._sha256: Any = None
        #: What is being made durable, and the offset when it is.
        self._syncing: tuple[Future[None], int] | None = None
        self._synced = self._start

    def run(self, body: Body, length: int) -> str:
        """Take the bytes. Returns the SHA-256 of the file if these are all of it and the client announced one."""
        session = self._session
        if session.sha256 and self._start == 0 and length == session.size_bytes:
            self._sha256 = hashlib.sha256()
        try:
            with (
                ThreadPoolExecutor(1, thread_name_prefix="hash") as self._hasher,
                ThreadPoolExecutor(1, thread_name_prefix="sync") as self._syncer,
            ):
                self._load_tail()
                try:
                    self._take(body, length)
                except Exception as error:
                    self._keep_what_came(error)
                    raise
                self._flush(is_durable=True)
                self._compare()
        except Exception:
            if session.size_bytes is None:
                self._writer.reserve_what_came()
            raise
        return self._sha256.hexdigest() if self._sha256 is not None else ""

    def _take(self, body: Body, length: int) -> None:
        left = length
        while left:
            if self._may_be_saved and body.is_idle(SILENCE_SECONDS):
                self._flush(is_durable=True)
            room = min(len(self._buffer) - self._filled, left)
            count = body.readinto(self._buffer[self._filled : self._filled + room])
            if count == 0:
                return
            left -= count
            self._filled += count
            if not self._checked and self._filled >= HEAD_BYTES:
                self._check_head(is_complete=False)
            if self._filled == len(self._buffer):
                self._flush(is_durable=False)
            elif elapsed_clock() - self._beat >= BEAT_SECONDS:
                if self._in_place:
                    self._flush(is_durable=True)
                else:
                    self._extend()

    @property
    def _may_be_saved(self) -> bool:
        """Bytes came that the row does not count yet, and that do not wait for the rest of their checksum."""
        return self._checksum is None and self._start + self._filled > self._session.received_bytes

    def _keep_what_came(self, error: Exception) -> None:
        """Before ``error`` is raised. Not kept is what is wrong, or half of a piece that has a checksum."""
        lost = isinstance(error, NotMine | SessionLocked | SessionEnded | ContentMismatch | TooShort | StorageFull)
        if lost or self._checksum is not None:
            return
        try:
            self._flush(is_durable=True)
        except (DomainError, NotMine):
            # The first error is the one to tell.
            return

    def _load_tail(self) -> None:
        """The buffer begins where a part does."""
        if self._in_place:
            return
        if self._tail:
            with self._storage.open_range(self._tail) as file:
                data = file.read()
            self._buffer[: len(data)] = data
            self._filled = self._hashed = len(data)
            self._start -= len(data)

    def _check_head(self, *, is_complete: bool) -> None:
        self._checked = True
        head = bytes(self._buffer[: min(self._filled, HEAD_BYTES)])
        check_signature(audio_format(self._session.storage_path), head, complete=is_complete)

    def _flush(self, *, is_durable: bool) -> None:
        """Bring the buffer to the storage and count its bytes. At the end of a request it may be a tail.

        On a disk, bytes are made durable and counted while further ones come, unless that is to be done now.
        """
        end = self._start + self._filled
        is_whole = end == self._session.size_bytes
        if self._filled == 0 or (end == self._session.received_bytes and not (is_whole and self._tail)):
            if self._in_place:
                self._sync(self._start, is_now=is_durable)
            return
        if not self._checked and is_whole and self._start == 0:
            self._check_head(is_complete=True)
        data = self._buffer[: self._filled]
        hashing = self._hasher.submit(self._hash, data[self._hashed :]) if self._hashes else None
        try:
            if self._in_place:
                self._write_in_place(data)
            elif is_whole or self._filled == len(self._buffer):
                self._write_part(data)
            else:
                self._write_tail(data)
        finally:
            if hashing is not None:
                hashing.result()
            data.release()
        if self._in_place:
            self._sync(end, is_now=is_durable)
        # A beginning whose format is not known yet stays, to be looked at with what follows.
        if self._filled == len(self._buffer) or (self._in_place and self._checked):
            self._start, self._filled, self._hashed = end, 0, 0
        else:
            self._hashed = self._filled

    @property
    def _hashes(self) -> list[Any]:
        return [digest for digest in (self._digest, self._sha256) if digest is not None]

    def _hash(self, data: memoryview) -> None:
        for digest in self._hashes:
            digest.update(data)
        data.release()

    def _write_in_place(self, data: memoryview) -> None:
        with self._writer.kept():
            self._storage.parts.write_soon(
                self._session.storage_path,
                self._session.handle,
                number=self._start // self._session.part_bytes + 1,
                start=self._start,
                data=data,
                is_mine=self._writer.is_mine,
            )

    def _sync(self, end: int, *, is_now: bool) -> None:
        """Make bytes up to ``end`` durable and count them: now, or on another thread once they are many."""
        if self._syncing is not None and (is_now or self._syncing[0].done()):
            self._count_synced()
        begun = self._syncing[1] if self._syncing is not None else self._synced
        if self._syncing is None and end > begun and (is_now or end - begun >= SYNC_BYTES):
            sync = self._syncer.submit(self._storage.parts.sync, self._session.storage_path, self._session.handle)
            self._syncing = sync, end
            if is_now:
                self._count_synced()

    def _count_synced(self) -> None:
        assert self._syncing is not None
        (sync, end), self._syncing = self._syncing, None
        with self._writer.kept():
            sync.result()
        self._synced = end
        self._save(end, tail="")

    def _write_part(self, data: memoryview) -> None:
        number = self._start // self._session.part_bytes + 1
        with self._writer.kept():
            tag = self._storage.parts.write(
                self._session.storage_path,
                self._session.handle,
                number=number,
                start=self._start,
                data=data,
                is_mine=self._writer.is_mine,
            )
        part = UploadPart(session=self._session, number=number, size_bytes=len(data), tag=tag, is_stored=True)
        self._unsaved.append(part)
        self._save(self._start + len(data), tail="")

    def _write_tail(self, data: memoryview) -> None:
        name = side_name(self._session.pk, secrets.token_hex(8))
        with self._writer.kept():
            if not self._writer.is_mine():
                raise NotMine
            self._storage.save(name, ContentFile(bytes(data)))
        self._save(self._start + len(data), tail=name)

    def _save(self, received_bytes: int, *, tail: str) -> None:
        """Count the bytes; under a checksum, when all of them are known to be right."""
        self._pending = (received_bytes, tail)
        if self._checksum is None:
            self._publish()
        else:
            self._writer.extend()
        self._beat = elapsed_clock()

    def _publish(self) -> None:
        received_bytes, tail = self._pending
        columns = {} if self._in_place else {"tail": tail}
        self._writer.save(received_bytes=received_bytes, parts=self._unsaved, **columns)
        self._unsaved = []
        if self._tail and self._tail != tail:
            remove_tails(self._storage, [self._tail])
        self._tail = tail

    def _compare(self) -> None:
        """Raises ChecksumMismatch, and DigestMismatch before the whole file gets its name."""
        if self._digest is not None and self._checksum is not None:
            if self._digest.digest() != self._checksum[1]:
                remove_tails(self._storage, [self._pending[1]])
                raise ChecksumMismatch
            self._publish()
        if self._sha256 is not None and self._session.is_whole:
            found = self._sha256.hexdigest()
            if found != self._session.sha256:
                raise DigestMismatch(expected=self._session.sha256, received=found)

    def _extend(self) -> None:
        self._writer.extend()
        self._beat = elapsed_clock()

"""The one way in: bytes become an object that is written once, and a row that says ``uploaded``.

Every door whose bytes pass through us hands a :class:`Source` to :func:`ingest_audio`. The order is reserve, row,
object, row: see ``arrivals`` for what whatever dies in between leaves behind.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from audiotricks.leases import Lease
from media.formats import HEAD_BYTES, AudioFormat, audio_format, check_signature
from media.inspection import reencode_image
from objectstore import default_alias, get_storage
from objectstore.base import AudioStorage, ObjectStat
from objectstore.checksums import difference
from objectstore.content import StreamedContent
from objectstore.errors import InvalidObjectName, ObjectExists, ObjectNotFound, StorageError
from objectstore.hashing import StreamDigests
from quotas.errors import ReservationGone
from quotas.models import QuotaReservation, Workspace
from quotas.reservations import extend_reservation
from uploads.intake.arrivals import UploadTakenBack, abandon_receiving, begin_receiving, finish_receiving
from uploads.intake.filenames import clean_filename
from uploads.intake.thumbnails import save_thumbnail
from uploads.models import AudioUpload
from uploads.objects.conditions import note_failed_write, note_written
from uploads.objects.marks import StorageNotOurs
from uploads.objects.metadata import content_metadata, object_metadata

log = structlog.get_logger(__name__)

RESERVED_PATIENCE_SECONDS = 60


class FilenameMissing(DomainError):
    code = "filename_missing"
    status = 400
    title = _("The file has no name: send one, with its extension")


class EmptyFile(DomainError):
    code = "empty_file"
    status = 400
    title = _("The file is empty")


class DigestMismatch(DomainError):
    """``expected`` and ``received`` are in hexadecimal, by ``algorithm``, which is SHA-256 where it is not named."""

    code = "digest_mismatch"
    status = 422
    title = _("The bytes that arrived are not the ones that the checksum was made of: send the file again")


class StoredObjectDiffers(StorageError):
    code = "stored_object_differs"
    status = 503
    title = _("The storage does not hold what was written to it: send the file again")


class Source(Protocol):
    """Bytes on their way in.

    ``size`` is the declared size in bytes, which is reserved before a byte is taken; more is reserved when more comes.
    ``chunks`` yields the bytes once, in order, and raises when they end before their declared end. ``thumbnail`` may
    be known only when ``chunks`` is at its end.
    """

    filename: str
    size: int

    @property
    def thumbnail(self) -> bytes | None: ...

    def chunks(self) -> Iterator[bytes]: ...


def ingest_audio(
    source: Source,
    *,
    workspace: Workspace,
    owner: User,
    door: str,
    audio_id: uuid.UUID | None = None,
    expected_sha256: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    on_stored: Callable[[AudioUpload], None] | None = None,
) -> AudioUpload:
    """Store the bytes of ``source`` as a new upload of ``workspace`` and return its row, ``uploaded``.

    The object's size is the source's and its SHA-256, when given, ``expected_sha256``. ``on_stored`` is called inside
    the transaction that makes the row ``uploaded``. ``door`` names the entry point in the event log.

    On any error nothing stays behind: no row, no object, no reservation. Raises UnsupportedFormat, ContentMismatch,
    EmptyFile, FilenameMissing, DigestMismatch, UploadTakenBack, QuotaExceeded, FileTooLarge, StorageFull and other
    storage errors, MediaError for a thumbnail, and whatever ``source`` raises.
    """
    filename, file_format = check_declared(source.filename, source.size)
    storage = get_storage(default_alias())
    thumbnail = reencode_image(source.thumbnail) if source.thumbnail else None
    with noting_failed_write():
        upload = begin_receiving(
            filename,
            file_format,
            size_bytes=source.size,
            workspace=workspace,
            owner=owner,
            pk=audio_id,
            metadata=metadata,
        )
    structlog.contextvars.bind_contextvars(upload_id=str(upload.pk))
    assert upload.reservation is not None
    lease = Lease(upload.reservation, "expires_at", seconds=settings.RESERVATION_SECONDS, holder={})
    incoming = _Incoming(source, file_format, upload.reservation, lease, expected_sha256)
    stored = False
    try:
        with lease.kept():
            storage.ensure_space(source.size)
            with closing(incoming), noting_failed_write():
                _write(storage, upload, incoming)
            stored = True
            stat = _compared(storage, upload, incoming.digests)
            if thumbnail is None and source.thumbnail:
                # The whole file has been sent: better wait than send it away.
                thumbnail = reencode_image(source.thumbnail, patience=RESERVED_PATIENCE_SECONDS)
            if thumbnail is not None:
                save_thumbnail(upload, thumbnail)
            finish_receiving(
                upload,
                size_bytes=incoming.digests.size,
                sha256=incoming.digests.sha256,
                md5=incoming.digests.md5,
                storage_class=stat.storage_class,
                door=door,
                actor=owner,
                on_stored=on_stored,
            )
    except BaseException:
        abandon_receiving(upload, object_stored=stored)
        raise
    note_written(default_alias())
    log.info("audio_uploaded", door=door, bytes=upload.file_size, filename=upload.original_filename)
    return upload


@contextmanager
def noting_failed_write() -> Iterator[None]:
    """What the storage failed at is told by ``/health`` until a write works again; what a client sent wrong is not."""
    try:
        yield
    except (ObjectExists, InvalidObjectName, StorageNotOurs):
        raise
    except StorageError as error:
        note_failed_write(default_alias(), error)
        raise


def check_declared(filename: str, size: int) -> tuple[str, AudioFormat]:
    """The name made harmless, and its format. Raises FilenameMissing, UnsupportedFormat, EmptyFile for 0 bytes."""
    filename = clean_filename(filename)
    if not filename:
        raise FilenameMissing
    file_format = audio_format(filename)
    if size == 0:
        raise EmptyFile
    return filename, file_format


class _Incoming:
    """The source's bytes, checked on their way to the storage: signature, size, digest, reservation.

    Everything that can be wrong with the bytes is raised from the iteration, that is before the storage makes the
    object durable, so that a refused file never stood under its final name.
    """

    def __init__(
        self,
        source: Source,
        file_format: AudioFormat,
        reservation: QuotaReservation,
        lease: Lease,
        expected_sha256: str | None,
    ) -> None:
        self.digests = StreamDigests()
        self._ended = False
        self._source = source
        self._format = file_format
        self._reservation = reservation
        self._lease = lease
        self._reserved = source.size
        self._expected = expected_sha256

    def __iter__(self) -> Iterator[bytes]:
        head: bytes | None = b""
        for piece in self._source.chunks():
            self.digests.update(piece)
            self._reserve_more()
            if head is not None:
                head += piece[:HEAD_BYTES]
                if len(head) < HEAD_BYTES:
                    continue
                check_signature(self._format, head[:HEAD_BYTES], complete=False)
                # What was held back until the signature was known goes first.
                piece = head[: self.digests.size - len(piece)] + piece
                head = None
            yield piece
        if not self.digests.size:
            raise EmptyFile
        self.digests.close()
        if self._expected and self._expected != self.digests.sha256:
            raise DigestMismatch(expected=self._expected, received=self.digests.sha256)
        if head is not None:
            check_signature(self._format, head, complete=True)
        self._ended = True
        if head is not None:
            yield head

    def facts(self) -> dict[str, str]:
        """What is known of the bytes when all of them have come, as metadata of their object; until then nothing."""
        if not self._ended:
            return {}
        return content_metadata(
            size_bytes=self.digests.size,
            md5=self.digests.md5,
            sha256=self.digests.sha256,
            has_thumbnail=bool(self._source.thumbnail),
        )

    def close(self) -> None:
        self.digests.close()

    def _reserve_more(self) -> None:
        """When more came than was declared. Raises ReservationGone as soon as a sweep has taken the reservation."""
        if self._lease.is_lost:
            raise ReservationGone
        if self.digests.size > self._reserved:
            extend_reservation(self._reservation, size_bytes=self.digests.size)
            self._reserved = self.digests.size
            release_connection()


def _write(storage: AudioStorage, upload: AudioUpload, incoming: _Incoming) -> None:
    try:
        storage.save(
            upload.storage_path,
            StreamedContent(iter(incoming), expected_bytes=upload.file_size),
            content_type=upload.mime_type,
            metadata=lambda: {**object_metadata(upload), **incoming.facts()},
        )
    except ObjectNotFound as error:
        # A sweep that takes a row back ends its unfinished parts too.
        if AudioUpload.objects.filter(pk=upload.pk).exists():
            raise
        raise UploadTakenBack from error


def _compared(storage: AudioStorage, upload: AudioUpload, digests: StreamDigests) -> ObjectStat:
    """What the storage says that it holds, compared with what was written as far as it can tell."""
    try:
        stat = storage.stat(upload.storage_path)
    except ObjectNotFound as error:
        raise StoredObjectDiffers(_("The storage lost the object right after it was written.")) from error
    match difference(digests.facts, stat.facts):
        case None:
            return stat
        case "size":
            words = _("{written} bytes were written and {stored} are stored.")
            raise StoredObjectDiffers(format_lazy(words, written=digests.size, stored=stat.size))
        case algorithm:
            words = _("What is stored has another {algorithm} than what was written.")
            raise StoredObjectDiffers(format_lazy(words, algorithm=algorithm))

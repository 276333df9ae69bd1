"""Stores bytes that pass through us, from a :class:`Source`: reserve, row, object, row."""

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
    """Members: ``expected``, ``received`` (hexadecimal), ``algorithm`` (default SHA-256)."""

    code = "digest_mismatch"
    status = 422
    title = _("The bytes that arrived are not the ones that the checksum was made of: send the file again")


class StoredObjectDiffers(StorageError):
    code = "stored_object_differs"
    status = 503
    title = _("The storage does not hold what was written to it: send the file again")


class Source(Protocol):
    """``size`` is declared and reserved first. ``chunks`` yields the bytes once and raises if they end early.
    ``thumbnail`` may be known only after that.
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
    """Store the bytes of ``source`` as a new upload, ``uploaded``.

    ``on_stored`` is called in the last transaction. ``door`` names the entry point in the event log.

    An error leaves no row, object or reservation. Raises UnsupportedFormat, ContentMismatch, EmptyFile,
    FilenameMissing, DigestMismatch, UploadTakenBack, QuotaExceeded, FileTooLarge, StorageFull and other storage errors,
    MediaError for a thumbnail, and the errors of ``source``.
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
                # After the whole file was sent, waiting is better than a refusal.
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
    """Storage failures are in ``/health`` until a write works."""
    try:
        yield
    except (ObjectExists, InvalidObjectName, StorageNotOurs):
        raise
    except StorageError as error:
        note_failed_write(default_alias(), error)
        raise


def check_declared(filename: str, size: int) -> tuple[str, AudioFormat]:
    """The harmless name and its format. Raises FilenameMissing, UnsupportedFormat, EmptyFile."""
    filename = clean_filename(filename)
    if not filename:
        raise FilenameMissing
    file_format = audio_format(filename)
    if size == 0:
        raise EmptyFile
    return filename, file_format


class _Incoming:
    """The source's bytes, checked on their way: signature, size, digest, reservation. Faults are raised before the
    object is durable.
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
                # Bytes that were held back until the signature was checked go first.
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
        """Empty before the last byte."""
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
        """Raises ReservationGone once a sweep took the reservation."""
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
        # A sweep that took the row back has removed its parts too.
        if AudioUpload.objects.filter(pk=upload.pk).exists():
            raise
        raise UploadTakenBack from error


def _compared(storage: AudioStorage, upload: AudioUpload, digests: StreamDigests) -> ObjectStat:
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

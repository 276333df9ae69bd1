"""Stores local files, for Python callers and commands."""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.errors import Conflict, NotFound
from media.errors import UnsupportedImage
from media.formats import ContentMismatch, image_format
from media.inspection import reencode_image
from objectstore import get_storage
from objectstore.base import ObjectStat
from objectstore.errors import StorageError
from objectstore.hashing import digest_of
from objectstore.retry import RetryPolicy, call_with_retry, retry_policy
from quotas.models import Workspace
from quotas.rights import Right, require_right
from uploads.intake.ingest import ingest_audio
from uploads.intake.thumbnails import set_thumbnail
from uploads.lifecycle.transitions import TransitionRefused
from uploads.models import AudioUpload, Status

log = structlog.get_logger(__name__)

READ_BYTES = 1024 * 1024

#: Called with the bytes read so far; a retry begins again. An exception ends the reading.
OnRead = Callable[[int], None]
FileState = tuple[int, int, int, int]


class FileChanged(Conflict):
    code = "file_changed"
    title = _("The file changed while it was read")


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """Paths are names in ``storage_provider``, URIs full locations; neither gives access. ``size`` is in bytes.
    ``checksums`` are hexadecimal by algorithm. ``version``, ``storage_class`` and ``metadata`` come from the
    storage, empty where unknown.
    """

    audio_id: uuid.UUID
    audio_path: str
    audio_uri: str
    thumbnail_path: str
    thumbnail_uri: str
    storage_provider: str
    storage_class: str
    size: int
    content_type: str
    sha256: str
    md5: str
    checksums: Mapping[str, str]
    version: str
    metadata: Mapping[str, str]
    cleaned_up: bool

    @property
    def has_thumbnail(self) -> bool:
        return bool(self.thumbnail_path)


@dataclass(frozen=True, slots=True)
class StoredThumbnail:
    """The re-encoded picture, ``width`` and ``height`` in pixels; see :class:`StoredAudio`."""

    audio_id: uuid.UUID
    thumbnail_path: str
    thumbnail_uri: str
    storage_provider: str
    size: int
    content_type: str
    width: int
    height: int
    sha256: str
    md5: str
    checksums: Mapping[str, str]
    version: str
    metadata: Mapping[str, str]
    cleaned_up: bool


def store_audio_file(
    path: Path | str,
    *,
    workspace: Workspace,
    owner: User,
    audio_id: uuid.UUID | None = None,
    filename: str | None = None,
    thumbnail: Path | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    expected_sha256: str | None = None,
    retry: RetryPolicy | None = None,
    cleanup: bool = False,
    door: str = "python",
    on_read: OnRead | None = None,
) -> StoredAudio:
    """Store a local file as an upload, with a thumbnail.

    ``retry`` (default STORAGE_RETRY) is for transient storage errors. ``cleanup`` removes the files after success,
    unless they changed; a failure is in ``cleaned_up`` and logged. ``door`` names the entry point.

    Raises FileNotFoundError, FileChanged, UnsupportedFormat or ContentMismatch for the thumbnail, and the errors of
    :func:`uploads.intake.ingest.ingest_audio`.
    """
    path = Path(path)
    image = Path(thumbnail) if thumbnail is not None else None
    if image is not None:
        check_picture(image)
    read: dict[Path, FileState] = {}

    def attempt() -> AudioUpload:
        read.update((file, state_of(file)) for file in (path, image) if file is not None)
        return ingest_audio(
            FileSource(path, image, filename=filename, on_read=on_read),
            workspace=workspace,
            owner=owner,
            door=door,
            audio_id=audio_id,
            expected_sha256=expected_sha256,
            metadata=metadata,
        )

    with retry_policy(retry):
        upload = call_with_retry(attempt)
        stat = stat_if_told(upload, upload.storage_path)
    removed = [remove_callers_file(file, state) for file, state in read.items()] if cleanup else []
    hashes = {"sha256": upload.checksum_sha256, "md5": upload.checksum_md5}
    return StoredAudio(
        audio_id=upload.pk,
        audio_path=upload.storage_path,
        audio_uri=upload.storage_url,
        thumbnail_path=upload.thumbnail_path,
        thumbnail_uri=location_of(upload, upload.thumbnail_path),
        storage_provider=upload.storage_provider,
        storage_class=upload.storage_class,
        size=upload.file_size,
        content_type=upload.mime_type,
        **hashes,
        checksums=hashes | dict(stat.checksums if stat else {}),
        version=stat.version if stat else "",
        metadata=dict(stat.metadata if stat else {}),
        cleaned_up=cleanup and all(removed),
    )


def store_thumbnail(
    path: Path | str,
    *,
    audio_id: uuid.UUID,
    actor: User,
    retry: RetryPolicy | None = None,
    cleanup: bool = False,
) -> StoredThumbnail:
    """Store a JPEG, PNG or WebP file, re-encoded, as the thumbnail of an audio file. See :func:`store_audio_file`.

    Raises NotFound (also for another's), TransitionRefused in the trash, PermissionDenied, FileNotFoundError,
    UnsupportedFormat, ContentMismatch, MediaError, and storage errors.
    """
    path = Path(path)
    state = state_of(path)
    check_picture(path)
    upload = AudioUpload.objects.visible_to(actor).select_related("workspace").filter(pk=audio_id).first()
    if upload is None:
        raise NotFound
    require_right(actor, Right.CHANGE_FILES, upload.workspace_id)
    if upload.status == Status.DELETED:
        raise TransitionRefused(_("The file is in the trash: take it out first."), state=upload.status, allowed=[])
    image = reencode_image(path)
    with retry_policy(retry):
        call_with_retry(set_thumbnail, upload, image, actor=actor)
        stat = stat_if_told(upload, upload.thumbnail_path)
    digests = digest_of([image.data])
    hashes = {"sha256": digests.sha256, "md5": digests.md5}
    return StoredThumbnail(
        audio_id=upload.pk,
        thumbnail_path=upload.thumbnail_path,
        thumbnail_uri=location_of(upload, upload.thumbnail_path),
        storage_provider=upload.storage_provider,
        size=len(image.data),
        content_type=image.mime_type,
        width=image.width,
        height=image.height,
        **hashes,
        checksums=hashes | dict(stat.checksums if stat else {}),
        version=stat.version if stat else "",
        metadata=dict(stat.metadata if stat else {}),
        cleaned_up=cleanup and remove_callers_file(path, state),
    )


def check_picture(path: Path) -> None:
    """Raises UnsupportedFormat (name), ContentMismatch (another kind of picture), UnsupportedImage (empty)."""
    expected = image_format(path.name).extension
    with path.open("rb") as file:
        head = file.read(12)
    if not head:
        raise UnsupportedImage(_("The picture is empty."))
    signs = {"jpg": head[:3] == b"\xff\xd8\xff", "png": head[:4] == b"\x89PNG", "webp": head[8:] == b"WEBP"}
    found = next((extension for extension, fits in signs.items() if fits), expected)
    if found != expected:
        detail = _("The picture's name ends in .{expected}, its content is that of a .{found}.")
        raise ContentMismatch(format_lazy(detail, expected=expected, found=found), expected=expected, found=found)


def stat_if_told(upload: AudioUpload, name: str) -> ObjectStat | None:
    """A failure does not undo the storing."""
    try:
        return get_storage(upload.storage_provider).stat(name)
    except StorageError as error:
        log.warning("stored_object_not_described", upload_id=str(upload.pk), error=str(error))
        return None


def location_of(upload: AudioUpload, name: str) -> str:
    return get_storage(upload.storage_provider).location_of(name) if name else ""


def state_of(path: Path) -> FileState:
    """Changes when the file is written or replaced."""
    info = path.stat()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def remove_callers_file(path: Path, state: FileState) -> bool:
    """If it still has this state; return whether it is gone. Never raises."""
    try:
        if state_of(path) != state:
            log.warning("file_not_cleaned_up", path=str(path), error="It changed after it was read.")
            return False
        path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("file_not_cleaned_up", path=str(path), error=error.strerror, kind=type(error).__name__)
        return False
    return True


class FileSource:
    """Refuses a file that changes while it is read."""

    def __init__(
        self,
        path: Path,
        thumbnail: Path | None = None,
        *,
        filename: str | None = None,
        on_read: OnRead | None = None,
    ) -> None:
        self.filename = filename or name_of(path)
        self.size = path.stat().st_size
        self.thumbnail = thumbnail.read_bytes() if thumbnail else None
        self._path = path
        self._on_read = on_read

    def chunks(self) -> Iterator[bytes]:
        position = 0
        for piece in read_pieces(self._path):
            position += len(piece)
            if self._on_read is not None:
                self._on_read(position)
            yield piece
        if position != self.size:
            raise FileChanged(format_lazy(_("{filename} changed its size while it was read."), filename=self.filename))


def name_of(path: Path) -> str:
    """With U+FFFD for bytes that are not UTF-8."""
    return os.fsencode(path.name).decode(errors="replace")


def read_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            yield piece

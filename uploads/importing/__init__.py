"""Files of this machine's disk, stored by the same way in as everything else: for Python callers and commands."""

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

from audiotricks.errors import Conflict
from quotas.models import Workspace
from uploads.ingest import ingest_audio
from uploads.models import AudioUpload
from uploads.storage.retry import RetryPolicy, call_with_retry

log = structlog.get_logger(__name__)

READ_BYTES = 1024 * 1024

#: Told how many bytes of a file have been read so far; after a retry it begins again. What it raises ends the reading.
OnRead = Callable[[int], None]
FileState = tuple[int, int, int, int]


class FileChanged(Conflict):
    code = "file_changed"
    title = _("The file changed while it was read")


@dataclass(frozen=True, slots=True)
class StoredAudio:
    """What :func:`store_audio_file` stored: bytes, hashes in hexadecimal, names inside ``storage_provider``."""

    audio_id: uuid.UUID
    audio_path: str
    thumbnail_path: str
    storage_provider: str
    size: int
    content_type: str
    sha256: str
    md5: str
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
    """Store a file of the caller's, by the same door as everything else.

    It is called ``filename``, by default the file's own name. A passing fault of the storage is retried by ``retry``
    (by default the preset of STORAGE_RETRY), from the file's beginning. ``cleanup`` removes the caller's files after
    success, and only then, and only as they were read: what was written to one meanwhile is nowhere else. That it could
    not is told in ``cleaned_up`` and in the log, never raised. ``door`` is for the diary. Raises FileNotFoundError,
    FileChanged and what :func:`uploads.ingest.ingest_audio` raises.
    """
    path = Path(path)
    image = Path(thumbnail) if thumbnail is not None else None
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

    upload = call_with_retry(attempt, policy=retry)
    removed = [remove_callers_file(file, state) for file, state in read.items()] if cleanup else []
    return StoredAudio(
        audio_id=upload.pk,
        audio_path=upload.storage_path,
        thumbnail_path=upload.thumbnail_path,
        storage_provider=upload.storage_provider,
        size=upload.file_size,
        content_type=upload.mime_type,
        sha256=upload.checksum_sha256,
        md5=upload.checksum_md5,
        cleaned_up=cleanup and all(removed),
    )


def state_of(path: Path) -> FileState:
    """What changes when a file is written to, or another takes its place: device and inode, size, time."""
    info = path.stat()
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def remove_callers_file(path: Path, state: FileState) -> bool:
    """Remove a file that its caller no longer wants, if it is still the one of this state.

    Never raises; says whether the file is gone.
    """
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
    """A file on this machine's disk. What grows or shrinks while it is read is refused."""

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
    """The file's name as text; bytes that are not UTF-8 become U+FFFD, so that the rest of the name is kept."""
    return os.fsencode(path.name).decode(errors="replace")


def read_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            yield piece

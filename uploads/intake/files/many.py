"""Imports files and folders; a run can be repeated."""

import hashlib
import os
import stat
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection
from django.db.models import Case, Value, When
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audiotricks.batches import side_by_side
from audiotricks.database import release_connection
from audiotricks.errors import DomainError
from media.formats import AUDIO_FORMATS, HEAD_BYTES, check_signature, extension_of
from objectstore import default_alias, get_storage
from objectstore.errors import PermanentStorageError
from quotas.errors import QuotaExceeded
from quotas.models import Workspace
from quotas.reservations import check_room, ensure_quota
from uploads.intake.filenames import clean_filename
from uploads.intake.files import FileChanged, name_of, read_pieces, store_audio_file
from uploads.intake.ingest import DigestMismatch, check_declared
from uploads.models import AudioUpload, Status
from uploads.models.states import WITHOUT_OBJECT

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise

log = structlog.get_logger(__name__)

LEADS_OUT = gettext_lazy("This link leads out of the folder. To import the file that it leads to, name that file.")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """``fault`` says why it cannot be imported; ``size`` is in bytes."""

    path: Path
    size: int = 0
    is_audio: bool = True
    fault: "_StrOrPromise" = ""


def find_files(paths: Sequence[Path]) -> Iterator[FoundFile]:
    """The files of ``paths`` and of all folders in them, sorted, each once.

    In folders, hidden files are left out, files without an audio extension marked, and links to folders not followed. A
    link to a file outside has a fault: the folder's writers must not choose other files of this machine.
    """
    for absolute, path in (given := {Path(os.path.abspath(path)): path for path in paths}).items():  # noqa: PTH100
        if any(_covers(folder, absolute) for folder in given):
            continue
        if path.is_dir():
            yield from _files_within(path)
        else:
            yield _found(path)


def _covers(folder: Path, path: Path) -> bool:
    if folder == path or not path.is_relative_to(folder):
        return False
    return not any(part.startswith(".") for part in path.relative_to(folder).parts)


def _files_within(folder: Path) -> Iterator[FoundFile]:
    faults: list[OSError] = []
    inside = folder.resolve()
    for root, folders, names in os.walk(folder, onerror=faults.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if extension_of(clean_filename(name_of(path))) not in AUDIO_FORMATS:
                yield FoundFile(path, is_audio=False)
            elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                yield FoundFile(path, fault=LEADS_OUT)
            else:
                yield _found(path)
    for fault in faults:
        yield FoundFile(Path(fault.filename), fault=_reason(fault))


def _found(path: Path) -> FoundFile:
    try:
        info = path.stat()
    except OSError as error:
        return FoundFile(path, fault=_reason(error))
    if not stat.S_ISREG(info.st_mode):
        return FoundFile(path, fault=gettext_lazy("This is not a file that can be read to its end."))
    return FoundFile(path, info.st_size)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


class Result(StrEnum):
    """``WOULD_STORE`` is for a dry run, ``STOPPED`` for a file in progress."""

    STORED = "stored"
    WOULD_STORE = "would_store"
    DUPLICATE = "duplicate"
    IN_TRASH = "in_trash"
    NOT_AUDIO = "not_audio"
    FAILED = "failed"
    NOT_TRIED = "not_tried"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class FileResult:
    """``upload_id`` is the row with the bytes; ``code`` and ``detail`` say why the file was not stored."""

    file: FoundFile
    result: Result
    upload_id: uuid.UUID | None = None
    code: str = ""
    detail: str = ""
    cleaned_up: bool = False


class Stopped(Exception): ...


class FileImport:
    """A run that imports files in parallel threads and skips those whose SHA-256 the workspace has.

    A failure concerns its file only, except:

    - a refusal by the quota's bytes also skips every file that is at least as large;
    - a refusal that holds for all (number of files, disk), or a failing storage or database, skips all others.
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        owner: User,
        parallel: int = 1,
        cleanup: bool = False,
        dry_run: bool = False,
        on_read: Callable[[Path, int], None] | None = None,
    ) -> None:
        self._workspace = workspace
        self._owner = owner
        self._parallel = parallel
        self._cleanup = cleanup
        self._dry_run = dry_run
        self._on_read = on_read
        self._stop = threading.Event()
        self._lock = threading.Condition()
        self._in_hand: set[str] = set()
        self._not_tried_from: int | None = None
        # A dry run counts accepted files as if they were stored.
        self._accepted: set[str] = set()
        self._accepted_bytes = 0

    def stop(self) -> None:
        """Discards files in progress. Safe in a signal handler."""
        self._stop.set()

    @property
    def was_stopped(self) -> bool:
        return self._stop.is_set()

    def run(self, files: Iterable[FoundFile]) -> Iterator[FileResult]:
        """Yield results as they are known, a few files ahead."""
        until_stopped = takewhile(lambda _file: not self.was_stopped, files)
        return side_by_side(self._take, until_stopped, threads=self._parallel, ahead=self._parallel, name="import")

    def _take(self, file: FoundFile) -> FileResult:
        structlog.contextvars.clear_contextvars()
        try:
            return self._import(file)
        except Stopped:
            return FileResult(file, Result.STOPPED)
        except DomainError as error:
            self._heed(error, file)
            return FileResult(file, Result.FAILED, code=error.code, detail=str(error.detail))
        except OSError as error:
            return FileResult(file, Result.FAILED, code="unreadable", detail=_reason(error))
        except (OperationalError, InterfaceError) as error:
            self._try_no_more(from_bytes=0)
            log.error("import_without_database", error=str(error))
            return FileResult(file, Result.FAILED, code="database", detail=_("The database cannot be used just now."))
        except Exception:
            log.exception("import_error", path=str(file.path))
            detail = _("Something unexpected happened; the log has more about it.")
            return FileResult(file, Result.FAILED, code="internal_error", detail=detail)
        finally:
            connection.close()

    def _import(self, file: FoundFile) -> FileResult:
        if self.was_stopped:
            raise Stopped
        if file.fault:
            return FileResult(file, Result.FAILED, code="unreadable", detail=str(file.fault))
        if not file.is_audio:
            return FileResult(file, Result.NOT_AUDIO)
        if self._not_tried_from is not None and file.size >= self._not_tried_from:
            return FileResult(file, Result.NOT_TRIED)
        _name, file_format = check_declared(name_of(file.path), file.size)
        sha256, head = self._fingerprint(file.path)
        with self._alone_with(sha256):
            if held := self._held(sha256):
                result = Result.IN_TRASH if held.status == Status.DELETED else Result.DUPLICATE
                detail = held.error_message if held.status == Status.FAILED else ""
                return FileResult(file, result, held.pk, code=held.error_code if detail else "", detail=detail)
            if not self._dry_run:
                return self._store(file, sha256)
            check_signature(file_format, head, complete=len(head) < HEAD_BYTES)
            return self._accept(file, sha256)

    def _fingerprint(self, path: Path) -> tuple[str, bytes]:
        digest, head = hashlib.sha256(), b""
        for piece in read_pieces(path):
            if self.was_stopped:
                raise Stopped
            digest.update(piece)
            head += piece[: HEAD_BYTES - len(head)]
        return digest.hexdigest(), head

    @contextmanager
    def _alone_with(self, sha256: str) -> Iterator[None]:
        """The second of equal files waits for the first."""
        with self._lock:
            self._lock.wait_for(lambda: sha256 not in self._in_hand)
            self._in_hand.add(sha256)
        try:
            yield
        finally:
            with self._lock:
                self._in_hand.discard(sha256)
                self._lock.notify_all()

    def _held(self, sha256: str) -> AudioUpload | None:
        """Also a failed one, since the file would fail again."""
        rows = AudioUpload.objects.in_workspace(self._workspace).filter(checksum_sha256=sha256)
        rows = rows.exclude(status__in=WITHOUT_OBJECT)
        # A usable file precedes a failed one, and that one in the trash.
        usefulness = Case(When(status=Status.DELETED, then=2), When(status=Status.FAILED, then=1), default=Value(0))
        held = rows.order_by(usefulness, "id").first()
        release_connection()
        return held

    def _store(self, file: FoundFile, sha256: str) -> FileResult:
        def on_read(position: int) -> None:
            if self.was_stopped:
                raise Stopped
            if self._on_read is not None:
                self._on_read(file.path, position)

        try:
            stored = store_audio_file(
                file.path,
                workspace=self._workspace,
                owner=self._owner,
                expected_sha256=sha256,
                cleanup=self._cleanup,
                door="import",
                on_read=on_read,
            )
        except DigestMismatch as error:
            raise FileChanged from error
        return FileResult(file, Result.STORED, stored.audio_id, cleaned_up=stored.cleaned_up)

    def _accept(self, file: FoundFile, sha256: str) -> FileResult:
        with self._lock:
            if sha256 in self._accepted:
                return FileResult(file, Result.DUPLICATE)
            check_room(
                ensure_quota(self._workspace),
                size_bytes=file.size,
                other_bytes=self._accepted_bytes,
                other_files=len(self._accepted),
            )
            get_storage(default_alias()).ensure_space(self._accepted_bytes + file.size)
            self._accepted.add(sha256)
            self._accepted_bytes += file.size
        return FileResult(file, Result.WOULD_STORE)

    def _heed(self, error: DomainError, file: FoundFile) -> None:
        """Skip other files that the refusal concerns too."""
        if isinstance(error, QuotaExceeded):
            by_bytes = error.members["limit"] in ("max_storage_bytes", "max_monthly_upload_bytes")
            self._try_no_more(from_bytes=file.size if by_bytes else 0)
        elif isinstance(error, PermanentStorageError):
            self._try_no_more(from_bytes=0)

    def _try_no_more(self, *, from_bytes: int) -> None:
        with self._lock:
            known = self._not_tried_from
            self._not_tried_from = from_bytes if known is None else min(known, from_bytes)

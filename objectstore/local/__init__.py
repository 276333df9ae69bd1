"""Objects as durable files under one folder.

Not Django's ``FileSystemStorage``, which never calls fsync, ignores short writes, and renames where a name is taken.
"""

import io
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from django.core.files.base import File
from django.utils.translation import gettext_lazy as _

from ..base import AudioStorage, ObjectStat, Space
from ..content import NewObject, StreamedContent
from ..errors import InvalidObjectName, ObjectExists, ObjectNotFound, PermanentStorageError, TransientStorageError
from ..names import PARTIALS, is_valid_name
from .disk import (
    FileRange,
    fill,
    identity_of,
    is_being_written,
    lock,
    make_directory,
    open_directory,
    publish,
    read_pieces,
    storage_errors,
    sync_directory,
    sync_names,
    wait_for_lock,
    write_all,
)
from .layout import folders_of, prune
from .parts import LocalParts

# No valid name begins with a dot, so that a temporary file is never mistaken for an object.
PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.(?P<kind>part|session)")
CREATE_ATTEMPTS = 100
#: The file by which this process tests whether the disk takes writes.
PROBE = f".health.{secrets.token_hex(8)}.part"

log = structlog.get_logger(__name__)


class LocalStorage(AudioStorage):
    """A folder that web, worker and beat share as one user. It keeps no checksums, classes, types or metadata. The
    modes are those of new files and, less the umask, of new folders.
    """

    provider = "local"

    def __init__(self, location: str | Path, file_mode: int = 0o600, directory_mode: int = 0o700) -> None:
        self.directory = self.root = Path(location).absolute()
        self.file_mode = file_mode
        self.directory_mode = directory_mode
        self.parts = LocalParts(self)

    def _write(self, name: str, content: "File[Any]", wanted: NewObject) -> None:
        path = self._path(name)
        with storage_errors("write", name):
            if path.exists():
                raise ObjectExists
            partial, descriptor = self._create_partial(path, name)
        identity = identity_of(descriptor)
        try:
            fill(descriptor, content, name, self.file_mode)
            with storage_errors("write", name):
                publish(partial, path, identity)
                # All of them: another writer may have made one and not synced it yet.
                for folder in folders_of(path, name):
                    sync_directory(folder)
        except BaseException:
            for leftover in (partial, path):
                with suppress(OSError):
                    if identity_of(leftover) == identity:
                        leftover.unlink()
            prune(path, name)
            raise

    def stat(self, name: str) -> ObjectStat:
        path = self._path(name)
        with storage_errors("read", name):
            result = path.stat()
        if not stat.S_ISREG(result.st_mode):
            raise ObjectNotFound
        return stat_of(name, result)

    def open_range(self, name: str, start: int = 0, length: int | None = None) -> BinaryIO:
        """See AudioStorage. Reading can raise OSError if the disk fails."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError("A range begins at 0 or later, and its length is not negative.")
        path = self._path(name)
        with storage_errors("read", name):
            if start == 0 and length is None:
                return path.open("rb")
            return io.BufferedReader(FileRange(path, start, length))

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        with self.open_range(source) as file:
            size = os.fstat(file.fileno()).st_size
            self.save(target, StreamedContent(read_pieces(file, source)))
        return self._stat_of_new(target, size_bytes=size)

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        path = self._path(name)
        # Every step runs even if the one before had nothing to do: an earlier call may have been killed between them.
        with (
            storage_errors("delete", name),
            suppress(FileNotFoundError, NotADirectoryError),
            open_directory(path.parent) as folder,
        ):
            # Deletions take turns, so that no other one can free the name for a new object between our look and our
            # unlink.
            wait_for_lock(folder)
            with suppress(FileNotFoundError):
                found = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
                if seen is None or identity_in(found) == seen.identity:
                    os.unlink(path.name, dir_fd=folder)
            sync_names(folder)
        prune(path, name)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        folder = prefix.rpartition("/")[0]
        if folder:
            return self._walk(self._path(folder), f"{folder}/", prefix)
        return self._walk(self.root, "", prefix)

    @contextmanager
    def working_copy(self, name: str) -> Iterator[Path]:
        self.stat(name)
        yield self._path(name)

    def space(self) -> Space:
        with storage_errors("measure", ""):
            existing = next(path for path in (self.root, *self.root.parents) if path.exists())
            usage = shutil.disk_usage(existing)
        return Space(usage.total, usage.used, usage.free)

    def probe(self) -> None:
        """Write, sync, read back and remove a small unlisted file."""
        with storage_errors("write", PROBE):
            make_directory(self.root, self.directory_mode)
            path = self.root / PROBE
            content = secrets.token_bytes(64)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
                same = os.pread(descriptor, len(content) + 1, 0) == content
            finally:
                os.close(descriptor)
                path.unlink(missing_ok=True)
            sync_directory(self.root)
        if not same:
            raise PermanentStorageError

    def location_of(self, name: str) -> str:
        # Relative, since the storage's folder may move and is not for users to know.
        self._path(name)
        return f"local:///{name}"

    def path(self, name: str) -> str:
        return str(self._path(name))

    def remove_partials(self, older_than: datetime, *, sessions_older_than: datetime | None = None) -> int:
        """See AudioStorage. Folders that a killed write left empty go as well, uncounted."""
        before = {"part": older_than.timestamp(), "session": (sessions_older_than or older_than).timestamp()}
        with storage_errors("clean", ""):
            return remove_partials(self.root, before)

    def _path(self, name: str) -> Path:
        """Raises InvalidObjectName, also for a link on the way."""
        self.check_name(name)
        try:
            path = self.root.resolve() / name
            if path.resolve() == path:
                return path
        except RuntimeError:  # pathlib's error for circular links
            pass
        raise InvalidObjectName(_("A symbolic link is in the place of the object."))

    def _create_partial(self, path: Path, name: str) -> tuple[Path, int]:
        """Make and lock a temporary file beside ``path``."""
        partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        descriptor = self._create(partial, path, name)
        lock(descriptor)
        return partial, descriptor

    def _create(self, partial: Path, path: Path, name: str) -> int:
        """Make a file beside ``path``, with the folders that it needs. Once it is there, no ``delete`` can take its
        folder away; until then one may, and we begin again.
        """
        make_directory(self.root, self.directory_mode)
        for _attempt in range(CREATE_ATTEMPTS):
            try:
                for folder in reversed(folders_of(path, name)):
                    with suppress(FileExistsError):
                        folder.mkdir(self.directory_mode)
                return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileNotFoundError:
                continue
            except OSError:
                prune(path, name)
                raise
        raise TransientStorageError

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[ObjectStat]:
        with (
            storage_errors("list", base),
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(folder) as entries,
        ):
            for entry in entries:
                name = base + entry.name
                if not (name.startswith(prefix) and is_valid_name(name)) or f"{name}/" == PARTIALS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(entry.path), f"{name}/", prefix)
                elif entry.is_file(follow_symlinks=False):
                    try:
                        result = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:  # deleted meanwhile
                        continue
                    yield stat_of(name, result)


def stat_of(name: str, result: os.stat_result) -> ObjectStat:
    modified_at = datetime.fromtimestamp(result.st_mtime, UTC)
    return ObjectStat(name, result.st_size, modified_at, identity=identity_in(result))


def identity_in(result: os.stat_result) -> str:
    return f"{result.st_ino}-{result.st_mtime_ns}"


def remove_partials(folder: Path, before: Mapping[str, float]) -> int:
    """Remove what dead writers left below ``folder`` and did not touch since ``before``: a time for each kind."""
    removed = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                changed = entry.stat(follow_symlinks=False).st_mtime
                if entry.is_dir(follow_symlinks=False) and is_valid_name(entry.name):
                    within = remove_partials(Path(entry.path), before)
                    removed += within
                    if within or changed < before["part"]:
                        with suppress(OSError):
                            Path(entry.path).rmdir()
                elif (found := PARTIAL.fullmatch(entry.name)) and changed < before[found["kind"]]:
                    removed += removed_partial(Path(entry.path))
    return removed


def removed_partial(path: Path) -> bool:
    """Whether a file without a living writer was removed. A failure is only logged."""
    try:
        if is_being_written(path):
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        log.warning("temporary_file_not_removed", path=str(path), error=str(error))
        return False
    return True

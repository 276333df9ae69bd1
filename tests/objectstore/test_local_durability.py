"""The local storage on a disk that fails, fills up, or takes little at a time."""

import errno
import itertools
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from structlog.testing import capture_logs

from objectstore.content import StreamedContent
from objectstore.errors import ObjectExists, PermanentStorageError, StorageError, StorageFull, TransientStorageError
from objectstore.local import LocalStorage

NAME = "audio/0b7f/audio.mp3"
CONTENT = bytes(range(256)) * 4000
Patch = pytest.MonkeyPatch


def put(storage: LocalStorage, name: str = NAME) -> None:
    storage.save(name, ContentFile(CONTENT))


def get(storage: LocalStorage, name: str = NAME) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def everything_in(storage: LocalStorage) -> set[str]:
    """Files and folders, hidden ones too."""
    return {str(path.relative_to(storage.root)) for path in storage.root.rglob("*")}


def fail_at_call(
    monkeypatch: Patch, function: str, number: int, error: int, *, carried_out: bool = True
) -> Callable[[], int]:
    """Let the ``number``-th call of ``os.function`` fail, though it may have been carried out.

    Returns what tells how many calls there were.
    """
    real: Callable[..., Any] = getattr(os, function)
    calls = itertools.count(1)
    counted = [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        counted[0] = next(calls)
        failing = counted[0] == number
        result = real(*args, **kwargs) if carried_out or not failing else None
        if failing:
            raise OSError(error, os.strerror(error), "/secret/place")
        return result

    monkeypatch.setattr(os, function, call)
    return lambda: counted[0]


@contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Let the system refuse longer files, as a target that is too small does: first a short write, then an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refuse_links(monkeypatch: Patch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def test_the_file_is_synced_then_published_then_its_folders_are_synced_and_only_then_is_the_answer_given(
    local: LocalStorage, monkeypatch: Patch
) -> None:
    """Promise 6. In this order, every folder up to the root included."""
    events: list[tuple[str, str]] = []
    paths: dict[int, str] = {}
    opened, synced, closed, linked = os.open, os.fsync, os.close, os.link

    def name_of(path: Any) -> str:
        relative = os.path.relpath(path, local.root)
        return "PARTIAL" if relative.endswith(".part") else relative

    def record_open(path: Any, *args: Any, **kwargs: Any) -> int:
        descriptor = opened(path, *args, **kwargs)
        paths[descriptor] = name_of(path)
        return descriptor

    def record_sync(descriptor: int) -> None:
        synced(descriptor)
        events.append(("fsync", paths[descriptor]))

    def record_close(descriptor: int) -> None:
        closed(descriptor)
        events.append(("close", paths.pop(descriptor)))

    def record_link(source: Any, target: Any, **kwargs: Any) -> None:
        linked(source, target, **kwargs)
        events.append(("link", name_of(target)))

    local.root.mkdir()
    for function, record in {
        "open": record_open,
        "fsync": record_sync,
        "close": record_close,
        "link": record_link,
    }.items():
        monkeypatch.setattr(os, function, record)
    put(local)
    events.append(("answer", NAME))
    assert [event for event in events if event[0] != "close" or event[1] == "PARTIAL"] == [
        ("fsync", "PARTIAL"),
        ("close", "PARTIAL"),
        ("link", NAME),
        ("fsync", "audio/0b7f"),
        ("fsync", "audio"),
        ("fsync", "."),
        ("answer", NAME),
    ]


@pytest.mark.parametrize("function", ["fsync", "close"])
def test_a_failing_sync_or_close_is_never_acknowledged(tmp_path: Path, monkeypatch: Patch, function: str) -> None:
    """Promise 4. Whichever of them fails, there is an error and nothing of the object."""
    for number in itertools.count(1):
        storage = LocalStorage(tmp_path / str(number))
        with monkeypatch.context() as patch:
            calls = fail_at_call(patch, function, number, errno.EIO)
            try:
                put(storage)
            except PermanentStorageError as error:
                assert "/secret" not in str(error)
            else:
                assert calls() < number
                assert get(storage) == CONTENT
                break
        assert everything_in(storage) == set()
        put(storage)
    assert number > 4


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(
    ("function", "number", "carried_out"),
    [
        ("mkdir", 4, False),
        ("open", 2, False),
        ("write", 1, False),
        ("write", 9, False),
        ("fsync", 2, True),
        ("fsync", 3, True),
        ("close", 2, True),
        ("link", 1, False),
    ],
)
def test_no_room_at_any_moment_is_storage_full_and_leaves_nothing(
    local: LocalStorage, monkeypatch: Patch, function: str, number: int, carried_out: bool, error: int
) -> None:
    """Promise 5. A full disk or quota is a clear error of its own, and the temporary data is gone."""
    with monkeypatch.context() as patch:
        calls = fail_at_call(patch, function, number, error, carried_out=carried_out)
        with pytest.raises(StorageFull):
            put(local)
        assert calls() >= number
    assert everything_in(local) == set()
    put(local)
    assert get(local) == CONTENT


@pytest.mark.parametrize(
    ("function", "carried_out"), [("link", True), ("unlink", False), ("unlink", True), ("rename", True)]
)
def test_what_was_published_before_the_system_failed_is_stored(
    local: LocalStorage, monkeypatch: Patch, function: str, carried_out: bool
) -> None:
    """Promise 1. A lost answer does not undo it; a temporary name that stays is taken by the sweep."""
    if function == "rename":
        refuse_links(monkeypatch)
    with monkeypatch.context() as patch:
        calls = fail_at_call(patch, function, 1, errno.EIO, carried_out=carried_out)
        put(local)
        assert calls() == 1
    assert get(local) == CONTENT
    stayed = [path for path in local.root.rglob("*") if path.name.endswith(".part")]
    assert len(stayed) == ((function, carried_out) == ("unlink", False))
    assert local.remove_partials(datetime.now(UTC) + timedelta(seconds=1)) == len(stayed)
    assert everything_in(local) == {"audio", "audio/0b7f", NAME}
    assert get(local) == CONTENT


@pytest.mark.parametrize(("function", "number"), [("link", 1), ("rename", 1)])
def test_a_name_that_somebody_else_took_is_not_taken_for_ours(
    local: LocalStorage, monkeypatch: Patch, function: str, number: int
) -> None:
    """Promise 12, when the system fails on the way."""
    if function == "rename":
        refuse_links(monkeypatch)
    other = local.root / NAME

    def somebody_else_is_faster(*args: Any, **kwargs: Any) -> None:
        other.write_bytes(b"another file")
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, somebody_else_is_faster)
        with pytest.raises(StorageError):
            put(local)
    assert get(local) == b"another file"
    assert everything_in(local) == {"audio", "audio/0b7f", NAME}


def test_a_temporary_file_that_cannot_be_removed_keeps_no_other(local: LocalStorage, monkeypatch: Patch) -> None:
    local.root.mkdir()
    for name in ("a", "b", "c"):
        (local.root / f".{name}.0123456789abcdef.part").touch()
    with monkeypatch.context() as patch:
        fail_at_call(patch, "unlink", 2, errno.EIO, carried_out=False)
        assert local.remove_partials(datetime.now(UTC) + timedelta(seconds=1)) == 2
    assert local.remove_partials(datetime.now(UTC) + timedelta(seconds=1)) == 1


def test_a_target_too_small_by_three_bytes_gives_an_error_and_no_object(local: LocalStorage) -> None:
    """Promise 1. The system itself cuts the last write short, which must not pass for success."""
    pieces = [CONTENT[start : start + 100_000] for start in range(0, len(CONTENT), 100_000)]
    with files_limited_to(len(CONTENT) - 3), pytest.raises(StorageFull) as raised:
        local.save(NAME, StreamedContent(pieces))
    assert raised.value.status == 507
    assert everything_in(local) == set()
    with files_limited_to(len(CONTENT)):
        local.save(NAME, StreamedContent(pieces))
    assert get(local) == CONTENT


def test_a_system_that_takes_little_at_a_time_still_gets_everything(local: LocalStorage, monkeypatch: Patch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:70_001]))
    put(local)
    assert get(local) == CONTENT


@pytest.mark.parametrize("kept", [0, 10])
def test_a_system_that_does_not_write_what_it_says_is_found_out(
    local: LocalStorage, monkeypatch: Patch, kept: int
) -> None:
    """Promise 1. The file's length is compared with what was handed over before it gets its name."""
    write = os.write

    def lie(descriptor: int, data: Any) -> int:
        write(descriptor, data[:kept])
        return len(data) if kept else 0

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lie)
        with pytest.raises(PermanentStorageError):
            put(local)
    assert everything_in(local) == set()


def test_a_copy_that_comes_out_short_is_an_error_and_is_not_kept(local: LocalStorage, monkeypatch: Patch) -> None:
    put(local)
    monkeypatch.setattr("objectstore.local.read_pieces", lambda file, name: iter([file.read(1000)]))
    with pytest.raises(PermanentStorageError, match="as large"):
        local.copy(NAME, "audio/copy.mp3")
    assert [stat.name for stat in local.list()] == [NAME]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errno.EACCES, PermanentStorageError),
        (errno.EROFS, PermanentStorageError),
        (errno.EIO, PermanentStorageError),
        (errno.ENOENT, PermanentStorageError),
        (errno.EMFILE, TransientStorageError),
        (errno.ESTALE, TransientStorageError),
    ],
)
def test_a_system_error_becomes_one_of_ours_and_its_path_stays_in_the_log(
    local: LocalStorage, monkeypatch: Patch, error: int, expected: type[StorageError]
) -> None:
    with monkeypatch.context() as patch, capture_logs() as lines:
        fail_at_call(patch, "fsync", 3, error)
        with pytest.raises(expected) as raised:
            put(local)
    assert type(raised.value) is expected
    assert "/secret" not in f"{raised.value} {raised.value.members}"
    assert [(line["event"], line["errno"], line["path"], line["object"]) for line in lines] == [
        ("local_storage_failed", errno.errorcode[error], "/secret/place", NAME)
    ]
    assert everything_in(local) == set()


def test_without_hard_links_an_object_is_still_published_whole_and_never_overwritten(
    local: LocalStorage, monkeypatch: Patch
) -> None:
    """Promise 12. Also on file systems whose only way is a rename, which would overwrite."""
    refuse_links(monkeypatch)

    def pieces() -> Iterator[bytes]:
        yield b"late"
        put(local)

    with pytest.raises(ObjectExists):
        local.save(NAME, StreamedContent(pieces()))
    assert get(local) == CONTENT
    assert {name for name in everything_in(local) if "." in name} == {NAME}


def test_a_network_file_system_that_cannot_sync_folders_is_not_a_failure(
    local: LocalStorage, monkeypatch: Patch
) -> None:
    local.root.mkdir()
    fail_at_call(monkeypatch, "fsync", 2, errno.EINVAL)
    put(local)
    assert get(local) == CONTENT

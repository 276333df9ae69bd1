"""What the local storage keeps in its folder, and what it leaves alone."""

import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.files.base import ContentFile
from django.http import FileResponse

from objectstore.content import StreamedContent
from objectstore.errors import InvalidObjectName, ObjectExists, ObjectNotFound
from objectstore.local import LocalStorage

NAME = "audio/0b7f/audio.mp3"
PARTIAL = "audio/0b7f/.audio.mp3.0123456789abcdef.part"
CONTENT = bytes(range(256)) * 1000


def put(storage: LocalStorage, name: str = NAME) -> None:
    storage.save(name, ContentFile(CONTENT))


def age(path: Path, moment: datetime) -> None:
    os.utime(path, (moment.timestamp(), moment.timestamp()))


def test_the_object_is_the_file_itself_so_that_a_decoder_reads_it_without_a_copy(local: LocalStorage) -> None:
    put(local)
    with local.working_copy(NAME) as path:
        assert path == local.root / NAME == Path(local.path(NAME))
    assert local.location_of(NAME) == f"local:///{NAME}"
    assert local.stat(NAME).checksums == {}


def test_what_is_stored_is_for_its_user_alone_whatever_the_umask(local: LocalStorage) -> None:
    before = os.umask(0)
    try:
        put(local)
    finally:
        os.umask(before)
    modes = {
        path.relative_to(local.root.parent).parts[-1]: stat.S_IMODE(path.stat().st_mode)
        for path in local.root.parent.rglob("*")
    }
    assert modes == {"vault": 0o700, "audio": 0o700, "0b7f": 0o700, "audio.mp3": 0o600}


def test_an_operator_may_choose_other_modes(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "shared", file_mode=0o640, directory_mode=0o750)
    put(storage)
    assert stat.S_IMODE((storage.root / NAME).stat().st_mode) == 0o640
    assert stat.S_IMODE((storage.root / NAME).parent.stat().st_mode) == 0o750


def test_deleting_takes_the_empty_folders_but_neither_the_root_nor_what_is_in_use(local: LocalStorage) -> None:
    put(local, "uploads/7/2026/01/02/a.mp3")
    put(local, "uploads/7/2026/02/02/b.mp3")
    local.delete("uploads/7/2026/01/02/a.mp3")
    assert [path.name for path in (local.root / "uploads/7/2026").iterdir()] == ["02"]
    local.delete("uploads/7/2026/02/02/b.mp3")
    assert list(local.root.iterdir()) == []


@pytest.mark.parametrize("link", ["audio", "audio/0b7f", NAME])
def test_a_link_that_leads_out_of_the_storage_is_not_followed(local: LocalStorage, tmp_path: Path, link: str) -> None:
    """Promise 39. Nor is one that leads in a circle."""
    outside = tmp_path / "outside" / NAME.removeprefix(link).lstrip("/")
    outside.parent.mkdir(parents=True, exist_ok=True)
    if not outside.is_dir():
        outside.write_bytes(b"not ours")
    place = local.root / link
    place.parent.mkdir(parents=True)
    for target in (tmp_path / "outside", place):
        place.symlink_to(target)
        for attempt in (lambda: put(local), lambda: local.open_range(NAME), lambda: local.delete(NAME)):
            with pytest.raises(InvalidObjectName):
                attempt()
        assert list(local.list()) == []
        place.unlink()
    assert outside.read_bytes() == b"not ours"


def test_a_storage_may_itself_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "vault").symlink_to(tmp_path / "volume")
    storage = LocalStorage(tmp_path / "vault")
    put(storage)
    assert (tmp_path / "volume" / NAME).read_bytes() == CONTENT
    assert [found.name for found in storage.list()] == [NAME]


def test_a_taken_name_is_refused_before_a_byte_is_read(local: LocalStorage) -> None:
    """Promise 12. A client that is going to be refused does not send everything first."""
    put(local)
    pieces = iter([CONTENT])
    with pytest.raises(ObjectExists):
        local.save(NAME, StreamedContent(pieces))
    assert next(pieces) == CONTENT


def test_files_of_others_in_the_folder_are_not_objects(local: LocalStorage) -> None:
    put(local)
    (local.root / "lost+found").mkdir()
    (local.root / "read me.txt").write_text("the operator's")
    (local.root / ".snapshot").mkdir()
    (local.root / ".snapshot" / "a.mp3").write_bytes(b"")
    assert [found.name for found in local.list()] == [NAME]
    assert local.remove_partials(datetime.now(UTC) + timedelta(days=1)) == 0
    assert {path.name for path in local.root.iterdir()} == {"audio", "lost+found", "read me.txt", ".snapshot"}


def test_only_partials_that_nobody_touched_since_are_reclaimed(local: LocalStorage) -> None:
    """Promise 16. With the folder that only the dead writer needed."""
    now = datetime.now(UTC)
    for folder, hours in {"old": 25, "young": 23}.items():
        partial = local.root / "audio" / folder / ".audio.mp3.0123456789abcdef.part"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(b"half")
        age(partial, now - timedelta(hours=hours))
    (local.root / "audio" / "empty").mkdir()
    age(local.root / "audio" / "empty", now - timedelta(hours=25))
    (local.root / "audio" / "just-made").mkdir()
    put(local)
    age(local.root / NAME, now - timedelta(hours=25))

    assert local.remove_partials(now - timedelta(hours=24)) == 1
    assert {path.name for path in (local.root / "audio").iterdir()} == {"young", "just-made", "0b7f"}
    assert local.stat(NAME).size == len(CONTENT)


def test_a_write_that_is_going_on_is_spared_whatever_the_clock_says(local: LocalStorage) -> None:
    """Promise 9. Promise 37: a sweep whose clock is a day ahead takes nothing from a living writer."""
    taken = []

    def pieces() -> Iterator[bytes]:
        yield CONTENT
        taken.append(local.remove_partials(datetime.now(UTC) + timedelta(days=1)))
        yield CONTENT

    local.save(NAME, StreamedContent(pieces()))
    assert taken == [0]
    assert local.stat(NAME).size == 2 * len(CONTENT)


def test_a_partial_is_not_found_under_any_name(local: LocalStorage) -> None:
    put(local)
    (local.root / PARTIAL).write_bytes(b"half")
    assert [found.name for found in local.list()] == [NAME]
    with pytest.raises(InvalidObjectName):
        local.open_range(PARTIAL)


def test_a_folder_is_not_an_object(local: LocalStorage) -> None:
    put(local)
    with pytest.raises(ObjectNotFound):
        local.open_range("audio/0b7f")


@pytest.mark.parametrize(("start", "length"), [(0, len(CONTENT)), (1000, 70_000), (1000, len(CONTENT) - 1000)])
def test_a_server_can_send_a_range_from_the_descriptor(local: LocalStorage, start: int, length: int) -> None:
    put(local)
    ours, theirs = socket.socketpair()
    with ours, theirs, local.open_range(NAME, start, length) as file, ThreadPoolExecutor(1) as pool:
        received = pool.submit(lambda: b"".join(iter(lambda: theirs.recv(65536), b"")))
        ours.settimeout(10)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == file.tell() == start
        assert ours.sendfile(file, offset=start, count=length) == length
        ours.shutdown(socket.SHUT_WR)
        assert received.result(timeout=10) == CONTENT[start : start + length]


@pytest.mark.parametrize(("start", "length", "expected"), [(0, None, 256_000), (1000, None, 255_000), (1000, 10, 10)])
def test_django_tells_the_length_of_a_range(local: LocalStorage, start: int, length: int | None, expected: int) -> None:
    put(local)
    # The file is closed by itself: a response that is closed ends a request, and asks for its database connection.
    with local.open_range(NAME, start, length) as file:
        response = FileResponse(file)
        assert response["Content-Length"] == str(expected)
        assert b"".join(response.streaming_content) == CONTENT[start : start + expected]

"""How an object is read over a network that breaks, whatever the provider is."""

import io
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import md5, sha256
from typing import Any
from zlib import crc32

import pytest

from objectstore.base import Availability, ObjectStat
from objectstore.errors import (
    ObjectArchived,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from objectstore.remote import Body, RemoteStorage
from objectstore.retry import RetryPolicy, retry_policy
from tests.objectstore.test_storage_contract import NAME, noise

CONTENT = noise(3_000_000)
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, max_delay=0)
CHECKSUMS = {
    "crc32": f"{crc32(CONTENT):08x}",
    "md5": md5(CONTENT).hexdigest(),
    "sha256": sha256(CONTENT).hexdigest(),
}


class ScriptedBody:
    """Gives what there is, at most ``piece`` bytes at a time, until ``breaks_after`` so many."""

    def __init__(self, data: bytes, *, piece: int, breaks_after: int | None, error: StorageError | None) -> None:
        self._data = io.BytesIO(data if breaks_after is None else data[:breaks_after])
        self._piece = piece
        self._error = error if breaks_after is not None else None
        self.closed = False

    def read(self, size: int) -> bytes:
        assert not self.closed
        data = self._data.read(min(size, self._piece))
        if not data and self._error is not None:
            raise self._error
        return data

    def close(self) -> None:
        self.closed = True


class ScriptedStorage(RemoteStorage):
    """Answers each request as the next line of its script says, and well when there is none."""

    provider = "scripted"

    def __init__(self, script: Iterator[dict[str, Any]] | None = None, content: bytes = CONTENT, **facts: Any) -> None:
        self._script = script or iter(())
        self._content = content
        self._facts = facts
        self.asked: list[tuple[int, int]] = []
        self.bodies: list[ScriptedBody] = []

    def stat(self, name: str) -> ObjectStat:
        return ObjectStat(name, len(CONTENT), datetime(2026, 1, 1, tzinfo=UTC), version="1", **self._facts)

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        self.asked.append((start, length))
        line = next(self._script, {})
        if "refuses" in line:
            raise line["refuses"]
        body = ScriptedBody(
            self._content[start : start + length],
            piece=line.get("piece", 100_000),
            breaks_after=line.get("breaks_after"),
            error=line.get("error"),
        )
        self.bodies.append(body)
        return Body(body.read, body.close, nullcontext)

    _write = copy = delete = _list = location_of = remove_partials = None  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def at_once() -> Iterator[None]:
    with retry_policy(AT_ONCE):
        yield


def read(storage: ScriptedStorage, start: int = 0, length: int | None = None) -> bytes:
    with storage.open_range(NAME, start, length) as file:
        return b"".join(iter(lambda: file.read(777_777), b""))


@pytest.mark.parametrize("error", [TransientStorageError(), None], ids=["error", "cut short"])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(error: StorageError | None) -> None:
    """Promise 14. The same bytes, none twice and none left out."""
    storage = ScriptedStorage(
        iter([{"breaks_after": 250_000, "error": error}, {"breaks_after": 1, "error": error}]), checksums=CHECKSUMS
    )
    assert read(storage) == CONTENT
    assert storage.asked == [(0, 3_000_000), (250_000, 2_750_000), (250_001, 2_749_999)]
    assert all(body.closed for body in storage.bodies)


def test_reading_that_does_not_go_on_is_a_clean_error() -> None:
    """Promise 14. After as many attempts as the policy wants."""
    storage = ScriptedStorage(
        iter([{"breaks_after": 1000, "error": TransientStorageError()}] + 99 * [{"breaks_after": 0}])
    )
    with pytest.raises(TransientStorageError):
        read(storage)
    assert len(storage.asked) == 1 + AT_ONCE.max_attempts - 1
    assert all(body.closed for body in storage.bodies)


@pytest.mark.parametrize("error", [PermanentStorageError(), ObjectNotFound()], ids=["permanent", "not found"])
def test_what_does_not_pass_comes_out_at_once(error: StorageError) -> None:
    storage = ScriptedStorage(iter([{"breaks_after": 1000, "error": TransientStorageError()}, {"refuses": error}]))
    with pytest.raises(type(error)):
        read(storage)
    assert len(storage.asked) == 2


@pytest.mark.parametrize("algorithm", ["crc32", "md5", "sha256"])
def test_bytes_that_changed_on_the_way_are_noticed_at_the_end(algorithm: str) -> None:
    """Promise 14. An object that was read whole is the one that is stored, or reading it is an error."""
    changed = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    checksums = {algorithm: CHECKSUMS[algorithm]}
    with pytest.raises(TransientStorageError):
        read(ScriptedStorage(content=changed, checksums=checksums))
    assert read(ScriptedStorage(checksums=checksums)) == CONTENT


def test_what_is_read_in_ranges_or_out_of_order_is_compared_with_nothing() -> None:
    storage = ScriptedStorage(checksums=CHECKSUMS)
    assert read(storage, 1000, 5000) == CONTENT[1000:6000]
    with storage.open_range(NAME) as file:
        file.seek(2_900_000)
        assert file.read() == CONTENT[2_900_000:]
        file.seek(0)
        assert file.read(10) == CONTENT[:10]


def test_reading_again_from_the_beginning_is_compared_too() -> None:
    changed = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with ScriptedStorage(content=changed, checksums=CHECKSUMS).open_range(NAME) as file:
        assert file.seek(0, io.SEEK_END) == len(CONTENT)
        assert file.read(1) == b""
        file.seek(0)
        with pytest.raises(TransientStorageError):
            file.read()


def test_a_range_asks_for_its_bytes_alone_and_closing_hangs_up() -> None:
    storage = ScriptedStorage()
    with storage.open_range(NAME, 100, 50) as file:
        assert file.read(10) == CONTENT[100:110]
    assert storage.asked == [(100, 50)]
    assert storage.bodies[0].closed


def test_nothing_is_asked_for_before_somebody_reads() -> None:
    storage = ScriptedStorage()
    for start, length in ((0, 0), (len(CONTENT), None), (len(CONTENT) + 5, 5)):
        with storage.open_range(NAME, start, length) as file:
            assert file.read() == b""
    assert storage.asked == []


@pytest.mark.parametrize("availability", [Availability.ARCHIVED, Availability.RESTORING])
def test_what_lies_in_an_archive_is_not_opened(availability: Availability) -> None:
    storage = ScriptedStorage(availability=availability)
    with pytest.raises(ObjectArchived):
        storage.open_range(NAME)
    with pytest.raises(ObjectArchived), storage.working_copy(NAME):
        pass
    assert storage.asked == []

"""What every backend does, whatever is behind it."""

import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest
from django.core.files.base import ContentFile

from uploads.storage.base import AudioStorage, StreamedContent
from uploads.storage.errors import InvalidObjectName, ObjectExists, ObjectNotFound

NAME = "audio/0b7f/audio.mp3"
OTHER = "audio/0b7f/thumbnail.jpg"
CONTENT = bytes(range(256)) * 1000
# Parts of an object that are sent at the same time lie in memory meanwhile.
MOST_MEMORY_BYTES = 64 * 1024**2

BAD_NAMES = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../outside.mp3",
    "audio/../../outside.mp3",
    "audio/./a.mp3",
    "audio//a.mp3",
    "audio/a.mp3/",
    "audio\\a.mp3",
    "C:/a.mp3",
    "C:a.mp3",
    "audio/a\0.mp3",
    "audio/a.mp3\n",
    "audio/.hidden.mp3",
    "audio/a.mp3.",
    "audio/ä.mp3",
    "~/a.mp3",
    "a/" * 300 + "a",
    "a" * 201,
]


def put(storage: AudioStorage, name: str = NAME, content: bytes = CONTENT) -> str:
    return storage.save(name, ContentFile(content))


def get(storage: AudioStorage, name: str = NAME) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def names_in(storage: AudioStorage, prefix: str = "") -> set[str]:
    return {stat.name for stat in storage.list(prefix)}


class TestSaving:
    def test_what_was_saved_is_read_back_under_the_name_that_was_asked_for(self, storage: AudioStorage) -> None:
        assert put(storage) == NAME
        assert get(storage) == CONTENT

    def test_an_empty_object_is_an_object(self, storage: AudioStorage) -> None:
        put(storage, content=b"")
        assert get(storage) == b""
        assert storage.stat(NAME).size == 0

    def test_an_object_is_never_overwritten(self, storage: AudioStorage) -> None:
        """Promise 12. A name that is taken is refused, and what lies there stays."""
        put(storage)
        with pytest.raises(ObjectExists):
            put(storage, content=b"something else")
        assert get(storage) == CONTENT
        assert names_in(storage) == {NAME}

    def test_of_parallel_writers_to_one_name_exactly_one_wins(self, storage: AudioStorage) -> None:
        """Promise 12. Also when all of them begin before any has finished."""
        begun = Barrier(8)

        def write(number: int) -> bool:
            def pieces() -> Iterator[bytes]:
                begun.wait(timeout=30)
                yield bytes([number]) * 100_000

            try:
                storage.save(NAME, StreamedContent(pieces()))
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert won.count(True) == 1
        assert get(storage) == bytes([won.index(True)]) * 100_000
        assert names_in(storage) == {NAME}

    def test_what_the_content_raises_comes_out_unchanged_and_nothing_is_left(self, storage: AudioStorage) -> None:
        failure = ConnectionResetError("the client went away")

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            raise failure

        with pytest.raises(ConnectionResetError) as raised:
            storage.save(NAME, StreamedContent(pieces()))
        assert raised.value is failure
        assert names_in(storage) == set()
        assert put(storage) == NAME

    def test_pieces_may_be_views_of_a_buffer_that_is_used_again(self, storage: AudioStorage) -> None:
        buffer = bytearray(1000)

        def pieces() -> Iterator[memoryview]:
            for number in range(100):
                buffer[:] = bytes([number]) * 1000
                yield memoryview(buffer)[: 500 + number]

        storage.save(NAME, StreamedContent(pieces()))
        assert get(storage) == b"".join(bytes([number]) * (500 + number) for number in range(100))

    def test_a_stream_is_stored_once_and_not_as_nothing_the_second_time(self, storage: AudioStorage) -> None:
        content = StreamedContent([CONTENT])
        storage.save(NAME, content)
        with pytest.raises(ValueError, match="once"):
            storage.save(OTHER, content)
        assert names_in(storage) == {NAME}

    def test_a_large_object_is_written_in_constant_memory(self, storage: AudioStorage) -> None:
        piece = bytes(1024**2)
        tracemalloc.start()
        try:
            storage.save(NAME, StreamedContent(piece for _ in range(96)))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert storage.stat(NAME).size == 96 * 1024**2
        assert peak_bytes < MOST_MEMORY_BYTES

    def test_a_name_longer_than_its_column_is_refused(self, storage: AudioStorage) -> None:
        with pytest.raises(InvalidObjectName):
            storage.save(NAME, ContentFile(CONTENT), max_length=len(NAME) - 1)
        assert storage.save(NAME, ContentFile(CONTENT), max_length=len(NAME)) == NAME


class TestReading:
    def test_stat_tells_size_and_time(self, storage: AudioStorage) -> None:
        put(storage)
        stat = storage.stat(NAME)
        assert (stat.name, stat.size) == (NAME, len(CONTENT))
        assert stat.modified_at.tzinfo is not None
        assert abs(stat.modified_at - datetime.now(UTC)) < timedelta(minutes=5)
        assert set(stat.checksums) <= {"md5", "sha256", "crc32", "crc32c"}

    @pytest.mark.parametrize(
        ("start", "length"),
        [
            (0, None),
            (0, 0),
            (0, 1),
            (0, len(CONTENT)),
            (0, len(CONTENT) + 10),
            (1000, None),
            (1000, 70_000),
            (len(CONTENT) - 1, 1),
            (len(CONTENT) - 1, 100),
            (len(CONTENT), 10),
            (len(CONTENT) + 10, None),
            (len(CONTENT) + 10, 10),
        ],
    )
    def test_a_range_is_exactly_what_was_asked_for(self, storage: AudioStorage, start: int, length: int | None) -> None:
        put(storage)
        expected = CONTENT[start:] if length is None else CONTENT[start : start + length]
        with storage.open_range(NAME, start, length) as file:
            assert file.read() == expected
            assert file.read(1) == b""
        with storage.open_range(NAME, start, length) as file:
            assert b"".join(iter(lambda: file.read(777), b"")) == expected
        assert file.closed

    def test_a_range_is_read_into_a_buffer_and_no_further(self, storage: AudioStorage) -> None:
        put(storage)
        buffer = bytearray(b"-" * 20)
        with storage.open_range(NAME, 100, 12) as file:
            assert file.readinto(buffer) == 12  # type: ignore[attr-defined]
        assert buffer == CONTENT[100:112] + b"-" * 8

    def test_a_position_can_be_taken_up_again(self, storage: AudioStorage) -> None:
        put(storage)
        with storage.open_range(NAME, 100, 50) as file:
            file.read(10)
            position = file.tell()
            rest = file.read()
            file.seek(position)
            assert file.read() == rest == CONTENT[110:150]

    @pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
    def test_a_negative_range_is_a_mistake(self, storage: AudioStorage, start: int, length: int | None) -> None:
        put(storage)
        with pytest.raises(ValueError, match="range"):
            storage.open_range(NAME, start, length)

    def test_what_is_not_there_is_not_found(self, storage: AudioStorage) -> None:
        put(storage)
        for name in ("audio/none.mp3", "audio/0b7f", "audio", f"{NAME}/below.mp3"):
            with pytest.raises(ObjectNotFound):
                storage.stat(name)
            with pytest.raises(ObjectNotFound):
                storage.open_range(name)
            with pytest.raises(ObjectNotFound):
                storage.copy(name, OTHER)
            with pytest.raises(ObjectNotFound), storage.working_copy(name):
                pass
            assert not storage.exists(name)
        assert names_in(storage) == {NAME}

    def test_a_working_copy_is_a_file_with_the_same_bytes(self, storage: AudioStorage) -> None:
        put(storage)
        with storage.working_copy(NAME) as path:
            assert path.read_bytes() == CONTENT
        assert get(storage) == CONTENT

    def test_djangos_own_way_to_open_reads_and_does_not_write(self, storage: AudioStorage) -> None:
        put(storage)
        with storage.open(NAME) as file:
            assert b"".join(file.chunks()) == CONTENT
        with pytest.raises(ValueError, match="save"):
            storage.open(NAME, "wb")
        assert storage.exists(NAME)
        assert storage.size(NAME) == len(CONTENT)
        assert storage.get_modified_time(NAME) == storage.stat(NAME).modified_at

    def test_a_location_is_a_url_of_its_own(self, storage: AudioStorage) -> None:
        assert storage.location_of(NAME).endswith(f"/{NAME}")
        assert "://" in storage.location_of(NAME)
        assert "?" not in storage.location_of(NAME)


class TestCopyingAndDeleting:
    def test_a_copy_has_the_same_bytes_and_its_own_life(self, storage: AudioStorage) -> None:
        put(storage)
        assert storage.copy(NAME, OTHER) == storage.stat(OTHER)
        storage.delete(NAME)
        assert get(storage, OTHER) == CONTENT

    def test_a_copy_never_overwrites(self, storage: AudioStorage) -> None:
        """Promise 12. Not even by itself."""
        put(storage)
        put(storage, OTHER, b"other")
        for target in (OTHER, NAME):
            with pytest.raises(ObjectExists):
                storage.copy(NAME, target)
        assert (get(storage), get(storage, OTHER)) == (CONTENT, b"other")

    def test_a_deleted_object_is_gone_and_its_name_is_free(self, storage: AudioStorage) -> None:
        put(storage)
        put(storage, OTHER)
        storage.delete(NAME)
        assert names_in(storage) == {OTHER}
        put(storage, content=b"new")
        assert get(storage) == b"new"

    def test_deleting_what_is_gone_is_no_error(self, storage: AudioStorage) -> None:
        put(storage)
        for name in (NAME, NAME, "audio/none.mp3", "nowhere/none.mp3"):
            storage.delete(name)
        assert names_in(storage) == set()


class TestListing:
    def test_two_thousand_objects_are_listed_by_prefix_and_can_be_deleted_on_the_way(
        self, storage: AudioStorage
    ) -> None:
        names = {f"{'audio' if number % 2 else 'uploads'}/{number:04}/a.mp3" for number in range(2000)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: put(storage, name, b"x"), names))
        assert names_in(storage) == names
        assert {stat.size for stat in storage.list()} == {1}
        assert names_in(storage, "audio/") == {name for name in names if name.startswith("audio/")}
        assert names_in(storage, "audio/01") == {name for name in names if name.startswith("audio/01")}
        assert names_in(storage, "audio/0101/a.mp3") == {"audio/0101/a.mp3"}
        assert names_in(storage, "audio/0101/a.mp3/") == names_in(storage, "none/") == set()
        for stat in storage.list("uploads/"):
            storage.delete(stat.name)
        assert names_in(storage) == {name for name in names if name.startswith("audio/")}

    def test_an_empty_storage_lists_nothing(self, storage: AudioStorage) -> None:
        assert names_in(storage) == set()

    def test_an_unfinished_write_is_not_listed(self, storage: AudioStorage) -> None:
        seen: set[str] = set()

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            seen.update(names_in(storage))
            yield CONTENT

        storage.save(NAME, StreamedContent(pieces()))
        assert seen == set()
        assert names_in(storage) == {NAME}


class TestTogether:
    def test_threads_that_save_and_delete_in_one_folder_do_not_disturb_each_other(self, storage: AudioStorage) -> None:
        def come_and_go(worker: int) -> None:
            for number in range(60):
                name = f"uploads/7/2026/01/02/{worker}-{number}.mp3"
                put(storage, name, name.encode())
                assert get(storage, name) == name.encode()
                storage.delete(name)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(come_and_go, range(4)))
        assert names_in(storage) == set()

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_a_name_that_is_not_ours_is_refused_everywhere(
        self, storage: AudioStorage, tmp_path: Path, name: str
    ) -> None:
        """Promise 39. Traversal, NUL, drive letters, absolute and hidden names reach no file."""
        put(storage)
        outside = tmp_path / "outside.mp3"
        outside.write_bytes(b"not ours")
        attempts: list[Callable[[], object]] = [
            lambda: put(storage, name, b"forged"),
            lambda: storage.stat(name),
            lambda: storage.open_range(name),
            lambda: storage.open(name),
            lambda: storage.copy(name, OTHER),
            lambda: storage.copy(NAME, name),
            lambda: storage.delete(name),
            lambda: storage.location_of(name),
            lambda: storage.working_copy(name).__enter__(),
        ]
        for attempt in attempts:
            with pytest.raises(InvalidObjectName):
                attempt()
        assert outside.read_bytes() == b"not ours"
        assert names_in(storage) == {NAME}

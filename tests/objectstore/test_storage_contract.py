"""What every backend does, whatever is behind it."""

import hashlib
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID

import google_crc32c
import pytest
from django.core.files.base import ContentFile

from objectstore.base import AudioStorage
from objectstore.content import StreamedContent
from objectstore.errors import InvalidObjectName, ObjectExists, ObjectNotFound
from objectstore.names import Layout, audio_name, thumbnail_name

NAME = "audio/0b7f/audio.mp3"
OTHER = "audio/0b7f/thumbnail.jpg"
CONTENT = bytes(range(256)) * 1000
MIB = 1024**2
# Parts of an object that are sent at the same time lie in memory meanwhile.
MOST_MEMORY_BYTES = 64 * MIB

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


@pytest.fixture
def small_parts(settings: Any) -> int:
    """What is larger than so many bytes has several parts, where a storage knows them."""
    settings.STORAGE_PART_BYTES = 5 * MIB
    return 5 * MIB


def noise(size_bytes: int, *, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


def slices(content: bytes, size_bytes: int) -> Iterator[bytes]:
    return (content[start : start + size_bytes] for start in range(0, len(content), size_bytes))


def digest(algorithm: str, content: bytes) -> str:
    if algorithm == "crc32":
        return f"{zlib.crc32(content):08x}"
    if algorithm == "crc32c":
        return f"{google_crc32c.value(content):08x}"
    return hashlib.new(algorithm, content).hexdigest()


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

    def test_a_large_object_is_read_in_constant_memory(self, storage: AudioStorage) -> None:
        storage.save(NAME, StreamedContent(bytes(1024**2) for _ in range(24)))
        tracemalloc.start()
        try:
            with storage.open_range(NAME) as file:
                read_bytes = sum(len(piece) for piece in iter(lambda: file.read(1024**2), b""))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert read_bytes == 24 * 1024**2
        assert peak_bytes < 16 * 1024**2

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

    # The listing of S3 tells the same bytes apart by the second in which they were written.
    @pytest.mark.parametrize(("is_listed", "content"), [(False, CONTENT), (False, b"other"), (True, b"other")])
    def test_only_the_object_that_was_seen_is_deleted(
        self, storage: AudioStorage, is_listed: bool, content: bytes
    ) -> None:
        """Promise 56. A newer object of the same name stays; what was seen goes."""
        put(storage)
        seen = next(storage.list(NAME)) if is_listed else storage.stat(NAME)
        storage.delete(NAME, seen=seen)
        assert not storage.exists(NAME)
        put(storage, content=content)
        storage.delete(NAME, seen=seen)
        assert get(storage) == content

    def test_parallel_deletions_of_one_object_spare_its_successor(self, storage: AudioStorage) -> None:
        """Promise 56. Whichever deletion comes late."""
        put(storage)
        seen = storage.stat(NAME)
        begun = Barrier(4)

        def remove_and_put(number: int) -> bool:
            begun.wait(timeout=30)
            storage.delete(NAME, seen=seen)
            try:
                put(storage, content=CONTENT)
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(remove_and_put, range(4)))
        assert won.count(True) == 1
        assert get(storage) == CONTENT


class TestParts:
    """Objects that a storage may have in several parts."""

    def test_an_object_of_several_parts_is_the_same_bytes_with_ranges_across_the_edges(
        self, storage: AudioStorage, small_parts: int
    ) -> None:
        content = noise(12 * MIB + 1)
        storage.save(NAME, StreamedContent(slices(content, 700_001), expected_bytes=len(content)))
        assert get(storage) == content
        assert storage.stat(NAME).size == len(content)
        for edge in (small_parts, 2 * small_parts):
            with storage.open_range(NAME, edge - 1000, 2000) as file:
                assert file.read() == content[edge - 1000 : edge + 1000]

    @pytest.mark.parametrize("size_bytes", [5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 10 * MIB])
    def test_the_end_of_a_part_may_be_the_end_of_the_object(
        self, storage: AudioStorage, small_parts: int, size_bytes: int
    ) -> None:
        content = noise(size_bytes)
        storage.save(NAME, StreamedContent(slices(content, MIB)))
        assert get(storage) == content

    def test_a_stream_that_breaks_after_some_parts_leaves_nothing(
        self, storage: AudioStorage, small_parts: int
    ) -> None:
        def pieces() -> Iterator[bytes]:
            yield noise(11 * MIB)
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            storage.save(NAME, StreamedContent(pieces()))
        assert names_in(storage) == set()
        assert storage.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0

    def test_an_object_of_several_parts_is_not_overwritten(self, storage: AudioStorage, small_parts: int) -> None:
        """Promise 12. Nor by one of several parts."""
        content = noise(6 * MIB)
        storage.save(NAME, ContentFile(content))
        with pytest.raises(ObjectExists):
            storage.save(NAME, ContentFile(noise(7 * MIB)))
        assert get(storage) == content

    @pytest.mark.parametrize("size_bytes", [0, 1000, 11 * MIB])
    def test_the_checksums_that_are_told_are_those_of_the_content(
        self, storage: AudioStorage, small_parts: int, size_bytes: int
    ) -> None:
        """Promise 1. What a storage says of the bytes is true of them, or it says nothing."""
        content = noise(size_bytes)
        storage.save(NAME, ContentFile(content))
        checksums = storage.stat(NAME).checksums
        assert checksums == {algorithm: digest(algorithm, content) for algorithm in checksums}
        if storage.directory is None:
            assert checksums
        storage.copy(NAME, OTHER)
        checksums = storage.stat(OTHER).checksums
        assert checksums == {algorithm: digest(algorithm, content) for algorithm in checksums}

    @pytest.mark.parametrize(
        "sizes", [[1000], [5 * MIB, 6 * MIB, 1000], [10, 0, 2000, 30], [5 * MIB, 1000, 5 * MIB], [0, 0]], ids=str
    )
    def test_objects_are_put_together_in_order_and_stay(self, storage: AudioStorage, sizes: list[int]) -> None:
        sources = [f"audio/0b7f/{number}.part" for number in range(len(sizes))]
        contents = [noise(size, seed=number) for number, size in enumerate(sizes)]
        for name, content in zip(sources, contents, strict=True):
            put(storage, name, content)
        stat = storage.compose(sources, NAME, content_type="audio/mpeg")
        assert stat == storage.stat(NAME)
        assert get(storage) == b"".join(contents)
        assert names_in(storage) == {NAME, *sources}
        assert stat.checksums == {name: digest(name, b"".join(contents)) for name in stat.checksums}
        if storage.directory is None:
            assert stat.content_type == "audio/mpeg"

    def test_putting_together_never_overwrites_and_needs_all_sources(self, storage: AudioStorage) -> None:
        """Promise 12. Not by several objects at once either."""
        put(storage, OTHER, noise(5 * MIB))
        put(storage)
        for sources in ([OTHER], [OTHER, OTHER], [OTHER, NAME]):
            with pytest.raises(ObjectExists):
                storage.compose(sources, NAME)
        with pytest.raises(ObjectNotFound):
            storage.compose([OTHER, "audio/none.mp3"], "audio/0b7f/new.mp3")
        assert get(storage) == CONTENT
        assert names_in(storage) == {NAME, OTHER}


class TestListing:
    def test_more_objects_than_a_page_has_are_listed_by_prefix_and_can_be_deleted_on_the_way(
        self, storage: AudioStorage
    ) -> None:
        names = {f"{'audio' if number % 20 else 'uploads'}/{number:04}/a.mp3" for number in range(1100)}
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


class TestNames:
    @pytest.mark.parametrize("layout", ["by-id", "by-user-date"])
    @pytest.mark.parametrize("owner", [7, UUID("00000000-0000-4000-8000-000000000007")], ids=["number", "uuid"])
    def test_every_name_that_we_make_is_stored_listed_and_read_back(
        self, storage: AudioStorage, layout: Layout, owner: int | UUID
    ) -> None:
        names = set()
        for number, filename in enumerate(["a.mp3", "Ünï/ cödé\n.WAV", "x" * 300 + ".flac", "..", "…"]):
            name = audio_name(
                UUID(int=number, version=4),
                extension="mp3",
                owner_id=owner,
                filename=filename,
                created_at=datetime(2026, 2, 28, 23, 59, tzinfo=UTC),
                layout=layout,
            )
            names |= {name, thumbnail_name(name, "webp")}
        for name in names:
            assert put(storage, name, name.encode()) == name
        assert names_in(storage) == names
        assert {get(storage, name).decode() for name in names} == names
        for name in names:
            storage.delete(name)
        assert names_in(storage) == set()

    @pytest.mark.parametrize(
        "name", ["a", "0", "_", "A/b/C", "a-b_c.d.e", "a" * 200, "/".join(["b" * 124] * 4)], ids=len
    )
    def test_every_valid_name_is_one(self, storage: AudioStorage, name: str) -> None:
        put(storage, name)
        assert storage.stat(name).name == name
        assert names_in(storage) == names_in(storage, name) == {name}
        assert get(storage, name) == CONTENT


class TestTogether:
    def test_threads_that_save_and_delete_in_one_folder_do_not_disturb_each_other(self, storage: AudioStorage) -> None:
        # Only a disk has folders, which come and go with what is in them.
        rounds = 10 if storage.directory is None else 60

        def come_and_go(worker: int) -> None:
            for number in range(rounds):
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

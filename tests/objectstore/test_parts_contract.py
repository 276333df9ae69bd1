"""Objects that are written over several requests: the same contract for each kind of storage."""

import fcntl
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile

from objectstore.base import AudioStorage
from objectstore.capabilities import PartsOf, StoredPart
from objectstore.errors import NotMine, ObjectExists, ObjectNotFound, PartsDiffer, StorageFull
from objectstore.local import LocalStorage
from objectstore.names import side_name
from tests.objectstore.crash import PART_BYTES, PART_CONTENT, PARTS_NAME

MIB = 1024**2
PART = 5 * MIB
NAME = "audio/0b7f/audio.wav"
FACTS = {"audio_id": "0b7f"}
PIECES = [bytes([number]) * size for number, size in ((1, PART), (2, PART), (3, 1000))]
CONTENT = b"".join(PIECES)


@pytest.fixture(autouse=True)
def small_parts(settings: Any) -> None:
    settings.STORAGE_PART_BYTES = PART


def begin(storage: AudioStorage, name: str = NAME, size_bytes: int | None = len(CONTENT)) -> str:
    return storage.parts.begin(
        name, size_bytes=size_bytes, part_bytes=PART, content_type="audio/wav", metadata=lambda: FACTS
    )


def write(storage: AudioStorage, handle: str, number: int, data: bytes, name: str = NAME, **given: Any) -> StoredPart:
    tag = storage.parts.write(
        name,
        handle,
        number=number,
        start=(number - 1) * PART,
        data=memoryview(data),
        is_mine=given.pop("is_mine", lambda: True),
    )
    return StoredPart(number, len(data), tag)


def complete(storage: AudioStorage, handle: str, parts: Sequence[StoredPart], size_bytes: int = len(CONTENT)) -> Any:
    return storage.parts.complete(
        NAME,
        handle,
        parts,
        size_bytes=size_bytes,
        part_bytes=PART,
        content_type="audio/wav",
        metadata=lambda: FACTS,
    )


def content_of(storage: AudioStorage, name: str = NAME) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def everything_in(storage: AudioStorage) -> list[str]:
    """Every object, also the pieces that no listing shows; on a disk every file."""
    if isinstance(storage, LocalStorage):
        return [str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file()]
    return [stat.name for stat in storage._list("")]  # type: ignore[attr-defined]


def test_parts_come_in_any_order_and_completing_twice_gives_one_object(storage: AudioStorage) -> None:
    """Promise 13. A lost answer to the completion of a multipart upload, asked again, gives one object."""
    assert storage.parts.part_bytes(len(CONTENT)) in (PART, 8 * MIB)
    handle = begin(storage)
    parts = {number: write(storage, handle, number, PIECES[number - 1]) for number in (3, 1, 2)}
    assert list(storage.list()) == []
    in_order = [parts[number] for number in (1, 2, 3)]
    stat = complete(storage, handle, in_order)
    assert stat.size == len(CONTENT)
    again = complete(storage, handle, in_order)
    assert (again.size, again.identity, again.version) == (stat.size, stat.identity, stat.version)
    assert content_of(storage) == CONTENT
    assert everything_in(storage) == [NAME]
    with pytest.raises((ObjectNotFound, NotMine)):
        write(storage, handle, 1, PIECES[1], is_mine=lambda: False)
    assert content_of(storage) == CONTENT


def test_a_part_that_is_sent_again_counts_only_by_its_tag(storage: AudioStorage) -> None:
    """A writer that wakes up late sends other bytes for a part: never a mixture, and never a silent replacement."""
    if isinstance(storage, LocalStorage):
        pytest.skip("on a disk the question whether the writer may still write protects")
    handle = begin(storage)
    parts = [write(storage, handle, number, piece) for number, piece in enumerate(PIECES, start=1)]
    write(storage, handle, 1, bytes(PART))
    try:
        complete(storage, handle, parts)
    except PartsDiffer:
        assert list(storage.list()) == []
    else:
        assert content_of(storage) == CONTENT


def test_parts_that_are_gone_make_no_object(storage: AudioStorage) -> None:
    handle = begin(storage)
    parts = [write(storage, handle, 1, PIECES[0])]
    if not isinstance(storage, LocalStorage):
        other = "audio/1c3d/audio.wav"
        parts.append(write(storage, begin(storage, other), 2, PIECES[1], other))
    with pytest.raises((PartsDiffer, ObjectNotFound)):
        complete(storage, handle, parts, size_bytes=2 * PART)
    assert list(storage.list()) == []


def test_only_the_present_writer_writes(storage: AudioStorage) -> None:
    handle = begin(storage)
    with pytest.raises(NotMine):
        write(storage, handle, 1, PIECES[0], is_mine=lambda: False)
    if isinstance(storage, LocalStorage):
        (partial,) = storage.root.rglob("*.session")
        assert partial.stat().st_size == 0


def test_what_is_given_up_is_removed(storage: AudioStorage) -> None:
    """Promise 16. Abandoned parts and temporary files are reclaimed."""
    handle = begin(storage)
    write(storage, handle, 1, PIECES[0])
    storage.parts.abort(NAME, handle)
    storage.parts.abort(NAME, handle)
    assert everything_in(storage) == []
    if storage.provider in ("local", "s3"):
        with pytest.raises(ObjectNotFound):
            write(storage, handle, 2, PIECES[1])


def test_an_object_of_somebody_else_is_not_taken_for_ones_own(storage: AudioStorage) -> None:
    handle = begin(storage)
    storage.save(NAME, ContentFile(b"a stranger's"))
    parts = [write(storage, handle, number, piece) for number, piece in enumerate(PIECES, start=1)]
    with pytest.raises(ObjectExists):
        complete(storage, handle, parts)
    assert content_of(storage) == b"a stranger's"


@pytest.mark.parametrize("sizes", [[700], [PART + 5, PART, 0, 1, 999], [3] * 40])
def test_whole_uploads_are_joined_in_order(storage: AudioStorage, sizes: list[int]) -> None:
    """Promise 24. Concatenation keeps order and sum."""
    contents = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    sources = []
    for place, content in enumerate(contents):
        name = f"partials/sessions/{place}/partial"
        handle = begin(storage, name, len(content))
        pieces = [content[start : start + PART] for start in range(0, len(content), PART)]
        parts = [write(storage, handle, number, piece, name) for number, piece in enumerate(pieces, start=1)]
        sources.append(PartsOf(name, handle, parts, len(content), PART))
    final = begin(storage, size_bytes=sum(sizes))

    def join() -> Any:
        return storage.parts.join(
            NAME, final, sources, size_bytes=sum(sizes), content_type="audio/wav", metadata=lambda: FACTS
        )

    assert join().size == sum(sizes)
    assert content_of(storage) == b"".join(contents)
    assert join().size == sum(sizes)
    for source in sources:
        storage.parts.abort(source.name, source.handle)
    assert everything_in(storage) == [NAME]


def test_old_leftovers_go_and_those_of_living_uploads_stay(storage: AudioStorage) -> None:
    """Promise 16. Abandoned parts and temporary files are reclaimed."""
    handle = begin(storage)
    write(storage, handle, 1, PIECES[0])
    if not isinstance(storage, LocalStorage):
        storage.save(side_name(uuid4(), "tail"), ContentFile(b"tail"))
    later, earlier = (datetime.now(UTC) + timedelta(days=sign) for sign in (1, -1))
    assert storage.remove_partials(later, sessions_older_than=earlier) == 0
    write(storage, handle, 2, PIECES[1])
    removed = storage.remove_partials(later)
    assert removed >= 1
    assert everything_in(storage) == []


# On a disk


def test_a_process_that_was_stopped_in_a_write_makes_others_give_up(local: LocalStorage) -> None:
    local.parts.lock_seconds = 0.05
    handle = begin(local)
    (partial,) = local.root.rglob("*.session")
    with partial.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(NotMine):
            write(local, handle, 1, b"late")
    write(local, handle, 1, b"in time")


def test_a_full_disk_leaves_what_was_written_before(local: LocalStorage) -> None:
    handle = begin(local)
    write(local, handle, 1, PIECES[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * PART - 3, before[1]))
    try:
        with pytest.raises(StorageFull):
            write(local, handle, 2, PIECES[1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write(local, handle, 2, PIECES[1])
    write(local, handle, 3, PIECES[2])
    complete(local, handle, [])
    assert content_of(local) == CONTENT


def test_a_longer_file_than_was_counted_is_cut(local: LocalStorage) -> None:
    handle = begin(local)
    write(local, handle, 1, b"counted, not counted")
    complete(local, handle, [], size_bytes=7)
    assert content_of(local) == b"counted"
    assert Path(local.path(NAME)).stat().st_mode & 0o777 == local.file_mode


def test_an_upload_can_be_killed_at_each_call_to_the_system(tmp_path: Path) -> None:
    """Promise 2. After each death the same calls are made again and give the whole file, once."""
    killed = subprocess.run(
        [sys.executable, "-m", "tests.objectstore.crash", "parts", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    deaths = killed.stdout.split()
    assert deaths[-1] == "done" and {"pwrite", "fdatasync", "ftruncate", "link", "unlink", "fsync"} <= set(deaths)
    for number in range(1, len(deaths) + 1):
        storage = LocalStorage(tmp_path / str(number))
        handle = (storage.root / "handle").read_text()
        try:
            storage.stat(PARTS_NAME)
        except ObjectNotFound:
            for at in range(0, len(PART_CONTENT), PART_BYTES):
                piece = memoryview(PART_CONTENT[at : at + PART_BYTES])
                storage.parts.write(
                    PARTS_NAME, handle, number=at // PART_BYTES + 1, start=at, data=piece, is_mine=lambda: True
                )
        stat = storage.parts.complete(
            PARTS_NAME,
            handle,
            [],
            size_bytes=len(PART_CONTENT),
            part_bytes=PART_BYTES,
            content_type="",
            metadata=dict,
        )
        assert stat.size == len(PART_CONTENT) and content_of(storage, PARTS_NAME) == PART_CONTENT, deaths[number - 1]
        storage.parts.abort(PARTS_NAME, handle)
        assert sorted(everything_in(storage)) == sorted(["handle", PARTS_NAME]), deaths[number - 1]

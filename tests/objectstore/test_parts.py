"""Content that is cut into parts, and the few buffers that it passes through."""

from collections.abc import Iterator
from threading import Barrier, Event, Lock

import pytest
from django.core.files.base import ContentFile

from objectstore.content import StreamedContent
from objectstore.parts import MORE_BUFFERS, OWN_BUFFERS, PartReader, send_parts
from objectstore.retry import ONCE, current_policy, retry_policy
from objectstore.s3.multipart import MAX_PARTS
from tests.objectstore.test_storage_contract import noise


def free_buffers() -> int:
    """How many a reader could still get beyond its own."""
    taken = 0
    while MORE_BUFFERS.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        MORE_BUFFERS.release()
    return taken


def cut(pieces: list[bytes], part_bytes: int) -> list[bytes]:
    with PartReader(StreamedContent(pieces), part_bytes, 2) as reader:
        found = []
        while not reader.ended:
            part = reader.next_part()
            found.append(bytes(part))
            reader.release(part)
    return found


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], [b""]),
        ([b""], [b""]),
        ([b"abc"], [b"abc"]),
        ([b"abcd"], [b"abcd"]),
        ([b"abcd", b"", b""], [b"abcd"]),
        ([b"abcde"], [b"abcd", b"e"]),
        ([b"ab", b"", b"cdefghi", b"j"], [b"abcd", b"efgh", b"ij"]),
        ([b"abcdefghijkl"], [b"abcd", b"efgh", b"ijkl"]),
        ([b"a"] * 9, [b"aaaa", b"aaaa", b"a"]),
    ],
    ids=str,
)
def test_all_parts_but_the_last_are_full_and_none_is_empty_beside_others(
    pieces: list[bytes], expected: list[bytes]
) -> None:
    assert cut(pieces, 4) == expected


def test_pieces_may_be_views_of_a_buffer_that_is_used_again() -> None:
    buffer = bytearray(7)

    def views() -> Iterator[memoryview]:
        for number in range(20):
            buffer[:] = bytes([number]) * 7
            yield memoryview(buffer)

    with PartReader(StreamedContent(views()), 10, 1) as reader:
        found = b""
        while not reader.ended:
            part = reader.next_part()
            found += part
            reader.release(part)
    assert found == b"".join(bytes([number]) * 7 for number in range(20))


def test_a_small_content_needs_a_small_buffer() -> None:
    with PartReader(ContentFile(b"abc"), 1024**3, 4) as reader:
        assert reader.next_part() == b"abc"
        assert reader.ended


def test_parts_are_sent_at_the_same_time_and_answered_in_order() -> None:
    together = Barrier(3)

    def send(number: int, part: bytearray) -> tuple[int, bytes]:
        if number <= 3:
            together.wait(timeout=10)
        return number, bytes(part)

    content = noise(10_001)
    with PartReader(ContentFile(content), 1000, 3) as reader:
        answers = send_parts(reader, reader.next_part(), send, parallel=3)
    assert [number for number, _part in answers] == list(range(1, 12))
    assert b"".join(part for _number, part in answers) == content


def test_no_more_parts_are_held_than_are_sent_and_filled() -> None:
    held, most, lock = set[int](), 0, Lock()

    def send(_number: int, part: bytearray) -> None:
        nonlocal most
        with lock:
            held.add(id(part))
            most = max(most, len(held))

    with PartReader(ContentFile(noise(100_000)), 1000, 3) as reader:
        send_parts(reader, reader.next_part(), send, parallel=3)
    assert 1 <= most <= 4


def test_many_uploads_at_once_share_the_buffers_and_each_goes_on() -> None:
    available = free_buffers()
    readers = [PartReader(StreamedContent(iter([b"x" * 10])), 1, 20) for _ in range(3)]
    taken = [[reader.next_part() for _ in range(OWN_BUFFERS)] for reader in readers]
    assert free_buffers() == available
    extra = [readers[0].next_part() for _ in range(8)]
    assert free_buffers() == available - len(extra)
    for reader in readers:
        reader.__exit__(None, None, None)
    assert free_buffers() == available
    assert all(len(parts_of_one) == OWN_BUFFERS for parts_of_one in taken)


def test_an_upload_that_gets_no_further_buffer_waits_for_its_own() -> None:
    """However many others there are: it is slower, and does not stop."""
    available = free_buffers()
    for _ in range(available):
        MORE_BUFFERS.acquire()
    try:
        with PartReader(ContentFile(noise(10_000)), 1000, 4) as reader:
            answers = send_parts(reader, reader.next_part(), lambda number, part: len(part), parallel=4)
    finally:
        for _ in range(available):
            MORE_BUFFERS.release()
    assert answers == [1000] * 10


def test_the_first_error_of_sending_comes_out_when_nothing_is_being_sent() -> None:
    failure = ConnectionResetError("gone")
    running, lock = 0, Lock()
    begun = Event()

    def send(number: int, _part: bytearray) -> None:
        nonlocal running
        with lock:
            running += 1
        try:
            if number == 2:
                begun.wait(timeout=10)
                raise failure
            begun.set()
        finally:
            with lock:
                running -= 1

    with PartReader(ContentFile(noise(100_000)), 1000, 3) as reader:
        with pytest.raises(ConnectionResetError) as raised:
            send_parts(reader, reader.next_part(), send, parallel=3)
        assert running == 0
    assert raised.value is failure


def test_after_a_part_that_failed_no_more_is_read() -> None:
    read = 0

    def pieces() -> Iterator[bytes]:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"x" * 1000

    def send(number: int, _part: bytearray) -> None:
        if number == 2:
            raise ConnectionResetError

    with PartReader(StreamedContent(pieces()), 1000, 3) as reader, pytest.raises(ConnectionResetError):
        send_parts(reader, reader.next_part(), send, parallel=3)
    assert read < 1000


def test_an_error_of_reading_comes_out_unchanged() -> None:
    failure = ValueError("the client's")

    def pieces() -> Iterator[bytes]:
        yield b"x" * 2500
        raise failure

    sent = []
    with PartReader(StreamedContent(pieces()), 1000, 2) as reader:
        first = reader.next_part()
        with pytest.raises(ValueError, match="client") as raised:
            send_parts(reader, first, lambda number, part: sent.append(number), parallel=2)
    assert raised.value is failure
    assert set(sent) <= {1, 2}


def test_parts_are_tried_again_by_the_policy_of_who_saves() -> None:
    with retry_policy(ONCE), PartReader(ContentFile(noise(3000)), 1000, 2) as reader:
        policies = send_parts(reader, reader.next_part(), lambda number, part: current_policy(), parallel=2)
    assert policies == [ONCE] * 3


def test_parts_of_a_stream_of_unknown_length_grow() -> None:
    """So that ten thousand of them hold any object; buffers that were used for smaller parts are used again."""
    content = noise(100)
    with PartReader(StreamedContent([content]), 5, 2, grows_after=3) as reader:
        found = []
        while not reader.ended:
            part = reader.next_part()
            found.append(bytes(part))
            reader.release(part)
    assert [len(part) for part in found] == [5, 5, 5, 10, 10, 10, 20, 20, 15]
    assert b"".join(found) == content


def test_with_as_many_parts_as_s3_takes_the_largest_object_fits() -> None:
    sizes = [8 * 1024**2 * 2**tenth * (MAX_PARTS // 10) for tenth in range(10)]
    assert sum(sizes) > 5 * 1024**4

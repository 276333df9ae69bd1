"""Finds the sound of a WAV or AIFF file, whatever its header.

Sources: Multimedia Programming Interface 1.0 (RIFF), EBU Tech 3306 (RF64 and BW64), AIFF-C (Apple, 1991).
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from media.frames import before_tags, behind_tags
from media.sound import read_at

# Sizes that recorders on a pipe write for an unknown length: arecord and SoX about 2 GiB, most others about 4 GiB.
STREAMED_SIZES = (range(0x7FFE_0000, 0x8000_0100), range(0xFFFE_0000, 0x1_0000_0000))
STREAMED_AIFF_SIZES = (*STREAMED_SIZES, range(0x7F00_0000, 0x7F00_1000))
WRAP = 1 << 32
MAX_CHUNKS = 1_000_000
SSND_HEADER_BYTES = 8


class Data(NamedTuple):
    """The sound from ``begin`` to ``end``; ``missing`` are promised bytes beyond. ``block_align`` is the bytes of a
    sample, or 1. A demuxer that uses a header without multiples of 4 GiB must stop at ``readable_end``.
    """

    begin: int
    end: int
    missing: int
    block_align: int
    readable_end: int = 0


def find_sound(file: BinaryIO, demuxer: str, size: int) -> Data | None:
    start = behind_tags(file, size)
    kind = read_at(file, start, 4)
    order = ">" if demuxer == "aiff" or kind == b"RIFX" else "<"
    form_size = int.from_bytes(read_at(file, start + 4, 4), "big" if order == ">" else "little")
    form_missing = form_size + 8 - (size - start)
    long_size, block_align = 0, 1
    for name, at, length in iff_chunks(file, size, order, start=start):
        if name == b"ds64":
            long_size = int.from_bytes(read_at(file, at + 8, 8), "little")
        elif name == b"fmt ":
            block_align = max(1, int.from_bytes(read_at(file, at + 12, 2), "big" if order == ">" else "little"))
        elif name == b"data" and demuxer == "wav":
            if length == 0xFFFF_FFFF and 0 < long_size < 2**63:
                wraps = wrapped(file, at, long_size, size, order)
                found = measured(at, long_size + wraps * WRAP, size, form_missing, block_align, is_known=False)
                return found._replace(readable_end=at + long_size) if wraps else found
            if length == 0 and size - at > 8 and not is_chunk(file, at, size, order):
                length = 0xFFFF_FFFF
            if any(length in sizes for sizes in STREAMED_SIZES) and not fits(file, at, length, size, order):
                return Data(at, before_tags(file, at, size), 0, block_align)
            wraps = wrapped(file, at, length, size, order)
            found = measured(at, length + wraps * WRAP, size, form_missing, block_align, is_known=True)
            return found._replace(readable_end=at + length) if wraps else found
        elif name == b"SSND":
            begin = at + SSND_HEADER_BYTES + int.from_bytes(read_at(file, at, 4), "big")
            if length == 0 or any(length in sizes for sizes in STREAMED_AIFF_SIZES):
                return Data(begin, before_tags(file, min(begin, size), size), 0, 1)
            return measured(begin, at + length - begin, size, form_missing, 2, is_known=True)
    return None


def measured(begin: int, length: int, size: int, form_missing: int, block_align: int, *, is_known: bool) -> Data:
    """A header that counts itself, or a pad byte, is no missing sound."""
    missing = begin + length - size
    end = min(begin + length, size)
    is_slip = is_known and missing <= begin + 8 and form_missing <= 8 and form_missing != missing
    if missing < block_align or is_slip:
        missing = 0
    return Data(begin, max(begin, end), missing, block_align)


def iff_chunks(file: BinaryIO, size: int, order: str, *, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Name, body offset and declared length of each chunk."""
    at = start + 12
    for _ in range(MAX_CHUNKS):
        header = read_at(file, at, 8)
        if len(header) < 8 or at >= size or not any(header):
            return
        name, length = struct.unpack(f"{order}4sI", header)
        yield name, at + 8, length
        at += 8 + length
        # Some writers omit the pad byte after an odd length.
        if length % 2 and not is_chunk(file, at, size, order):
            at += 1


def is_chunk(file: BinaryIO, at: int, size: int, order: str) -> bool:
    """A name of letters, and a length that fits."""
    header = read_at(file, at, 8)
    if len(header) < 8:
        return False
    name, length = struct.unpack(f"{order}4sI", header)
    return all(32 <= byte < 127 for byte in name) and name.strip() != b"" and at + 8 + length <= size + 1


def fits(file: BinaryIO, at: int, length: int, size: int, order: str) -> bool:
    """Whether the file or another chunk follows its end."""
    end = at + length
    return size - 1 <= end <= size or is_chunk(file, end, size, order) or is_chunk(file, end + 1, size, order)


def wrapped(file: BinaryIO, at: int, length: int, size: int, order: str) -> int:
    """How many times 4 GiB are missing from a length."""
    times = (size - at - length) // WRAP
    return 0 if times <= 0 or fits(file, at, length, size, order) else times

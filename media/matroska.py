"""Locates and counts the tags of a WebM file, so that FFmpeg reads only so many. Source: RFC 8794 (EBML), RFC 9559
(Matroska).
"""

from collections.abc import Iterator
from typing import BinaryIO

from media.found import Found, Patch

SEGMENT, TAGS, CLUSTER, SIMPLE_TAG = (bytes.fromhex(name) for name in ("18538067", "1254c367", "1f43b675", "67c8"))
EBML_VOID = 0xEC
MAX_ELEMENTS = 1_000_000
HEADER_BYTES = 12
MAX_TAG_BYTES = 64 * 1024**2


def read_matroska(file: BinaryIO, size: int) -> Found:
    """Without texts, which FFmpeg reads. ``entries`` may be a few too many."""
    found = Found()
    for name, _, begin, end in elements(file, 0, size):
        if name != SEGMENT:
            continue
        for inner, at, inner_begin, inner_end in elements(file, begin, end):
            if inner == TAGS:
                file.seek(inner_begin)
                found.entries += file.read(min(inner_end - inner_begin, MAX_TAG_BYTES)).count(SIMPLE_TAG)
                found.patches.append(Patch(at, void(inner_end - at)))
    return found


def elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, offset and content bounds; one of unknown size is the last."""
    for _ in range(MAX_ELEMENTS):
        file.seek(at)
        header = file.read(HEADER_BYTES)
        if at >= end or not header or not header[0]:
            return
        name_bytes = 9 - header[0].bit_length()
        if name_bytes >= len(header) or not header[name_bytes]:
            return
        size_bytes = 9 - header[name_bytes].bit_length()
        ones = (1 << 7 * size_bytes) - 1
        length = int.from_bytes(header[name_bytes : name_bytes + size_bytes], "big") & ones
        begin = at + name_bytes + size_bytes
        content_end = end if length == ones else min(begin + length, end)
        yield header[:name_bytes], at, begin, content_end
        at = content_end


def void(length: int) -> bytes:
    """The head of an element that readers skip."""
    return bytes([EBML_VOID, 0x01]) + (length - 9).to_bytes(7, "big") if length >= 9 else b""

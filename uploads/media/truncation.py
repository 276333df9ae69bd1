"""Whether a file ends before its own container says it does: read from the headers, without decoding.

Each check raises :class:`Failure` ``truncated_audio``. A recorder that could not seek back leaves sizes of zero or of
all ones; those say nothing and pass. What cannot be told: elementary streams without a count (MP3 without a Xing
header, AAC), and an unbounded Ogg or WebM that is cut between two pages or clusters.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from uploads.framing import after_id3, first_frame, mpeg_layer3_frame
from uploads.media.failure import Failure

ID3_PROBE_BYTES = 10
MP3_PROBE_BYTES = 64 * 1024
# Encoders and taggers disagree about whether a Xing header counts tags and a partial last frame.
MP3_TOLERANCE_BYTES = 2048
MP3_TOLERANCE_DIVISOR = 20
# What recorders that write to a pipe put for an unknown length: arecord and SoX about 2 GiB, most others about 4 GiB.
STREAMED_SIZES = (range(0x7FFE_0000, 0x8000_0100), range(0xFFFE_0000, 0x1_0000_0000))
STREAMED_AIFF_SIZES = (*STREAMED_SIZES, range(0x7F00_0000, 0x7F00_1000))
MP4_BOXES = frozenset(
    (b"mdat", b"moov", b"moof", b"free", b"skip", b"wide", b"sidx", b"mfra", b"uuid", b"udta", b"meta")
)
MAX_ELEMENTS = 1_000_000
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_BROADCAST = 1
OGG_HEADER_BYTES = 27
OGG_MAX_PAGE_BYTES = OGG_HEADER_BYTES + 255 + 255 * 255
MATROSKA_SEGMENT = bytes.fromhex("18538067")


def check_not_truncated(file: BinaryIO, demuxer: str, size: int) -> None:
    """Raise :class:`Failure` if the container of ``size`` bytes says that it should be longer."""
    CHECKS.get(demuxer, nothing_to_check)(file, size)
    file.seek(0)


def nothing_to_check(file: BinaryIO, size: int) -> None:
    """The format has no length of its own."""


def fail(missing: int, what: str) -> None:
    raise Failure("truncated_audio", f"The file is cut short: {what} ends {missing} bytes before its header says.")


def read_at(file: BinaryIO, at: int, length: int) -> bytes:
    """Up to ``length`` bytes; none where an offset that the file itself gives lies behind its end."""
    end = file.seek(0, 2)
    file.seek(min(at, end))
    return file.read(length)


def check_wav(file: BinaryIO, size: int) -> None:
    """RIFF, or RF64 and BW64 (EBU Tech 3306), whose sizes of 64 bits stand in the ``ds64`` chunk."""
    data_size_64 = 0
    block_align = 1
    for name, at, length in iff_chunks(file, size, "<"):
        if name == b"ds64":
            data_size_64 = int.from_bytes(read_at(file, at + 8, 8), "little")
        elif name == b"fmt ":
            block_align = max(1, int.from_bytes(read_at(file, at + 12, 2), "little"))
        elif name == b"data":
            declared = data_size_64 if length == 0xFFFF_FFFF and 0 < data_size_64 < 2**63 else length
            if declared == length and any(length in sizes for sizes in STREAMED_SIZES):
                return
            if declared - (size - at) >= block_align:
                fail(declared - (size - at), "the sound")
            return
    raise Failure("truncated_audio", "The file is cut short: it ends before any sound.")


def check_aiff(file: BinaryIO, size: int) -> None:
    for name, at, length in iff_chunks(file, size, ">"):
        if name == b"SSND" and not any(length in sizes for sizes in STREAMED_AIFF_SIZES) and length > size - at + 1:
            fail(length - (size - at), "the sound")


def iff_chunks(file: BinaryIO, size: int, byte_order: str) -> Iterator[tuple[bytes, int, int]]:
    """Name, offset of the body and declared length of each chunk that begins within the file."""
    at = 12
    for _ in range(MAX_ELEMENTS):
        header = read_at(file, at, 8)
        if len(header) < 8 or at >= size:
            return
        name, length = struct.unpack(f"{byte_order}4sI", header)
        yield name, at + 8, length
        at += 8 + length + length % 2


def check_mp3(file: BinaryIO, size: int) -> None:
    """The byte count of a Xing, Info or VBRI header in the first frame, where there is one."""
    begin = 0
    while (next_begin := begin + after_id3(read_at(file, begin, ID3_PROBE_BYTES))) != begin:
        begin = next_begin
    if begin >= size:
        fail(begin - size, "the tag in front")
    head = read_at(file, begin, MP3_PROBE_BYTES)
    at = first_frame(head, mpeg_layer3_frame)
    if at is None:
        return
    frame = head[at : at + 256]
    declared = 0
    for name in (b"Xing", b"Info"):
        found = frame.find(name, 4, 64)
        if found >= 0:
            flags = int.from_bytes(frame[found + 4 : found + 8], "big")
            offset = found + 8 + (4 if flags & 1 else 0)
            declared = int.from_bytes(frame[offset : offset + 4], "big") if flags & 2 else 0
    if frame[36:40] == b"VBRI":
        declared = int.from_bytes(frame[46:50], "big")
    missing = declared - (size - begin - at)
    if missing > min(MP3_TOLERANCE_BYTES, declared // MP3_TOLERANCE_DIVISOR):
        fail(missing, "the sound")


def check_mp4(file: BinaryIO, size: int) -> None:
    """Every top-level box must fit (ISO/IEC 14496-12, 4.2); a size of zero reaches to the end of the file."""
    at, names = 0, set()
    for _ in range(MAX_ELEMENTS):
        header = read_at(file, at, 16)
        if len(header) < 8:
            break
        length, name = struct.unpack(">I4s", header[:8])
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length and name in MP4_BOXES and at + length > size:
            fail(at + length - size, f"the {name.decode()} box")
        names.add(name)
        if length < 8:
            break
        at += length
    if b"moov" not in names:
        raise Failure("truncated_audio", "The file is cut short: its index, the moov box, is missing.")


def check_asf(file: BinaryIO, size: int) -> None:
    """The data object (ASF specification 5.1) must fit, unless the file is marked as a live broadcast."""
    header_size = int.from_bytes(read_at(file, 16, 8), "little")
    header = read_at(file, 0, min(header_size, 1024**2))
    found = header.find(ASF_FILE_PROPERTIES)
    flags = int.from_bytes(header[found + 88 : found + 92], "little") if found >= 0 else 0
    data = read_at(file, header_size, 24)
    if len(data) < 24:
        fail(header_size + 24 - size, "the header")
    length = int.from_bytes(data[16:24], "little")
    if data[:16] == ASF_DATA and not flags & ASF_BROADCAST and header_size + length > size:
        fail(header_size + length - size, "the sound")


def check_ogg(file: BinaryIO, size: int) -> None:
    """The last page (RFC 3533, 6) must be whole. A recording without an end-of-stream page passes."""
    begin = max(0, size - 2 * OGG_MAX_PAGE_BYTES)
    tail = read_at(file, begin, size - begin)
    at = tail.rfind(b"OggS\0")
    if at < 0:
        return
    page = tail[at:]
    segments = page[26] if len(page) >= OGG_HEADER_BYTES else 0
    if len(page) < OGG_HEADER_BYTES + segments:
        fail(OGG_HEADER_BYTES + segments - len(page), "the last page")
    length = OGG_HEADER_BYTES + segments + sum(page[OGG_HEADER_BYTES : OGG_HEADER_BYTES + segments])
    if length > len(page):
        fail(length - len(page), "the last page")


def check_matroska(file: BinaryIO, size: int) -> None:
    """The segment (RFC 8794, 5; RFC 9559, 5.1) must fit; live recorders leave its size unknown, all ones."""
    head = read_at(file, 0, 4096)
    at = head.find(MATROSKA_SEGMENT)
    if at < 0 or at + 5 > len(head):
        return
    first = head[at + 4]
    width = 9 - first.bit_length()
    length = int.from_bytes(head[at + 4 : at + 4 + width], "big") & ((1 << 7 * width) - 1)
    missing = at + 4 + width + length - size
    if length != (1 << 7 * width) - 1 and missing > 0:
        fail(missing, "the segment")


CHECKS = {
    "wav": check_wav,
    "aiff": check_aiff,
    "mp3": check_mp3,
    "mov": check_mp4,
    "asf": check_asf,
    "ogg": check_ogg,
    "matroska": check_matroska,
}

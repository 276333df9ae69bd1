"""Whether a file ends before its headers say, without decoding.

Each check raises :class:`Failure` ``truncated_audio``. Sizes of zero or all ones, from recorders that cannot seek,
pass. Not detected: streams without a count (MP3 without Xing, AAC), unbounded Ogg or WebM cut between pages or
clusters.
"""

import struct
from typing import BinaryIO

from media.failure import Failure
from media.frames import before_tags, behind_tags
from media.framing import first_frame, mpeg_layer3_frame
from media.riff import find_sound
from media.sound import read_at

MP3_PROBE_BYTES = 64 * 1024
# Encoders and taggers disagree about whether a Xing header counts tags and a partial last frame.
MP3_TOLERANCE_BYTES = 2048
MP3_TOLERANCE_DIVISOR = 20
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
    """Raises :class:`Failure`."""
    CHECKS.get(demuxer, nothing_to_check)(file, size)
    file.seek(0)


def nothing_to_check(file: BinaryIO, size: int) -> None:
    """The format has no length of its own."""


def fail(missing: int, what: str) -> None:
    raise Failure("truncated_audio", f"The file is cut short: {what} ends {missing} bytes before its header says.")


def check_wav(file: BinaryIO, size: int) -> None:
    sound = find_sound(file, "wav", size)
    if sound is None or sound.begin >= size:
        raise Failure("truncated_audio", "The file is cut short: it ends before any sound.")
    if sound.missing:
        fail(sound.missing, "the sound")


def check_aiff(file: BinaryIO, size: int) -> None:
    sound = find_sound(file, "aiff", size)
    if sound is not None and sound.missing:
        fail(sound.missing, "the sound")


def check_mp3(file: BinaryIO, size: int) -> None:
    """Xing, Info or VBRI in the first frame."""
    begin = behind_tags(file, size)
    if begin >= size:
        # The tag claims more bytes than the file has; the sound may begin within it.
        if first_frame(read_at(file, 0, MP3_PROBE_BYTES), mpeg_layer3_frame) is None:
            fail(begin - size, "the tag in front")
        begin = 0
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
    """Every top-level box must fit (ISO/IEC 14496-12, 4.2); size zero reaches to the end."""
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
    """The data object (ASF specification 5.1) must fit, unless broadcast live."""
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
    """The last page (RFC 3533, 6) must be whole."""
    size = before_tags(file, 0, size)
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
    """The segment (RFC 8794, 5; RFC 9559, 5.1) must fit, unless of unknown size."""
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

"""Frames of MPEG audio and ADTS, and tags around them (ID3, APE, Lyrics3), for arrival and sandbox.

Sources: the ID3v2.4 structure document, ISO/IEC 11172-3 2.4.1.3 and 13818-3 (MPEG audio), ISO/IEC 13818-7 6.2 (ADTS),
the APEv2 and Lyrics3 v2.00 specifications.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

BITRATES_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
BITRATES_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
SAMPLE_RATES_MPEG1 = (44_100, 48_000, 32_000)
ADTS_SAMPLE_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip
ADTS_HEADER_BYTES = 7
ADTS_SAMPLES = 1024
MPEG_HEADER_BYTES = 4
ID3_HEADER_BYTES = 10
ID3V1_BYTES = 128
APE_HEADER_BYTES = 32
APE_HAS_HEADER = 1 << 31
# The longest frame and more: what may precede the first whole frame of a cut stream.
CUT_FRAME_BYTES = 16_384
CHAIN = 3
# Without a leading tag or zeros, chance must be excluded.
LONG_CHAIN = 5


class Frame(NamedTuple):
    """Its bytes with the header, samples of each channel, and properties that all frames share."""

    length: int
    samples: int
    sample_rate: int
    identity: tuple[int, ...]


FrameParser = Callable[[bytes, int], Frame | None]


def mpeg_layer3_frame(data: bytes, at: int) -> Frame | None:
    """The frame at ``at``, or None. Free format is not accepted."""
    if at + MPEG_HEADER_BYTES > len(data):
        return None
    first, second, third = data[at], data[at + 1], data[at + 2]
    version, layer = second >> 3 & 3, second >> 1 & 3
    bitrate_index, rate_index, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if first != 0xFF or second & 0xE0 != 0xE0 or version == 1 or layer != 1 or bitrate_index in (0, 15):
        return None
    if rate_index == 3:
        return None
    mpeg1 = version == 3
    bitrate = (BITRATES_MPEG1 if mpeg1 else BITRATES_MPEG2)[bitrate_index] * 1000
    sample_rate = SAMPLE_RATES_MPEG1[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if mpeg1 else 576
    return Frame(samples // 8 * bitrate // sample_rate + padding, samples, sample_rate, (version, rate_index))


def adts_frame(data: bytes, at: int) -> Frame | None:
    if at + ADTS_HEADER_BYTES > len(data):
        return None
    header = data[at : at + ADTS_HEADER_BYTES]
    rate_index = header[2] >> 2 & 15
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or rate_index >= len(ADTS_SAMPLE_RATES):
        return None
    if length < ADTS_HEADER_BYTES:
        return None
    samples = ADTS_SAMPLES * ((header[6] & 3) + 1)
    return Frame(length, samples, ADTS_SAMPLE_RATES[rate_index], (header[1], header[2] & 0xFC))


# Where a frame could begin. No run of equal bytes matches, so padding costs no time.
FRAME_STARTS: dict[FrameParser, re.Pattern[bytes]] = {
    mpeg_layer3_frame: re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]"),
    adts_frame: re.compile(rb"\xff[\xf0\xf1\xf8\xf9]"),
}


def after_id3(data: bytes) -> int:
    """After all leading ID3v2 tags, possibly past the end."""
    at = 0
    while length := id3_length(data, at):
        at += length
    return at


def id3_length(data: bytes, at: int) -> int:
    """The declared length, with header and footer; 0 without a tag."""
    header = data[at : at + ID3_HEADER_BYTES]
    if len(header) < ID3_HEADER_BYTES or header[:3] != b"ID3" or header[3] == 0xFF or header[4] == 0xFF:
        return 0
    footer = ID3_HEADER_BYTES if header[5] & 0x10 else 0
    return ID3_HEADER_BYTES + synchsafe(header[6:10]) + footer


def synchsafe(size: bytes) -> int:
    value = 0
    for byte in size:
        value = value << 7 | byte & 0x7F
    return value


def tag_length(data: bytes, at: int) -> int:
    """The length of the tag at ``at``, or 0. Lyrics3 declares none and is searched for its end."""
    start = data[at : at + APE_HEADER_BYTES]
    if start.startswith(b"APETAGEX") and len(start) >= 16:
        return APE_HEADER_BYTES + int.from_bytes(start[12:16], "little")
    if start.startswith(b"LYRICSBEGIN"):
        for end in (b"LYRICS200", b"LYRICSEND"):
            if (found := data.find(end, at)) >= 0:
                return found + len(end) - at
    if start.startswith(b"TAG+"):
        return 227
    if start.startswith(b"TAG"):
        return ID3V1_BYTES
    return id3_length(data, at)


def tag_length_before(tail: bytes) -> int:
    """The length of the tag that ends with ``tail``, possibly longer; or 0."""
    if tail[-ID3V1_BYTES:].startswith(b"TAG") and len(tail) >= ID3V1_BYTES:
        return ID3V1_BYTES
    if tail[-227:].startswith(b"TAG+"):
        return 227
    ape = tail[-APE_HEADER_BYTES:]
    if ape.startswith(b"APETAGEX"):
        flags = int.from_bytes(ape[20:24], "little")
        return int.from_bytes(ape[12:16], "little") + (APE_HEADER_BYTES if flags & APE_HAS_HEADER else 0)
    footer = tail[-ID3_HEADER_BYTES:]
    if footer.startswith(b"3DI") and len(footer) == ID3_HEADER_BYTES:
        return 2 * ID3_HEADER_BYTES + synchsafe(footer[6:10])
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    if tail.endswith(b"LYRICSEND"):
        found = tail.rfind(b"LYRICSBEGIN")
        return len(tail) - found if found >= 0 else 0
    return 0


def is_chain(data: bytes, at: int, parse: FrameParser, *, frames: int = CHAIN) -> bool:
    """Whether ``frames`` follow one another, or as many as fit before the end, a tag or zeros."""
    first = parse(data, at)
    if first is None:
        return False
    frame: Frame | None = first
    for _ in range(frames - 1):
        if frame is None or frame.identity != first.identity:
            return False
        at += frame.length
        if at + ADTS_HEADER_BYTES > len(data) or tag_length(data, at) or not any(data[at : at + 32]):
            return True
        frame = parse(data, at)
    return frame is not None and frame.identity == first.identity


def next_chain(data: bytes, begin: int, parse: FrameParser, *, end: int | None = None, frames: int = CHAIN) -> int:
    """The offset of the next chain from ``begin``, before ``end``; -1 without one."""
    for found in FRAME_STARTS[parse].finditer(data, begin, len(data) if end is None else min(len(data), end + 2)):
        if is_chain(data, found.start(), parse, frames=frames):
            return found.start()
    return -1


def first_frame(data: bytes, parse: FrameParser) -> int | None:
    """The offset of the first chain in the head of a file, or None. Tags, zeros and the rest of a cut frame may precede
    it; after a tag, anything.
    """
    begin = after_id3(data)
    if begin >= len(data):
        # The tag claims more than there is, or more than we see.
        begin = ID3_HEADER_BYTES if begin else 0
        found = next_chain(data, begin, parse, frames=LONG_CHAIN)
        return None if found < 0 else found
    zeros = len(data) - begin - len(data[begin:].lstrip(b"\0"))
    if is_chain(data, begin + zeros, parse):
        return begin + zeros
    if begin:
        found = next_chain(data, begin, parse)
    else:
        found = next_chain(data, zeros, parse, end=zeros + CUT_FRAME_BYTES, frames=LONG_CHAIN)
    return None if found < 0 else found

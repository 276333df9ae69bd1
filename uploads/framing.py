"""Where the first audio frame of a self-synchronising stream lies: ID3v2, MPEG audio and ADTS headers.

Pure functions on bytes, used on arrival (``uploads.formats``) and in the decoding process (``uploads.media``), which
has no Django. Sources: the ID3v2.4 structure document, ISO/IEC 11172-3 2.4.1.3 and 13818-3 (MPEG audio), ISO/IEC
13818-7 6.2 (ADTS).
"""

from collections.abc import Callable
from dataclasses import dataclass

BITRATES_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
BITRATES_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
SAMPLE_RATES_MPEG1 = (44_100, 48_000, 32_000)
ADTS_HEADER_BYTES = 7
ADTS_SAMPLE_RATES = 13
MPEG_HEADER_BYTES = 4
ID3_HEADER_BYTES = 10
# Encoders pad with zeros now and then, and some tags understate their own size.
PADDING_BYTES = 4096
CHAIN = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame header: the frame's length in bytes and what stays equal from frame to frame."""

    length: int
    identity: tuple[int, ...]


FrameParser = Callable[[bytes, int], Frame | None]


def mpeg_layer3_frame(data: bytes, at: int) -> Frame | None:
    """The MPEG layer III frame whose header begins at ``at``, or None. Free format is not one of ours."""
    if at + MPEG_HEADER_BYTES > len(data):
        return None
    first, second, third, _ = data[at : at + MPEG_HEADER_BYTES]
    version, layer = second >> 3 & 3, second >> 1 & 3
    bitrate_index, rate_index, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if first != 0xFF or second & 0xE0 != 0xE0 or version == 1 or layer != 1:
        return None
    if bitrate_index in (0, 15) or rate_index == 3:
        return None
    mpeg1 = version == 3
    bitrate = (BITRATES_MPEG1 if mpeg1 else BITRATES_MPEG2)[bitrate_index] * 1000
    sample_rate = SAMPLE_RATES_MPEG1[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    return Frame((144 if mpeg1 else 72) * bitrate // sample_rate + padding, (version, rate_index))


def adts_frame(data: bytes, at: int) -> Frame | None:
    """The ADTS frame whose header begins at ``at``, or None."""
    if at + ADTS_HEADER_BYTES > len(data):
        return None
    header = data[at : at + ADTS_HEADER_BYTES]
    rate_index = header[2] >> 2 & 15
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    if header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or rate_index >= ADTS_SAMPLE_RATES or length < ADTS_HEADER_BYTES:
        return None
    return Frame(length, (header[1], header[2] & 0xFC))


def after_id3(data: bytes) -> int:
    """The offset behind every ID3v2 tag at the beginning; it may lie past the end of ``data``."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + ID3_HEADER_BYTES:
        size = 0
        for byte in data[at + 6 : at + ID3_HEADER_BYTES]:
            size = size << 7 | byte & 0x7F
        footer = ID3_HEADER_BYTES if data[at + 5] & 0x10 else 0
        at += ID3_HEADER_BYTES + size + footer
    return at


def is_chain(data: bytes, at: int, parse: FrameParser) -> bool:
    """Whether frames follow one another from ``at``: three of them, or as many as ``data`` has room for."""
    first = parse(data, at)
    if first is None:
        return False
    frame: Frame | None = first
    for _ in range(CHAIN - 1):
        if frame is None or frame.identity != first.identity:
            return False
        at += frame.length
        if at + ADTS_HEADER_BYTES > len(data):
            return True
        frame = parse(data, at)
    return frame is not None and frame.identity == first.identity


def first_frame(data: bytes, parse: FrameParser) -> int | None:
    """The offset of the first of a chain of frames, or None.

    Before it only ID3v2 tags and zeros are allowed; after a tag, also a little of anything.
    """
    begin = after_id3(data)
    window = data[begin : begin + PADDING_BYTES]
    zeros = len(window) - len(window.lstrip(b"\0"))
    if is_chain(data, begin + zeros, parse):
        return begin + zeros
    if begin:
        for at in range(begin, begin + len(window)):
            if data[at] == 0xFF and is_chain(data, at, parse):
                return at
    return None

"""Counts samples in an Ogg file by packet, and data between its pages.

Sources: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), RFC 6716 3.1 (Opus), the Vorbis I specification 4.2 and A.2, the FLAC
format (Ogg mapping and frame header), the Speex manual. Granule positions only show how much the last packet is cut: a
cut-out stream keeps old positions.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from media.failure import Failure
from media.frames import before_tags, behind_tags
from media.sound import READ_BYTES, Sound

PAGE_HEADER_BYTES = 27
MAX_PAGE_BYTES = PAGE_HEADER_BYTES + 255 + 255 * 255
MAX_HEADER_PACKET_BYTES = 16 * 1024**2
CONTINUED, FIRST, LAST = 1, 2, 4
NO_POSITION = b"\xff" * 8
OPUS_RATE = 48_000
# Samples of a frame at 48 kHz, by the configuration in a packet's first byte.
OPUS_FRAMES = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
OPUS_MAX_PACKET = 5760
MODE_BITS, MAX_MODES = 41, 64
MODES_BYTES = 400
FLAC_BLOCKS = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)
# Ogg's CRC is zlib's with the bits of each byte reversed.
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Length = Callable[[bytes], int]


class Page(NamedTuple):
    """``lacing`` are the lengths of its segments."""

    flags: int
    position: int | None
    serial: int
    lacing: bytes
    body: bytes
    length: int


@dataclass(slots=True)
class Link:
    """One logical stream of sound, and its sums."""

    rate: int
    headers: int
    measure: Length | None
    skip: int = 0
    codec: str = ""
    pending: bytes = b""
    samples: int = 0
    position: int | None = None
    cut: int = 0
    setup: list[bytes] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return max(0, self.samples - self.cut - self.skip) / self.rate


def count_ogg(file: BinaryIO, size: int) -> Sound:
    """The first stream of each link; 0 seconds for an uncountable codec. Raises :class:`Failure` without a
    whole page.
    """
    begin = behind_tags(file, size)
    end = before_tags(file, begin, size)
    reader = Pages(file, begin, end)
    current: Link | None = None
    serial = -1
    links: list[Link] = []
    sound_bytes = 0
    in_headers = False
    for page in reader:
        if page.flags & FIRST:
            if not in_headers:
                current, in_headers = None, True
            if current is None and (link := begin_link(page)) is not None:
                current, serial = link, page.serial
                links.append(link)
            continue
        in_headers = False
        if current is None or page.serial != serial:
            continue
        sound_bytes += 0 if current.headers else len(page.body)
        add_page(current, page)
    if not reader.pages:
        raise Failure("undecodable_audio", "The audio cannot be decoded: there is no whole page in it.")
    if not links:
        return Sound(0, 0, begin, end)
    sound = Sound(sum(link.seconds for link in links), sound_bytes, begin, reader.last_end, reader.rubbish)
    if not reader.ended and reader.zeros_behind:
        sound.rubbish.append(reader.zeros_behind)
    return sound


class Pages:
    """``rubbish`` has the length of each stretch between pages; ``at`` is the offset of the last one, ``ended`` its end
    mark.
    """

    def __init__(self, file: BinaryIO, begin: int, end: int) -> None:
        self.file = file
        self.at = begin
        self.end = end
        self.rubbish: list[int] = []
        self.zeros_behind = 0
        self.ended = False
        self.pages = 0
        self.base = self.last_end = begin

    def __iter__(self) -> Iterator[Page]:
        self.file.seek(self.at)
        data, at, lost, only_zeros = b"", 0, 0, True
        left = self.end - self.at
        while True:
            if len(data) - at < MAX_PAGE_BYTES and left:
                more = self.file.read(min(READ_BYTES, left))
                left = left - len(more) if more else 0
                self.base += at
                data, at = data[at:] + more, 0
            if at >= len(data):
                break
            page = parse_page(data, at)
            if page is not None:
                if lost:
                    self.rubbish.append(lost)
                    lost, only_zeros = 0, True
                self.pages += 1
                self.ended = bool(page.flags & LAST)
                self.at = self.base + at
                yield page
                at += page.length
                self.last_end = self.base + at
                continue
            found = data.find(b"OggS\0", at + 1)
            after = found if found >= 0 else max(at + 1, len(data) - 4 if left else len(data))
            only_zeros = only_zeros and not data[at:after].strip(b"\0")
            lost += after - at
            at = after
        if lost and only_zeros:
            self.zeros_behind = lost
        elif lost:
            self.rubbish.append(lost)


def parse_page(data: bytes, at: int) -> Page | None:
    header = data[at : at + PAGE_HEADER_BYTES]
    if header[:5] != b"OggS\0" or len(header) < PAGE_HEADER_BYTES:
        return None
    body_at = at + PAGE_HEADER_BYTES + header[26]
    lacing = data[at + PAGE_HEADER_BYTES : body_at]
    end = body_at + sum(lacing)
    if len(lacing) < header[26] or end > len(data):
        return None
    if page_checksum(header[:22] + bytes(4) + data[at + 26 : end]) != int.from_bytes(header[22:26], "little"):
        return None
    position = None if header[6:14] == NO_POSITION else int.from_bytes(header[6:14], "little", signed=True)
    return Page(header[5], position, int.from_bytes(header[14:18], "little"), lacing, data[body_at:end], end - at)


def page_checksum(page: bytes) -> int:
    """CRC-32, polynomial 0x04C11DB7, from 0, not inverted (RFC 3533, 6)."""
    turned = zlib.crc32(page.translate(REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(turned.to_bytes(4, "little").translate(REVERSED), "big")


def begin_link(page: Page) -> Link | None:
    """None for pictures and texts."""
    head = page.body
    if head.startswith(b"OpusHead") and len(head) >= 19:
        return Link(OPUS_RATE, 1, opus_samples, skip=int.from_bytes(head[10:12], "little"))
    if head.startswith(b"\x01vorbis") and len(head) >= 30:
        rate = int.from_bytes(head[12:16], "little")
        return Link(max(1, rate), 2, None, codec="vorbis", setup=[head])
    if head.startswith(b"\x7fFLAC") and len(head) >= 51:
        rate = int.from_bytes(head[27:30], "big") >> 4
        return Link(max(1, rate), int.from_bytes(head[7:9], "big"), flac_samples)
    if head.startswith(b"Speex   ") and len(head) >= 72:
        fields = [int.from_bytes(head[at : at + 4], "little") for at in (36, 56, 64, 68)]
        rate, frame, frames, extra = fields
        length = frame * max(1, frames)
        return Link(max(1, rate), 1 + min(extra, 100), lambda packet: length)
    return None


def add_page(link: Link, page: Page) -> None:
    """Measure the packets that end on the page; the last page says how many samples count."""
    at, start, samples, ended = 0, 0, 0, False
    body = link.pending + page.body if page.flags & CONTINUED else page.body
    at = len(body) - len(page.body)
    for length in page.lacing:
        at += length
        if length == 255:
            continue
        ended = True
        packet = body[start:at]
        start = at
        if link.headers:
            add_header(link, packet)
        elif packet and link.measure:
            samples += link.measure(packet)
    # Only the first bytes of an unfinished packet are needed, unless it is a header.
    link.pending = body[start : start + (MAX_HEADER_PACKET_BYTES if link.headers else 64)]
    link.samples += samples
    if not ended or page.position is None:
        return
    if page.flags & LAST:
        before = link.position if link.position is not None else 0
        over = before + samples - page.position
        if 0 < over <= samples:
            link.cut += over
    elif link.position is None and samples > 0 and 0 <= page.position < samples and link.codec == "vorbis":
        link.cut += samples - page.position
    link.position = page.position if samples or link.position is not None else None


def add_header(link: Link, packet: bytes) -> None:
    link.headers -= 1
    if link.codec == "vorbis":
        link.setup.append(packet)
        if not link.headers:
            link.measure = vorbis_measure(link.setup[0], packet)
            link.setup = []


def opus_samples(packet: bytes) -> int:
    """At 48 kHz (RFC 6716, 3.1)."""
    frame = OPUS_FRAMES[packet[0] >> 3]
    code = packet[0] & 3
    frames = 1 if code == 0 else 2 if code < 3 else packet[1] & 63 if len(packet) > 1 else 0
    return min(frame * frames, OPUS_MAX_PACKET)


def flac_samples(packet: bytes) -> int:
    """The block size; 0 for metadata."""
    if len(packet) < 6 or packet[0] != 0xFF or packet[1] & 0xFE != 0xF8:
        return 0
    code = packet[2] >> 4
    if code not in (6, 7):
        return FLAC_BLOCKS[code]
    # The frame number is coded like a UTF-8 character, in one to seven bytes.
    lead = packet[4]
    at = 5 if lead < 0x80 else 4 + 8 - (lead ^ 0xFF).bit_length()
    return int.from_bytes(packet[at : at + code - 5], "big") + 1


def vorbis_measure(identification: bytes, setup: bytes) -> Length:
    """Half of a packet's block and half of the one before overlap. The modes are found from the end of the setup
    header.
    """
    blocks = (1 << (identification[28] & 15), 1 << (identification[28] >> 4))
    modes = vorbis_modes(setup)
    bits = max(0, (len(modes) - 1).bit_length())
    before = 0

    def measure(packet: bytes) -> int:
        nonlocal before
        if packet[0] & 1:
            return 0
        mode = packet[0] >> 1 & ((1 << bits) - 1)
        block = blocks[modes[mode] if mode < len(modes) else 0]
        samples = (before + block) // 4 if before else 0
        before = block
        return samples

    return measure


def vorbis_modes(setup: bytes) -> list[int]:
    """Whether each mode has long blocks; 41 bits: the flag, two zeros of 16 bits, a mapping of 8."""
    end = setup.rstrip(b"\0")[-MODES_BYTES:]
    tail = [byte >> at & 1 for byte in end for at in range(8)]
    while tail and not tail.pop():
        pass
    found: list[int] = []
    best: list[int] = []
    for count in range(1, MAX_MODES + 1):
        begin = len(tail) - MODE_BITS * count
        if begin < 6:
            break
        mode = tail[begin : begin + MODE_BITS]
        if any(mode[1:33]) or value(mode[33:41]) >= 64:
            break
        found.insert(0, mode[0])
        if value(tail[begin - 6 : begin]) + 1 == count:
            best = list(found)
    return best or [0]


def value(bits: list[int]) -> int:
    return sum(bit << at for at, bit in enumerate(bits))

"""Counts the sound of a container by packet, without decoding.

Time stamps are those of what is heard, since FFmpeg applies edit lists. An hour takes half a second of CPU; beyond a
quarter of the time limit, the header is used.
"""

import resource
import time
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet

from media.failure import Failure
from media.frames import before_padding
from media.sound import LOST_SECONDS, Sound, read_at

# No encoder writes a packet of this many zeros; shorter ones may be silence.
ZERO_PACKET_BYTES = 16
# Bytes between two packets of one stream: headers of clusters, pages, frames.
BETWEEN_PACKETS_BYTES = 4096
# A packet's offset is that of its block, whose header is not counted in its size.
BLOCK_HEADER_BYTES = 64
# Elements that may follow the last cluster (RFC 9559, 5.1).
MATROSKA_BEHIND = (
    b"\x1c\x53\xbb\x6b", b"\x12\x54\xc3\x67", b"\x19\x41\xa4\x69", b"\x11\x4d\x9b\x74", b"\x10\x43\xa7\x70",
    b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1a\x45\xdf\xa3",
)  # fmt: skip
BUDGET_FRACTION = 4
PACKETS_BETWEEN_LOOKS = 10_000


def count_packets(file: BinaryIO, container: InputContainer, stream: AudioStream, demuxer: str, size: int) -> Sound:
    """From the container's beginning; :meth:`Sound.check_whole` then judges. Raises :class:`Failure`."""
    count = Count(container, stream, demuxer)
    deadline = time.monotonic() + budget()
    try:
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                count.add(packet)
            if number % PACKETS_BETWEEN_LOOKS == 0 and time.monotonic() > deadline:
                return by_header(container, stream, size)
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        if not count.bytes:
            reason = f"The audio cannot be decoded: reading breaks off ({error.strerror})."
            raise Failure("undecodable_audio", reason) from error
    return count.sound(file, size)


def budget() -> float:
    limit, _ = resource.getrlimit(resource.RLIMIT_CPU)
    return float("inf") if limit == resource.RLIM_INFINITY else limit / BUDGET_FRACTION


def by_header(container: InputContainer, stream: AudioStream, size: int) -> Sound:
    return Sound(header_seconds(container, stream), size)


def header_seconds(container: InputContainer, stream: AudioStream) -> float:
    """0 if unknown."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else 0


class Count:
    def __init__(self, container: InputContainer, stream: AudioStream, demuxer: str) -> None:
        self.demuxer = demuxer
        self.alone = len(container.streams) == 1
        self.container_seconds = container.duration / av.time_base if container.duration else 0
        self.stream_seconds = header_seconds(container, stream)
        self.unit = float(stream.time_base or 0)
        self.is_pcm = stream.codec_context.name.startswith("pcm_")
        self.bytes = 0
        self.last = b""
        self.units = 0
        self.coded_units = 0
        self.first: int | None = None
        self.end = 0
        self.lost: list[float] = []
        self.zeros = 0
        self.behind = 0
        self.holes: list[tuple[int, int]] = []

    def add(self, packet: "Packet[AudioStream]") -> None:
        self.bytes += packet.size
        length = packet.duration or 0
        self.coded_units += length
        if not packet.is_discard:
            self.units += length
        if packet.pos is not None:
            between = packet.pos - self.behind
            if self.behind and between > BETWEEN_PACKETS_BYTES and packet.pts is not None:
                self.holes.append((between, packet.pts - self.end))
            self.behind = packet.pos + packet.size
            self.last = bytes(packet) if self.demuxer == "matroska" else b""
        if packet.pts is not None and not packet.is_discard:
            self.first = packet.pts if self.first is None else self.first
            self.end = max(self.end, packet.pts + length)
        if self.is_pcm or packet.size < ZERO_PACKET_BYTES or bytes(packet).strip(b"\0"):
            self.end_zeros()
        else:
            self.zeros += length

    def end_zeros(self) -> None:
        if self.zeros:
            self.lost.append(self.zeros * self.unit)
            self.zeros = 0

    def sound(self, file: BinaryIO, size: int) -> Sound:
        self.end_zeros()
        added = self.units * self.unit
        span = (self.end - max(0, self.first or 0)) * self.unit
        found = Sound(span or added, self.bytes, 0, size, lost=self.lost, coded_seconds=self.coded_units * self.unit)
        if self.demuxer == "flac":
            # Frames are numbered: those that the numbers or the header count and that were not found are missing.
            found.seconds = added
            declared = self.stream_seconds
            if (missing := max(declared, span) - added) > 0:
                found.lost = [missing]
        elif self.demuxer == "matroska":
            found.seconds = max(span, added if added > span + LOST_SECONDS else 0)
            if self.alone and found.seconds:
                found.lost += self.unread(file, size, self.bytes / (added or span))
        elif self.demuxer == "asf":
            declared = self.stream_seconds or self.container_seconds
            found.seconds = declared if abs(declared - span) < 1 and declared else span
        elif self.demuxer in ("wav", "aiff"):
            found.seconds = added or span
        return found

    def unread(self, file: BinaryIO, size: int, rate: float) -> list[float]:
        """The seconds that FFmpeg skipped, at ``rate`` bytes a second. A gap in the times alone is silence."""
        lost = [min(between / rate, gap * self.unit) for between, gap in self.holes if gap > 0]
        left = size - self.behind
        behind = read_at(file, self.behind, BLOCK_HEADER_BYTES)
        if left > BETWEEN_PACKETS_BYTES and not any(element in behind for element in MATROSKA_BEHIND):
            zeros = len(self.last) - len(self.last.rstrip(b"\0"))
            if zeros >= ZERO_PACKET_BYTES or before_padding(file, self.behind, size) > self.behind:
                lost.append(left / rate)
        return lost

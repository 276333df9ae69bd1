"""Counts the frames of MP3 and AAC in ADTS, and the data between them.

Neither has a reliable index in joined, cut and tagged files. An hour is 140,000 headers, less work than decoding a few
seconds.
"""

from collections import deque
from typing import BinaryIO, NamedTuple

from media.failure import Failure
from media.framing import (
    CHAIN,
    ID3_HEADER_BYTES,
    LONG_CHAIN,
    Frame,
    FrameParser,
    adts_frame,
    id3_length,
    is_chain,
    mpeg_layer3_frame,
    next_chain,
    tag_length,
    tag_length_before,
)
from media.sound import LOST_SECONDS, READ_BYTES, Sound, read_at

PARSERS: dict[str, FrameParser] = {"mp3": mpeg_layer3_frame, "aac": adts_frame}
# Enough for a chain of the longest frames.
LOOK_AHEAD_BYTES = 64 * 1024
TAG_PROBE_BYTES = 16 * 1024
PADDING_BYTES = 4096
MAX_PADDING_BYTES = 64 * 1024**2
MAX_TAGS = 1000
# The decoder's delay, which LAME's numbers do not include.
DECODER_DELAY = 529
WITH_GAPS = (b"LAME", b"Lavf", b"Lavc")
# A frame that ends with this many more zeros than earlier ones was not written to its end.
CUT_ZEROS = 16
FRAMES_BEFORE = 24


class Stretch(NamedTuple):
    """Data outside of frames; ``kind`` is zeros, junk or tag."""

    kind: str
    at: int
    length: int


class InfoFrame(NamedTuple):
    """The first frame's facts about an MP3; 0 frames if unknown. ``before`` and ``behind`` are samples that the encoder
    added.
    """

    frames: int
    before: int
    behind: int


def count_frames(file: BinaryIO, demuxer: str, size: int) -> Sound:
    """Raises :class:`Failure` without a frame."""
    parse = PARSERS[demuxer]
    begin = behind_tags(file, size)
    if begin >= size:
        # The tag claims more bytes than the file has; the sound may begin within it.
        begin = ID3_HEADER_BYTES
    walk = Walk(file, parse, begin, before_tags(file, begin, size))
    walk.run()
    if walk.first is None:
        raise Failure("undecodable_audio", "The audio cannot be decoded: there is no frame of sound in it.")
    sound = Sound(walk.seconds, walk.sound_bytes, walk.first_at, walk.last_end, walk.rubbish(), frames=walk.number)
    head = read_at(file, walk.first_at, walk.first.length)
    info = info_frame(head) if demuxer == "mp3" else None
    if info is not None:
        without_info(sound, walk.first, info)
        missing = info.frames * walk.first.samples / walk.first.sample_rate - sound.seconds
        if walk.padded_behind and missing > LOST_SECONDS:
            raise Failure("undecodable_audio", f"The audio is damaged: its last {missing:.1f} seconds are zeros.")
        sound.coded_seconds = sound.seconds
        trim(sound, walk.first, info)
    return sound


def without_info(sound: Sound, first: Frame, info: InfoFrame) -> None:
    """The info frame is no sound, unless it is the only one."""
    length = first.samples / first.sample_rate
    if sound.seconds > length * 1.5:
        sound.seconds -= length
        sound.sound_bytes -= first.length


def trim(sound: Sound, first: Frame, info: InfoFrame) -> None:
    """Subtract the samples that the encoder added."""
    for samples in (info.before + info.behind, info.before):
        if samples / first.sample_rate < sound.seconds:
            sound.seconds -= samples / first.sample_rate
            return


def info_frame(frame: bytes) -> InfoFrame | None:
    """Xing or Info with LAME's extension, or VBRI."""
    for name in (b"Xing", b"Info"):
        found = frame.find(name, 4, 64)
        if found >= 0:
            flags = int.from_bytes(frame[found + 4 : found + 8], "big")
            frames = int.from_bytes(frame[found + 8 : found + 12], "big") if flags & 1 else 0
            lame = found + 8 + 4 * (flags & 1) + 2 * (flags & 2) + 25 * (flags & 4) + (flags & 8) // 2
            if frame[lame : lame + 4] not in WITH_GAPS:
                return InfoFrame(frames, 0, 0)
            gaps = int.from_bytes(frame[lame + 21 : lame + 24], "big")
            return InfoFrame(frames, (gaps >> 12) + DECODER_DELAY, max(0, (gaps & 0xFFF) - DECODER_DELAY))
    if frame[36:40] == b"VBRI":
        return InfoFrame(int.from_bytes(frame[50:54], "big"), 0, 0)
    return None


def behind_tags(file: BinaryIO, size: int) -> int:
    """After leading ID3v2 tags, possibly beyond the end."""
    at = 0
    for _ in range(MAX_TAGS):
        length = id3_length(read_at(file, at, 10), 0) if at < size else 0
        if not length:
            break
        at += length
    return at


def before_tags(file: BinaryIO, begin: int, size: int) -> int:
    """The offset of trailing tags, not below ``begin``."""
    end = size
    for _ in range(MAX_TAGS):
        length = tag_length_before(last_bytes(file, begin, end))
        if not length:
            padded = without_zeros(file, begin, end)
            length = tag_length_before(last_bytes(file, begin, padded))
            length += end - padded if length else 0
        if not length or end - length < begin:
            break
        end -= length
    return end


def before_padding(file: BinaryIO, begin: int, size: int) -> int:
    """The offset of trailing tags and long padding, not below ``begin``. A few zeros are sound."""
    end = before_tags(file, begin, size)
    padded = without_zeros(file, begin, end)
    return end if end - padded < PADDING_BYTES else min(end, padded + CUT_ZEROS)


def last_bytes(file: BinaryIO, begin: int, end: int) -> bytes:
    start = max(begin, end - TAG_PROBE_BYTES)
    return read_at(file, start, end - start)


def without_zeros(file: BinaryIO, begin: int, end: int) -> int:
    """After the last non-zero byte within the longest padding."""
    begin = max(begin, end - MAX_PADDING_BYTES)
    while end > begin:
        start = max(begin, end - READ_BYTES)
        data = read_at(file, start, end - start).rstrip(b"\0")
        if data:
            return start + len(data)
        end = start
    return end


class Walk:
    """One pass over the file."""

    def __init__(self, file: BinaryIO, parse: FrameParser, begin: int, end: int) -> None:
        self.file = file
        self.parse = parse
        self.begin = begin
        self.end = end
        self.data = b""
        # The offset in the file of the first byte of ``data``.
        self.base = begin
        self.samples: dict[int, int] = {}
        self.sound_bytes = 0
        self.number = 0
        self.first: Frame | None = None
        self.first_at = begin
        self.last_end = begin
        self.identity: tuple[int, ...] = ()
        self.recent: deque[tuple[int, int]] = deque(maxlen=FRAMES_BEFORE)
        self.stretches: list[Stretch] = []
        self.cut_before: set[int] = set()

    @property
    def seconds(self) -> float:
        return sum(samples / rate for rate, samples in self.samples.items())

    def run(self) -> None:
        at = 0
        while True:
            at = self.fill(at)
            if at >= len(self.data):
                return
            after = self.frames(at)
            at = self.other(after) if after == at else after

    def fill(self, at: int) -> int:
        """Read on, so that a chain fits after ``at``; return its new place."""
        if len(self.data) - at >= LOOK_AHEAD_BYTES or self.base + len(self.data) >= self.end:
            return at
        kept = self.data[at:]
        self.base += at
        self.file.seek(self.base + len(kept))
        self.data = kept + self.file.read(min(READ_BYTES, max(0, self.end - self.base - len(kept))))
        if len(self.data) == len(kept):
            self.end = self.base + len(kept)
        return 0

    def frames(self, at: int) -> int:
        """Count a chain of frames; return its end, or the begin of the look-ahead."""
        data, parse = self.data, self.parse
        whole = self.base + len(data) >= self.end
        stop = len(data) if whole else len(data) - LOOK_AHEAD_BYTES
        frame = parse(data, at)
        if frame is None or (not self.continues(frame, at) and not is_chain(data, at, parse, frames=self.needed())):
            return at
        identity, samples, first, first_at = frame.identity, 0, frame, self.base + at
        while frame is not None and frame.identity == identity and at + frame.length <= len(data):
            self.recent.append((self.base + at, frame.length))
            self.sound_bytes += frame.length
            self.number += 1
            samples += frame.samples
            rate = frame.sample_rate
            at += frame.length
            self.identity = identity
            if at >= stop:
                break
            frame = parse(data, at)
        if samples:
            if self.first is None:
                self.first, self.first_at = first, first_at
            self.samples[rate] = self.samples.get(rate, 0) + samples
            self.last_end = self.base + at
        elif whole and frame is not None and at + frame.length > len(data):
            # The last frame is cut, as by stream recorders.
            return len(data)
        return at

    def continues(self, frame: Frame, at: int) -> bool:
        return self.last_end == self.base + at and self.first is not None and frame.identity == self.identity

    def needed(self) -> int:
        """After leading junk, more frames exclude chance."""
        return CHAIN if self.first is not None or self.begin or not self.stretches else LONG_CHAIN

    def other(self, at: int) -> int:
        """Note a stretch at ``at``; return its end as far as read."""
        length = tag_length(self.data, at)
        if length:
            self.note("tag", at, length)
            return self.skip(at, length)
        zeros = len(self.data) - at - len(self.data[at:].lstrip(b"\0"))
        if zeros >= 4 or zeros == len(self.data) - at:
            self.note("zeros", at, zeros)
            return at + zeros
        whole = self.base + len(self.data) >= self.end
        limit = len(self.data) if whole else max(at + 1, len(self.data) - LOOK_AHEAD_BYTES)
        found = next_chain(self.data, at + 1, self.parse, end=limit, frames=self.needed())
        after = limit if found < 0 else found
        for mark in (b"ID3", b"APETAGEX", b"LYRICSBEGIN", bytes(64)):
            if (marked := self.data.find(mark, at + 1, after)) >= 0 and (mark[0] == 0 or tag_length(self.data, marked)):
                after = marked
        self.note("junk", at, after - at)
        return after

    def skip(self, at: int, length: int) -> int:
        if at + length <= len(self.data):
            return at + length
        self.base = min(self.end, self.base + at + length)
        self.data = b""
        return 0

    def note(self, kind: str, at: int, length: int) -> None:
        """Extend the last stretch, or begin another."""
        start = self.base + at
        if self.stretches:
            last = self.stretches[-1]
            if last.kind == kind and last.at + last.length == start and kind != "tag":
                self.stretches[-1] = Stretch(kind, last.at, last.length + length)
                return
        if kind == "zeros" and self.last_frame_is_cut(start):
            self.cut_before.add(start)
        self.stretches.append(Stretch(kind, start, length))

    def last_frame_is_cut(self, at: int) -> bool:
        """Whether zeros began within the frame that ends at ``at``."""
        if not self.recent or sum(self.recent[-1]) != at:
            return False
        ends = []
        for start, length in self.recent:
            frame = read_at(self.file, start, length)
            ends.append(len(frame) - len(frame.rstrip(b"\0")))
        return ends[-1] > max(ends[:-1], default=0) + CUT_ZEROS

    @property
    def padded_behind(self) -> bool:
        return any(stretch.kind == "zeros" and stretch.at >= self.last_end for stretch in self.stretches)

    def rubbish(self) -> list[int]:
        """The length of each stretch that should be sound, with adjacent zeros and junk.

        Zeros between whole frames are padding; those within a frame replaced it. Leading junk is the rest of a cut
        frame or tag.
        """
        found: list[int] = []
        group: list[Stretch] = []
        for stretch in [*self.stretches, Stretch("tag", -1, 0)]:
            touches = group and group[-1].at + group[-1].length == stretch.at
            if stretch.kind == "tag" or not touches:
                found += self.judge(group)
                group = []
            if stretch.kind != "tag":
                group.append(stretch)
        return found

    def judge(self, group: list[Stretch]) -> list[int]:
        if not group:
            return []
        zeros = [stretch for stretch in group if stretch.kind == "zeros"]
        junk = sum(stretch.length for stretch in group if stretch.kind == "junk")
        if group[0].at < self.first_at:
            return [sum(stretch.length for stretch in group)] if zeros and junk and not self.begin else []
        if not junk and not any(stretch.at in self.cut_before for stretch in zeros):
            return []
        return [sum(stretch.length for stretch in group)]

"""Decodes the beginning and the end of an audio stream."""

from collections import deque
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple

import av
import av.subtitles.stream
import av.video.stream
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import DecoderNotFoundError, ExperimentalError, FFmpegError, InvalidDataError, PatchWelcomeError
from av.packet import Packet
from av.stream import Disposition

from media.failure import Failure
from media.frames import before_tags
from media.sound import LOST_SECONDS, Part, Sound, check_losses

# Imported now: PyAV needs them for files with such a stream (artwork is one), when no file can be opened.
STREAM_KINDS = (av.subtitles.stream, av.video.stream)
WINDOW_SECONDS = 3
# HE-AAC shows its second channel or double rate only after some packets.
FRAMES_TO_HEAR = 8
# A seek may land too late to leave anything to decode; then it goes further back.
TAIL_SECONDS = (WINDOW_SECONDS, 30)
# In an elementary stream the end is found by bytes: enough for trailing tags and the largest frames.
TAIL_BYTES = 512 * 1024
# Packets kept of a file without a duration, which is read through: three seconds of 2.5 ms packets.
TAIL_PACKETS = 1200
# Without a container, a decoder finds the frames itself: joined, cut and edited files have a few broken ones.
SELF_SYNCHRONISING = frozenset(("mp3", "aac"))
TOLERATED_FRACTION = 0.1
# Formats whose last packet may be cut: stream recorders and closed browser tabs leave one, a pad byte resembles one in
# a WAV, and FLAC has a count of its own.
MAY_END_WITHIN_A_PACKET = SELF_SYNCHRONISING | {"matroska", "flac", "wav", "aiff"}
# The first packets after a seek refer to earlier ones (bit reservoirs, overlapping windows).
WARM_UP_PACKETS = 4
READ_BUFFER_BYTES = 256 * 1024
# Containers with an index, whose packets could hold anything: only decoding shows it.
HOLDS_ANYTHING = frozenset(("mov", "asf", "matroska"))
PICTURE_CODECS = frozenset(("mjpeg", "png", "bmp", "gif", "webp", "tiff"))
MIDDLE_WINDOWS = 24
MIDDLE_SECONDS = 1
# FFmpeg's errors for its own gaps.
FFMPEG_LACKS = (PatchWelcomeError, DecoderNotFoundError, NotImplementedError, ExperimentalError)
UNSUPPORTED = "The file may be whole, but this installation cannot decode it ({reason}), so that it cannot be checked."


class Heard(NamedTuple):
    """Decoded seconds, and sample rate and channels of the output."""

    seconds: float
    sample_rate: int
    channels: int


def check_stream(file: BinaryIO, container: InputContainer, stream: AudioStream, demuxer: str, sound: Sound) -> Heard:
    """Decode the first and last seconds, and windows throughout where packets could hold anything. The container stands
    at its beginning.

    Raises :class:`Failure` with ``truncated_audio``, ``undecodable_audio``, ``unsupported_codec`` or
    ``video_not_accepted``.
    """
    check_no_film(container, demuxer)
    head = Window(demuxer)
    head.decode(container.demux(stream), seconds=WINDOW_SECONDS)
    head.check("beginning")
    tail = head if head.reached_end else decode_tail(container, stream, demuxer, sound.end - sound.begin)
    check_end(stream, container, demuxer, tail.end, sound)
    tail.check("end")
    if demuxer == "flac":
        tail.check_last_packet(sound, padding=before_tags(file, 0, file.seek(0, 2)) - sound.end)
    seconds = head.heard + (0 if tail is head else tail.heard)
    if demuxer in HOLDS_ANYTHING and not head.reached_end:
        seconds += decode_between(container, stream, demuxer)
    return Heard(seconds, head.sample_rate, head.channels)


def open_container(file: BinaryIO | Part | BytesIO, demuxer: str) -> InputContainer:
    """With exactly this demuxer."""
    file.seek(0)
    try:
        return av.open(
            file,
            mode="r",
            format=demuxer,
            container_options={"protocol_whitelist": "file", "err_detect": "crccheck"},
            metadata_errors="replace",
            buffer_size=READ_BUFFER_BYTES,
        )
    except FFmpegError as error:
        raise undecodable(error, "it cannot be opened") from error


def first_audio_stream(container: InputContainer) -> AudioStream:
    """Raises :class:`Failure` without a stream or a decoder for it."""
    if not container.streams.audio:
        raise Failure("no_audio_stream", "There is no audio in this file.")
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise Failure("unsupported_codec", UNSUPPORTED.format(reason="its codec is not known"))
    stream.codec_context.thread_count = 1
    # Padding is kept: a short file may claim to consist of nothing else.
    stream.codec_context.options = {"err_detect": "crccheck", "flags2": "+skip_manual"}
    return stream


def check_no_film(container: InputContainer, demuxer: str) -> None:
    """Raise :class:`Failure` for moving pictures in an MP4, not for covers."""
    for stream in container.streams.video if demuxer == "mov" else ():
        codec = stream.codec_context.name if stream.codec_context is not None else ""
        if codec not in PICTURE_CODECS and not stream.disposition & Disposition.attached_pic:
            raise Failure("video_not_accepted", "There is a film in this file, and only audio is accepted.")


def undecodable(error: FFmpegError, what: str) -> Failure:
    if isinstance(error, MemoryError):
        return Failure("media_memory_limit", "Decoding the file took too much memory.")
    if isinstance(error, FFMPEG_LACKS):
        return Failure("unsupported_codec", UNSUPPORTED.format(reason=error.strerror))
    if isinstance(error, EOFError):
        return Failure("truncated_audio", f"The file is cut short: {what}, it ends before any sound.")
    return Failure("undecodable_audio", f"The audio cannot be decoded: {what} ({error.strerror}).")


def decode_tail(container: InputContainer, stream: AudioStream, demuxer: str, size: int) -> "Window":
    """The last seconds, found by time, by bytes, or by reading through."""
    window = Window(demuxer, warm_up=WARM_UP_PACKETS)
    if demuxer in SELF_SYNCHRONISING:
        container.seek(max(0, size - TAIL_BYTES), unsupported_byte_offset=True)
        window.decode(container.demux(stream))
        return window
    if container.duration is None:
        container.seek(0)
        window.decode(last_packets(container.demux(stream)))
        return window
    for seconds in TAIL_SECONDS:
        container.seek(max(0, (container.start_time or 0) + container.duration - seconds * av.time_base))
        window = Window(demuxer, warm_up=WARM_UP_PACKETS)
        window.decode(container.demux(stream))
        if window.decoded:
            break
    return window


def decode_between(container: InputContainer, stream: AudioStream, demuxer: str) -> float:
    """Decode a second at many places, or all of a short file; return the decoded seconds."""
    length = container.duration or 0
    start = container.start_time or 0
    heard = 0.0
    lost: list[float] = []
    places = range(1, MIDDLE_WINDOWS + 1) if length > MIDDLE_WINDOWS * MIDDLE_SECONDS * av.time_base else (0,)
    for number in places:
        container.seek(start + length * number // (MIDDLE_WINDOWS + 1))
        window = Window(demuxer, warm_up=WARM_UP_PACKETS)
        window.decode(container.demux(stream), seconds=MIDDLE_SECONDS if number else float("inf"))
        heard += window.heard
        lost += window.lost
    check_losses(lost, heard)
    return heard


def last_packets(packets: "Iterator[Packet[AudioStream]]") -> "Iterable[Packet[AudioStream]]":
    try:
        return deque(packets, maxlen=TAIL_PACKETS)
    except FFmpegError as error:
        raise undecodable(error, "reading breaks off") from error


def seconds_of(packet: "Packet[AudioStream]") -> float:
    return float((packet.duration or 0) * packet.time_base)


class Window:
    """A run of packets: how many gave sound, how many failed, and where the sound ends."""

    def __init__(self, demuxer: str, *, warm_up: int = 0) -> None:
        self.demuxer = demuxer
        self.warm_up = warm_up
        self.decoded = 0
        self.failed = 0
        self.heard = 0.0
        self.sample_rate = 0
        self.channels = 0
        self.end: float | None = None
        self.reached_end = False
        self.reason = ""
        # The seconds of each run of packets that are broken.
        self.lost: list[float] = []
        self.last_failed = False
        self.last_size = 0
        self.last_seconds = 0.0

    def decode(self, packets: "Iterable[Packet[AudioStream]]", *, seconds: float = float("inf")) -> None:
        """Until ``seconds`` of sound or the end (``reached_end``)."""
        last_failed = False
        try:
            for number, packet in enumerate(packets):
                sound = self.decode_packet(packet)
                if packet.size:
                    failed_before, last_failed = last_failed, not sound and number >= self.warm_up
                    self.failed += last_failed
                    if last_failed:
                        self.note_lost(packet, goes_on=failed_before)
                    self.last_size, self.last_seconds = packet.size, seconds_of(packet)
                if self.heard + sum(self.lost) >= seconds:
                    return
            self.reached_end = True
        except InvalidDataError as error:
            if self.demuxer not in SELF_SYNCHRONISING:
                raise undecodable(error, "reading breaks off") from error
        except FFmpegError as error:
            raise undecodable(error, "reading breaks off") from error
        self.last_failed = last_failed
        if last_failed and self.demuxer in MAY_END_WITHIN_A_PACKET:
            self.failed -= 1

    def note_lost(self, packet: "Packet[AudioStream]", *, goes_on: bool) -> None:
        length = seconds_of(packet)
        if goes_on and self.lost:
            self.lost[-1] += length
        else:
            self.lost.append(length)

    def decode_packet(self, packet: "Packet[AudioStream]") -> bool:
        """False if it is broken. One that only fills the decoder is not."""
        try:
            frames = packet.decode()
        except FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
            if isinstance(error, FFMPEG_LACKS):
                raise undecodable(error, "") from error
            self.reason = error.strerror or type(error).__name__
            return False
        for frame in frames:
            length = frame.samples / frame.sample_rate
            self.decoded += 1
            self.heard += length
            if self.decoded <= FRAMES_TO_HEAR:
                self.sample_rate, self.channels = frame.sample_rate, frame.layout.nb_channels
            if frame.time is not None:
                self.end = frame.time + length
        return True

    def check_last_packet(self, sound: Sound, *, padding: int) -> None:
        """Raise :class:`Failure` if the last packet is broken and too large: without a next frame, FFmpeg takes the
        whole rest for it.
        """
        if self.last_failed and sound.bitrate:
            missing = (self.last_size + padding) * 8 / sound.bitrate - self.last_seconds
            check_losses([missing], sound.seconds)

    def check(self, where: str) -> None:
        """Raise :class:`Failure` if too little could be decoded."""
        tolerated = TOLERATED_FRACTION * self.decoded if self.demuxer in SELF_SYNCHRONISING else 0
        if not self.decoded or self.failed > tolerated:
            reason = self.reason or "no sound comes out"
            raise Failure("undecodable_audio", f"The audio cannot be decoded: its {where} is damaged ({reason}).")


def check_end(stream: AudioStream, container: InputContainer, demuxer: str, end: float | None, sound: Sound) -> None:
    """Compare the end with the header's length, for formats with exact time stamps, unless files were joined."""
    if end is None:
        return
    if demuxer == "flac" and stream.duration and stream.time_base:
        declared, tolerance = float(stream.duration * stream.time_base), 0.001
    elif demuxer == "matroska" and container.duration and len(container.streams) == 1:
        declared, tolerance = ((container.start_time or 0) + container.duration) / av.time_base, 1.0
    else:
        return
    if declared - end > tolerance and sound.seconds < declared + LOST_SECONDS:
        reason = f"The file is cut short: its header says {declared:.3f} seconds, the sound ends at {end:.3f}."
        raise Failure("truncated_audio", reason)

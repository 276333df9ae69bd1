"""Measures the sound of a file of any format, whatever its header says."""

import re
from io import BytesIO
from typing import BinaryIO

from av.audio.stream import AudioStream
from av.container import InputContainer

from media.asf import broken_packets
from media.frames import PARSERS, before_padding, count_frames
from media.ogg import count_ogg
from media.packets import count_packets
from media.riff import find_sound
from media.sound import Part, Sound, read_at


def survey(file: BinaryIO, demuxer: str, size: int) -> Sound:
    """``seconds`` is 0 where counting takes a demuxer. Raises :class:`Failure` without sound."""
    if demuxer in PARSERS:
        return count_frames(file, demuxer, size)
    if demuxer == "ogg":
        return count_ogg(file, size)
    if demuxer == "flac":
        return Sound(0, 0, 0, before_padding(file, 0, size))
    if demuxer in ("wav", "aiff") and (data := find_sound(file, demuxer, size)) is not None:
        return Sound(0, 0, 0, data.readable_end or before_padding(file, min(data.end, size), size))
    return Sound(0, 0, 0, size)


def measure(
    file: BinaryIO, container: InputContainer, stream: AudioStream, demuxer: str, sound: Sound
) -> tuple[Sound, bool]:
    """Complete :func:`survey`; also return whether packets were read. The container must stand at its beginning. Raises
    :class:`Failure`.
    """
    if sound.seconds:
        return sound, False
    size = file.seek(0, 2)
    if demuxer in ("wav", "aiff") and (rate := pcm_rate(stream)):
        data = find_sound(file, demuxer, size)
        length = data.end - data.begin if data is not None else 0
        return Sound(length / rate, length, 0, sound.end), False
    found = count_packets(file, container, stream, demuxer, sound.end)
    if demuxer == "asf":
        runs, packets = broken_packets(file, size)
        found.lost += [run * found.seconds / packets for run in runs]
    return found, True


def pcm_rate(stream: AudioStream) -> float:
    """Bytes a second; 0 if compressed."""
    name = stream.codec_context.name
    if not name.startswith("pcm_"):
        return 0
    digits = re.search(r"\d+", name)
    bits = int(digits.group()) if digits else 8
    return bits // 8 * stream.channels * stream.sample_rate


def sound_only(file: BinaryIO, sound: Sound) -> Part | BytesIO:
    if sound.frames == 1:
        # FFmpeg accepts a first frame only with a second one.
        return BytesIO(2 * read_at(file, sound.begin, sound.end - sound.begin))
    return Part(file, sound.begin, sound.end)

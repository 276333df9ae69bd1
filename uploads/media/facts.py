"""What a file says about itself: length, rate, channels, codec and text tags. Runs in the sandbox."""

from decimal import ROUND_HALF_UP, Decimal
from typing import Any, BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from uploads.media.decode import first_audio_stream, open_container, undecodable
from uploads.media.mutagen_reader import read_info
from uploads.media.tag_reader import read_tags, without_large_tags
from uploads.media.tags import CommonTags, common_tags

# For WAV and AIFF the demuxer's length is right even where a recorder could not write it into the header.
MUTAGEN_KNOWS_LENGTH = frozenset(("mp3", "ogg", "mov", "asf"))
# An ADTS stream has no header, and FFmpeg's guess from the first frames is wrong for a variable bit rate.
LENGTH_IS_COUNTED = frozenset(("aac",))
NOT_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", "creation_time", "duration", "handler_name"))


def read_facts(file: BinaryIO, demuxer: str) -> dict[str, Any]:
    """Read the facts; raises :class:`Failure`.

    ``duration`` is in seconds (decimal text, three places), ``sample_rate`` in Hz, ``bitrate`` in kbit/s, ``codec`` as
    FFmpeg names it, ``tags`` as :func:`uploads.media.tags.common_tags` gives them, ``tags_cut`` whether some are not
    among them.
    """
    size = file.seek(0, 2)
    found = read_tags(file, demuxer)
    info = read_info(without_large_tags(file, demuxer), demuxer)
    with open_container(file, demuxer) as container:
        stream = first_audio_stream(container)
        length = getattr(info, "length", 0) if demuxer in MUTAGEN_KNOWS_LENGTH else 0
        length = length or stream_length(container, stream, demuxer)
        bitrate = getattr(info, "bitrate", 0) or stream.bit_rate or (size * 8 / length if length else 0)
        tags = common_tags(found.texts) if found.texts else container_tags(container, stream)
        return {
            "duration": str(Decimal(length).quantize(Decimal("0.001"), ROUND_HALF_UP)),
            "sample_rate": stream.sample_rate,
            "channels": stream.channels,
            "bitrate": round(bitrate / 1000),
            "codec": stream.codec_context.codec.canonical_name,
            "tags": tags.values,
            "tags_cut": tags.is_cut or found.is_cut,
        }


def stream_length(container: InputContainer, stream: AudioStream, demuxer: str) -> float:
    """The length in seconds that the container states; counted packet by packet where it states none."""
    if stream.duration and stream.time_base and demuxer not in LENGTH_IS_COUNTED:
        return float(stream.duration * stream.time_base)
    if container.duration and demuxer not in LENGTH_IS_COUNTED:
        return container.duration / av.time_base
    begin, end = None, 0
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                begin = packet.pts if begin is None else begin
                end = max(end, packet.pts + (packet.duration or 0))
    except FFmpegError as error:
        if begin is None:
            raise undecodable(error, "reading breaks off") from error
    return float((end - (begin or 0)) * (stream.time_base or 0))


def container_tags(container: InputContainer, stream: AudioStream) -> CommonTags:
    """The tags that the demuxer found, without those that describe the container itself."""
    found = {key.lower(): value for key, value in (stream.metadata | container.metadata).items()}
    return common_tags((key, value) for key, value in found.items() if key not in NOT_TAGS)

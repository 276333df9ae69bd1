"""What a file says about itself: length, rate, channels, codec and text tags. Runs in the sandbox."""

from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import InvalidDataError
from av.packet import Packet

from media.bounds import bounded, bounded_text
from media.decode import first_audio_stream, open_container
from media.sound import Part
from media.survey import measure, sound_only, survey
from media.tag_reader import read_tags
from media.tags import CommonTags, common_tags

# A decoder may learn of a second channel or of twice the rate (HE-AAC) only when it has decoded some packets.
FRAMES_TO_HEAR = 8
PACKETS_TO_HEAR = 64
# Tags of the others may lie behind the sound, where only FFmpeg reads them.
COUNTED_WITHIN = frozenset(("mp3", "aac", "flac", "wav", "aiff"))
NOT_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", "creation_time", "duration", "handler_name"))


def read_facts(file: BinaryIO, demuxer: str) -> dict[str, Any]:
    """Read the facts; raises :class:`Failure`.

    ``duration`` is in seconds (decimal text, three places), ``sample_rate`` in Hz, ``bitrate`` in kbit/s: each is None
    where it is not known or cannot be. ``codec`` is as FFmpeg names it, ``tags`` are as
    :func:`media.tags.common_tags` gives them, ``tags_cut`` says whether some are not among them.
    """
    size = file.seek(0, 2)
    found = read_tags(file, demuxer)
    sound = survey(file, demuxer, size)
    whole = sound_only(file, sound) if demuxer in COUNTED_WITHIN else Part(file, 0, size)
    with open_container(whole, demuxer) as container:
        stream = first_audio_stream(container)
        sound = measure(file, container, stream, demuxer, sound)
        tags = common_tags(found.texts) if found.texts else container_tags(container, stream)
        codec = stream.codec_context.codec.canonical_name
    sample_rate, channels = heard(whole, demuxer)
    return {
        "duration": bounded_text(sound.seconds),
        "sample_rate": bounded(sample_rate),
        "channels": bounded(channels),
        "bitrate": bounded(round(sound.bitrate / 1000)),
        "codec": codec,
        "tags": tags.values,
        "tags_cut": tags.is_cut or found.is_cut,
    }


def heard(file: Part | BytesIO, demuxer: str) -> tuple[int, int]:
    """Sample rate and channels as they come out of the decoder, or as the header states them if nothing does."""
    with open_container(file, demuxer) as container:
        stream = first_audio_stream(container)
        found = (stream.sample_rate, stream.channels)
        frames = 0
        try:
            for packet in islice(container.demux(stream), PACKETS_TO_HEAR):
                for frame in decoded(packet):
                    found = (frame.sample_rate, frame.layout.nb_channels)
                    frames += 1
                if frames >= FRAMES_TO_HEAR:
                    break
        except InvalidDataError:
            pass
        return found


def decoded(packet: "Packet[AudioStream]") -> list[AudioFrame]:
    """The frames of a packet; none if it is broken."""
    try:
        return packet.decode()
    except InvalidDataError:
        return []


def container_tags(container: InputContainer, stream: AudioStream) -> CommonTags:
    """The tags that the demuxer found, without those that describe the container itself."""
    found = {key.lower(): value for key, value in (stream.metadata | container.metadata).items()}
    return common_tags((key, value) for key, value in found.items() if key not in NOT_TAGS)

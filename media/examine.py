"""One look into an audio file: decodability, facts, tags and picture."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

from av.audio.stream import AudioStream
from av.container import InputContainer

from media.artwork import best_picture
from media.bounds import bounded, bounded_text
from media.decode import check_stream, first_audio_stream, open_container
from media.found import Found
from media.sound import Part
from media.survey import measure, sound_only, survey
from media.tag_reader import read_tags, without_large_tags
from media.tags import CommonTags, common_tags
from media.truncation import check_not_truncated

NOT_TAGS = frozenset(("major_brand", "minor_version", "compatible_brands", "creation_time", "duration", "handler_name"))


def examine(file: BinaryIO, demuxer: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the facts first, then the picture, so that a picture that breaks the process costs only itself. Raises
    :class:`Failure`.
    """
    found = read_tags(file, demuxer)
    yield facts_of(file, demuxer, found), b""
    yield best_picture(found)


def facts_of(file: BinaryIO, demuxer: str, found: Found) -> dict[str, Any]:
    """Decode the ends, count everything, and describe it. Raises :class:`Failure`.

    ``duration`` is decimal text in seconds, ``sample_rate`` in Hz, ``bitrate`` in kbit/s, each None where unknown;
    ``codec`` is FFmpeg's name, ``decoded`` the decoded seconds.
    """
    size = file.seek(0, 2)
    check_not_truncated(file, demuxer, size)
    sound = survey(file, demuxer, size)
    if sound.seconds:
        sound.check_whole()
    readable = without_large_tags(file, found)
    part = sound_only(readable, sound)
    with ExitStack() as stack:
        container = stack.enter_context(open_container(part, demuxer))
        stream = first_audio_stream(container)
        sound, is_read = measure(file, container, stream, demuxer, sound)
        if is_read:
            container = stack.enter_context(open_container(part, demuxer))
            stream = first_audio_stream(container)
        heard = check_stream(file, container, stream, demuxer, sound)
        sound.check_whole()
        codec = stream.codec_context.codec.canonical_name
        tags = common_tags(found.texts) if found.texts else container_tags(container, stream)
    if demuxer == "ogg" and not tags.values:
        # Tags may lie outside the sound, where only FFmpeg reads them.
        with open_container(Part(readable, 0, size), demuxer) as container:
            tags = container_tags(container, first_audio_stream(container))
    return {
        "duration": bounded_text(sound.seconds),
        "sample_rate": bounded(heard.sample_rate),
        "channels": bounded(heard.channels),
        "bitrate": bounded(round(sound.bitrate / 1000)),
        "codec": codec,
        "tags": tags.values,
        "tags_cut": tags.is_cut or found.is_cut,
        "decoded": heard.seconds,
    }


def container_tags(container: InputContainer, stream: AudioStream) -> CommonTags:
    """Without those of the container itself."""
    found = {key.lower(): value for key, value in (stream.metadata | container.metadata).items()}
    return common_tags((key, value) for key, value in found.items() if key not in NOT_TAGS)

"""What Django asks about a media file. Every answer comes out of the sandbox; every failure is a ``MediaError``."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from uploads.formats import AudioFormat
from uploads.media import sandbox
from uploads.temporary import temporary_file


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """``duration`` in seconds, ``sample_rate`` in Hz, ``bitrate`` in kbit/s, ``codec`` as FFmpeg names it.

    ``tags`` map a common name (title, artist, album, date, genre, track, ...) to a text or a list of texts.
    """

    duration: Decimal
    sample_rate: int
    channels: int
    bitrate: int
    codec: str
    tags: dict[str, str | list[str]]


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image that we encoded: pixels without metadata. ``extension`` is ``jpg``, ``png`` or ``webp``."""

    data: bytes
    extension: str
    mime_type: str
    width: int
    height: int


def check_decodable(path: Path | str, audio_format: AudioFormat) -> None:
    """Decode the first and the last seconds, and hold the length against what the header says.

    Raises ``UndecodableAudio``, ``TruncatedAudio``, ``NoAudioStream`` with the reason, or an error of the limits.
    """
    sandbox.run("decode", path, demuxer=audio_format.demuxer)


def read_facts(path: Path | str, audio_format: AudioFormat) -> AudioFacts:
    """Read length, rates, codec and text tags from the headers."""
    facts, _ = sandbox.run("facts", path, demuxer=audio_format.demuxer)
    return AudioFacts(
        duration=Decimal(facts["duration"]),
        sample_rate=facts["sample_rate"],
        channels=facts["channels"],
        bitrate=facts["bitrate"],
        codec=facts["codec"],
        tags=facts["tags"],
    )


def extract_artwork(path: Path | str, audio_format: AudioFormat) -> bytes | None:
    """The front cover, or else the first picture in the tags, as it stands there: untrusted, at most 20 MiB."""
    _, data = sandbox.run("artwork", path, demuxer=audio_format.demuxer)
    return data or None


def reencode_image(source: bytes | Path | str) -> EncodedImage:
    """Encode an image again: the first frame, upright, without metadata, at most 1024 pixels on the longer side.

    Takes the bytes or the path. Raises ``UnsupportedImage``, ``ImageTooLarge`` (over 4096 x 4096) or
    ``ImageUnreadable`` (damaged, cut short).
    """
    if not isinstance(source, bytes):
        return reencode_file(source)
    with temporary_file("image") as file:
        file.write(source)
        file.flush()
        return reencode_file(file.name)


def reencode_file(path: Path | str) -> EncodedImage:
    facts, data = sandbox.run("image", path)
    return EncodedImage(
        data=data,
        extension=facts["extension"],
        mime_type=facts["mime_type"],
        width=facts["width"],
        height=facts["height"],
    )

"""What Django asks about a media file. Every answer comes out of the sandbox; every failure is a ``MediaError``."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from audiotricks.temporary import temporary_file
from media import sandbox
from media.bounds import bounded, bounded_seconds
from media.errors import PicturesBusy
from media.formats import AudioFormat

# A picture of 4096 x 4096 takes two seconds of a slow processor.
PICTURE_SECONDS = 15
# Web requests wait for a picture. Two at once leave the other threads of a process to everybody else.
PICTURES_AT_ONCE = 2
slots = threading.BoundedSemaphore(PICTURES_AT_ONCE)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """``duration`` in seconds, ``sample_rate`` in Hz, ``bitrate`` in kbit/s, ``codec`` as FFmpeg names it.

    A number is None where it is not known, and within what a column holds where it is. ``tags`` map a common name
    (title, artist, album, date, genre, track, ...) to a text or a list of texts.
    """

    duration: Decimal | None
    sample_rate: int | None
    channels: int | None
    bitrate: int | None
    codec: str
    tags: dict[str, str | list[str]]
    #: Not all tags of the file were kept, or not all of one.
    tags_cut: bool = False


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
    """Count length and bit rate, hear rate and channels, and read codec and text tags."""
    facts, _ = sandbox.run("facts", path, demuxer=audio_format.demuxer)
    return AudioFacts(
        duration=bounded_seconds(None if facts["duration"] is None else Decimal(facts["duration"])),
        sample_rate=bounded(facts["sample_rate"]),
        channels=bounded(facts["channels"]),
        bitrate=bounded(facts["bitrate"]),
        codec=facts["codec"],
        tags=facts["tags"],
        tags_cut=facts["tags_cut"],
    )


def extract_artwork(path: Path | str, audio_format: AudioFormat) -> EncodedImage | None:
    """The front cover, or else the first picture in the tags that can be used, encoded again; None if there is none.

    Raises what :func:`reencode_image` raises if there are pictures and none can be used.
    """
    facts, data = sandbox.run("artwork", path, demuxer=audio_format.demuxer)
    return encoded_image(facts, data) if data else None


def reencode_image(source: bytes | Path | str, *, patience: float | None = None) -> EncodedImage:
    """Encode an image again: the first frame, upright, without metadata, at most 1024 pixels on the longer side.

    Takes the bytes or the path. A process of ours encodes few at once; ``patience`` is how many seconds a caller waits
    for its turn, PICTURE_WAIT_SECONDS if None. Raises ``PicturesBusy`` after that, ``UnsupportedImage``,
    ``ImageTooLarge`` (over 4096 x 4096, or of too many parts) or ``ImageUnreadable`` (damaged, cut short).
    """
    with picture_slot(settings.PICTURE_WAIT_SECONDS if patience is None else patience):
        if not isinstance(source, bytes):
            return reencode_file(source)
        with temporary_file("image") as file:
            file.write(source)
            file.flush()
            return reencode_file(file.name)


@contextmanager
def picture_slot(patience: float) -> Iterator[None]:
    if not slots.acquire(timeout=patience):
        raise PicturesBusy(_("Many pictures are being looked at. Send this one again in a moment."))
    try:
        yield
    finally:
        slots.release()


def reencode_file(path: Path | str) -> EncodedImage:
    seconds = min(PICTURE_SECONDS, settings.MEDIA_TIME_LIMIT_SECONDS)
    return encoded_image(*sandbox.run("image", path, seconds=seconds))


def encoded_image(facts: dict[str, Any], data: bytes) -> EncodedImage:
    return EncodedImage(
        data=data,
        extension=facts["extension"],
        mime_type=facts["mime_type"],
        width=facts["width"],
        height=facts["height"],
    )

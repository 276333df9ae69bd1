"""Questions about a media file, answered by the sandbox. Every failure is a ``MediaError``."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from audiotricks.temporary import temporary_file
from media.bounds import bounded, bounded_seconds
from media.errors import MediaError, PicturesBusy
from media.formats import AudioFormat
from media.sandbox import sandbox

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


@dataclass(frozen=True, slots=True)
class Examination:
    """The answer of one look into an audio file that can be decoded.

    ``artwork`` is the front cover, or else the first picture in the tags that can be used, encoded again. It is None
    where there is none, and where none can be used, for the reason that ``artwork_error`` gives.
    """

    facts: AudioFacts
    artwork: EncodedImage | None = None
    artwork_error: MediaError | None = None


def examine(path: Path | str, audio_format: AudioFormat) -> Examination:
    """Decode the file's ends, count its sound and hold it against the header, and read facts, tags and picture.

    Raises ``UndecodableAudio``, ``TruncatedAudio``, ``NoAudioStream`` with the reason, or an error of the limits.
    """
    answer = sandbox.run("examine", path, demuxer=audio_format.demuxer)
    facts = audio_facts(answer.take(is_last=False))
    try:
        picture = answer.take(is_last=True)
    except MediaError as error:
        return Examination(facts, artwork_error=error)
    return Examination(facts, encoded_image(picture, answer.data) if picture else None)


def audio_facts(found: Mapping[str, Any]) -> AudioFacts:
    return AudioFacts(
        duration=bounded_seconds(None if found["duration"] is None else Decimal(found["duration"])),
        sample_rate=bounded(found["sample_rate"]),
        channels=bounded(found["channels"]),
        bitrate=bounded(found["bitrate"]),
        codec=found["codec"],
        tags=found["tags"],
        tags_cut=found["tags_cut"],
    )


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
    answer = sandbox.run("image", path, seconds=seconds)
    return encoded_image(answer.take(is_last=True), answer.data)


def encoded_image(facts: Mapping[str, Any], data: bytes | bytearray) -> EncodedImage:
    return EncodedImage(
        data=bytes(data),
        extension=facts["extension"],
        mime_type=facts["mime_type"],
        width=facts["width"],
        height=facts["height"],
    )

"""The interface to the sandbox. Every failure is a ``MediaError``."""

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

# Seconds: a picture of 4096 x 4096 takes two on a slow processor.
PICTURE_SECONDS = 15
# Web requests wait for a picture; the limit leaves a process's other threads free.
PICTURES_AT_ONCE = 2
slots = threading.BoundedSemaphore(PICTURES_AT_ONCE)


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """``duration`` in seconds, ``sample_rate`` in Hz, ``bitrate`` in kbit/s, each fit for its column or None. ``tags``
    map a common name (title, artist, ...) to texts.
    """

    duration: Decimal | None
    sample_rate: int | None
    channels: int | None
    bitrate: int | None
    codec: str
    tags: dict[str, str | list[str]]
    #: Some tags, or a part of one, were left out.
    tags_cut: bool = False


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """``extension`` is ``jpg``, ``png`` or ``webp``."""

    data: bytes
    extension: str
    mime_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Examination:
    """``artwork`` is the re-encoded front cover, or the first usable picture, or None; ``artwork_error`` says why none
    was usable.
    """

    facts: AudioFacts
    artwork: EncodedImage | None = None
    artwork_error: MediaError | None = None


def examine(path: Path | str, audio_format: AudioFormat) -> Examination:
    """Decode the ends, compare the counted sound with the header, and read facts, tags and picture.

    Raises ``UndecodableAudio``, ``TruncatedAudio``, ``NoAudioStream``, or an error of the limits.
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
    """See :func:`media.image.reencode_image`. Waits ``patience`` seconds (default PICTURE_WAIT_SECONDS) for a place.

    Raises ``PicturesBusy``, ``UnsupportedImage``, ``ImageTooLarge`` or ``ImageUnreadable``.
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

"""The picture inside an audio file: the front cover, or else the first one. Runs in the sandbox."""

import base64
import binascii
from typing import Any, BinaryIO

import mutagen
from mutagen.asf import ASFTags
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3, PictureType
from mutagen.mp4 import MP4Tags

from uploads.media.mutagen_reader import read_with_mutagen

MAX_ARTWORK_BYTES = 20 * 1024**2


def extract_artwork(file: BinaryIO, demuxer: str) -> bytes | None:
    """The encoded picture as it stands in the tags, unchecked, at most 20 MiB; None if there is none.

    WebM's attachments are not looked at.
    """
    audio = read_with_mutagen(file, demuxer)
    if audio is None:
        return None
    found = [(kind, data) for kind, data in pictures(audio) if 0 < len(data) <= MAX_ARTWORK_BYTES]
    found.sort(key=lambda picture: picture[0] != PictureType.COVER_FRONT)
    return found[0][1] if found else None


def pictures(audio: Any) -> list[tuple[int, bytes]]:
    """Every picture with its type (ID3v2.4, 4.14), in the order of the file."""
    tags = audio.tags
    kind = type(tags)
    if isinstance(audio, FLAC):
        return [(picture.type, picture.data) for picture in audio.pictures]
    if issubclass(kind, ID3):
        return [(frame.type, frame.data) for frame in tags.getall("APIC")]
    if issubclass(kind, MP4Tags):
        return [(PictureType.COVER_FRONT, bytes(cover)) for cover in tags.get("covr", [])]
    if issubclass(kind, ASFTags):
        values = (bytes(value.value) for value in tags.get("WM/Picture", []) if isinstance(value.value, bytes))
        return [asf_picture(value) for value in values]
    if tags is not None:
        return [vorbis_picture(value) for value in tags.get("metadata_block_picture", [])]
    return []


def asf_picture(value: bytes) -> tuple[int, bytes]:
    """WM/Picture: type, length, MIME type and description in UTF-16 that end with NUL, then the picture."""
    at = 5
    for _ in range(2):
        while value[at : at + 2] not in (b"\0\0", b""):
            at += 2
        at += 2
    length = int.from_bytes(value[1:5], "little")
    return value[0] if value else PictureType.OTHER, value[at : at + length]


def vorbis_picture(value: str) -> tuple[int, bytes]:
    try:
        picture: Any = Picture(base64.b64decode(value))  # type: ignore[no-untyped-call]
    except (binascii.Error, mutagen.MutagenError, ValueError):
        return PictureType.OTHER, b""
    return picture.type, picture.data

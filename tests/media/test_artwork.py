"""Which picture is taken out of an audio file."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from mutagen.id3 import APIC, PictureType

from media.artwork import ordered
from media.formats import audio_format
from media.found import MAX_ARTWORK_BYTES
from media.inspection import examine
from media.tag_reader import read_tags
from tests import audio

WITH_PICTURES = ["mp3", "wav", "flac", "ogg", "opus", "m4a", "aiff", "wma"]

Extract = Callable[[str, bytes], bytes | None]


@pytest.fixture
def extract() -> Extract:
    """The best picture as it stands in the tags."""

    def extract(extension: str, data: bytes) -> bytes | None:
        found = ordered(read_tags(io.BytesIO(data), audio_format(f"x.{extension}").demuxer))
        return found[0].data if found else None

    return extract


def shown(tmp_path: Path, extension: str, data: bytes) -> tuple[int, int] | None:
    """Width and height of the picture that the whole way through the sandbox gives."""
    path = tmp_path / f"audio.{extension}"
    path.write_bytes(data)
    image = examine(path, audio_format(path.name)).artwork
    return (image.width, image.height) if image else None


@pytest.mark.parametrize("extension", WITH_PICTURES)
def test_the_cover_comes_out_as_it_went_in(extension: str, extract: Extract) -> None:
    cover = audio.make_png(80, 60)
    assert extract(extension, audio.MAKERS[extension](artwork=cover)) == cover


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
def test_a_file_without_a_picture_has_none(extension: str, extract: Extract) -> None:
    assert extract(extension, audio.audio_bytes(extension)) is None


def test_the_front_cover_is_preferred(extract: Extract) -> None:
    other, front = audio.make_png(10, 10), audio.make_jpeg(20, 20)
    data = audio.with_frame(audio.make_mp3(), APIC(type=PictureType.ARTIST, desc="a", mime="image/png", data=other))
    assert extract("mp3", data) == other
    data = audio.with_frame(data, APIC(type=PictureType.COVER_FRONT, desc="b", mime="image/jpeg", data=front))
    assert extract("mp3", data) == front


def test_a_picture_that_is_too_large_is_passed_over(extract: Extract) -> None:
    """Promise 44. Twenty MiB is the most that is ever taken out of a file."""
    large = APIC(type=PictureType.COVER_FRONT, desc="a", mime="image/png", data=bytes(MAX_ARTWORK_BYTES + 1))
    data = audio.with_frame(audio.make_mp3(), large)
    assert extract("mp3", data) is None
    small = audio.make_png()
    data = audio.with_frame(data, APIC(type=PictureType.OTHER, desc="b", mime="image/png", data=small))
    assert extract("mp3", data) == small


def test_damaged_tags_give_no_picture(extract: Extract) -> None:
    data = bytearray(audio.make_wma(artwork=audio.make_png()))
    at = data.find("WM/Picture".encode("utf-16-le"))
    data[at + 22 : at + 60] = b"\xff" * 38
    assert extract("wma", bytes(data)) is None

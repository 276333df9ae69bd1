"""What is accepted by its name and its first bytes, and what is refused."""

import struct

import pytest

from media.formats import (
    AUDIO_FORMATS,
    HEAD_BYTES,
    ContentMismatch,
    TooShort,
    UnsupportedFormat,
    audio_format,
    check_signature,
    image_format,
)
from tests import audio

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:1/secret.mp3\n#EXT-X-ENDLIST\n"
OTHER_CONTENT = {
    "a text file": b"These are the minutes of the meeting.\n" * 40,
    "an HLS playlist": HLS,
    "an HTML page": b"\n<!DOCTYPE html><html><script>alert(1)</script></html>",
    "a Windows program": b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + bytes(500),
    "a Linux program": b"\x7fELF\2\1\1" + bytes(500),
    "a ZIP archive": b"PK\x03\x04" + bytes(500),
    "a PDF": b"%PDF-1.7\n" + b"1 0 obj\n" * 50,
}
# Two names of one format, and Opus, which is Ogg audio too.
ALSO_RIGHT = {("ogg", "oga"), ("oga", "ogg"), ("aiff", "aif"), ("aif", "aiff"), ("ogg", "opus"), ("oga", "opus")}


def accept(name: str, data: bytes) -> None:
    check_signature(audio_format(name), data[:HEAD_BYTES], complete=len(data) <= HEAD_BYTES)


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
def test_every_accepted_format_passes_with_what_common_encoders_write(extension: str) -> None:
    accept(f"song.{extension}", audio.audio_bytes(extension))


def test_the_accepted_formats_are_those_that_are_tested() -> None:
    assert set(AUDIO_FORMATS) == set(audio.EXTENSIONS)


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
@pytest.mark.parametrize("content", audio.EXTENSIONS)
def test_a_format_under_the_name_of_another_is_refused(extension: str, content: str) -> None:
    """Promise 41. What the bytes are must be what the name says; the answer tells what they are."""
    if extension == content or (extension, content) in ALSO_RIGHT:
        accept(f"song.{extension}", audio.audio_bytes(content))
        return
    with pytest.raises(ContentMismatch) as refusal:
        accept(f"song.{extension}", audio.audio_bytes(content))
    assert refusal.value.members["expected"] == extension
    assert refusal.value.members["found"] == AUDIO_FORMATS[content].name


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
@pytest.mark.parametrize("what", OTHER_CONTENT)
def test_content_that_is_no_audio_is_refused_and_named(extension: str, what: str) -> None:
    """Promise 41. Text, playlists, pages, programs and archives are no audio, whatever they are called."""
    with pytest.raises(ContentMismatch) as refusal:
        accept(f"song.{extension}", OTHER_CONTENT[what])
    assert refusal.value.status == 415
    assert refusal.value.members == {"expected": extension, "found": what}


def test_audio_behind_another_signature_is_refused() -> None:
    """Promise 41. A file that begins as a program and goes on as an MP3 is a program."""
    for start in (b"MZ\x90\0", b"%PDF-1.4\n", b"PK\x03\x04", b"<html>", b"GIF89a"):
        with pytest.raises(ContentMismatch):
            accept("song.mp3", start + audio.make_mp3())


def test_random_bytes_are_refused() -> None:
    with pytest.raises(ContentMismatch) as refusal:
        accept("song.mp3", bytes(range(128, 256)) * 20)
    assert refusal.value.members == {"expected": "mp3"}


@pytest.mark.parametrize("name", ["song", "song.txt", "song.exe", ".mp3", "song.mp3.php", "song.", "mp3", ""])
def test_a_name_without_one_of_our_extensions_is_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedFormat) as refusal:
        audio_format(name)
    assert refusal.value.code == "unsupported_format"
    assert refusal.value.members["accepted"] == sorted(audio.EXTENSIONS)


@pytest.mark.parametrize("name", ["A.MP3", "../../etc/song.mp3", "C:\\music\\song.Mp3", "übung.mp3", "a\r\nb.mp3"])
def test_the_extension_counts_and_not_the_rest_of_the_name(name: str) -> None:
    assert audio_format(name).extension == "mp3"


def test_an_unsupported_extension_is_told_in_bounded_length() -> None:
    with pytest.raises(UnsupportedFormat) as refusal:
        audio_format("song." + "x" * 500)
    assert len(refusal.value.members["extension"]) == 16


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.webp"])
def test_thumbnails_may_be_jpeg_png_or_webp(name: str) -> None:
    assert image_format(name).mime_type.startswith("image/")


@pytest.mark.parametrize("name", ["a.gif", "a.svg", "a.mp3", "a"])
def test_other_thumbnails_are_unsupported(name: str) -> None:
    with pytest.raises(UnsupportedFormat):
        image_format(name)


def test_two_hundred_bytes_of_an_mp3_are_too_short() -> None:
    """The frame header says how long the first frame is; the file ends before."""
    whole = audio.encode("mp3", "libmp3lame", seconds=0.5, seed=0, bit_rate=128_000, options={"write_xing": "0"})
    accept("song.mp3", whole)
    with pytest.raises(TooShort) as refusal:
        accept("song.mp3", whole[:200])
    assert refusal.value.code == "audio_too_short"


def test_an_mp3_that_is_a_tag_and_nothing_else_is_too_short() -> None:
    tagged = audio.make_mp3(tags=(("title", "Nothing"),))
    sound = audio.make_mp3()
    with pytest.raises(TooShort):
        accept("song.mp3", tagged[: len(tagged) - len(sound)])


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
@pytest.mark.parametrize("length", [0, 1, 3, 7])
def test_the_first_few_bytes_of_any_format_are_too_short(extension: str, length: int) -> None:
    whole = audio.audio_bytes(extension)
    with pytest.raises((TooShort, ContentMismatch)) as refusal:
        accept(f"song.{extension}", whole[:length])
    assert length or refusal.type is TooShort


def test_a_tag_that_is_longer_than_the_head_is_taken_on_trust() -> None:
    """Artwork of a megabyte before the first frame is common; the worker decodes what comes behind it."""
    data = audio.make_mp3(tags=(("title", "Large"),), artwork=audio.make_png() + bytes(2 * HEAD_BYTES))
    accept("song.mp3", data)


def test_zeros_before_the_first_frame_pass() -> None:
    accept("song.mp3", bytes(300) + audio.make_mp3())


def test_junk_between_the_tag_and_the_first_frame_passes() -> None:
    tagged = audio.make_mp3(tags=(("title", "x"),))
    sound = audio.make_mp3()
    accept("song.mp3", tagged[: len(tagged) - len(sound)] + b"junk" * 20 + sound)


def test_flac_behind_an_id3_tag_passes() -> None:
    tagged = audio.make_mp3(tags=(("title", "x"),))
    tag = tagged[: len(tagged) - len(audio.make_mp3())]
    accept("song.flac", tag + audio.make_flac())


def test_a_long_wave_file_with_sizes_of_64_bits_passes() -> None:
    wav = audio.make_wav()
    for name in (b"RF64", b"BW64"):
        accept("song.wav", name + b"\xff" * 4 + wav[8:])


def test_a_live_recording_of_a_browser_passes() -> None:
    accept("song.webm", audio.make_webm(live=True))


def test_a_matroska_file_is_no_webm() -> None:
    data = audio.encode("matroska", "libopus", seconds=0.5, rate=48_000, seed=0, sample_format="s16")
    with pytest.raises(ContentMismatch) as refusal:
        accept("song.webm", data)
    assert "Matroska" in refusal.value.members["found"]


@pytest.mark.parametrize("brand", [b"heic", b"avif", b"jp2 "])
def test_an_image_in_an_mp4_container_is_no_m4a(brand: bytes) -> None:
    with pytest.raises(ContentMismatch):
        accept("song.m4a", struct.pack(">I4s4sI", 24, b"ftyp", brand, 0) + brand + b"mif1" + bytes(200))


def test_an_mpeg_layer_2_stream_is_no_mp3() -> None:
    data = audio.encode("mp2", "mp2", seconds=0.5, seed=0, bit_rate=128_000)
    with pytest.raises(ContentMismatch):
        accept("song.mp3", data)


def test_vorbis_is_no_opus() -> None:
    with pytest.raises(ContentMismatch):
        accept("song.opus", audio.make_ogg())

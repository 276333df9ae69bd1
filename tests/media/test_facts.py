"""What is read about an audio file: length, rates, codec, tags."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from mutagen.id3 import COMM, PRIV, TIT2, TPE1, TXXX

from media.errors import MediaError
from media.formats import audio_format
from media.inspection import AudioFacts, examine
from media.tags import common_tags
from tests import audio

CODECS = {
    "mp3": ("mp3", 44_100, 1), "wav": ("pcm_s16le", 8000, 1), "flac": ("flac", 44_100, 1), "ogg": ("vorbis", 44_100, 2),
    "opus": ("opus", 48_000, 1), "m4a": ("aac", 44_100, 1), "aac": ("aac", 44_100, 1), "aiff": ("pcm_s16be", 8000, 1),
    "wma": ("wmav2", 44_100, 2), "webm": ("opus", 48_000, 1),
}  # fmt: skip

Read = Callable[[str, bytes], AudioFacts]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(extension: str, data: bytes) -> AudioFacts:
        path = tmp_path / f"audio.{extension}"
        path.write_bytes(data)
        return examine(path, audio_format(path.name)).facts

    return read


@pytest.mark.parametrize("extension", CODECS)
def test_every_format_tells_its_length_rates_and_codec(extension: str, read: Read) -> None:
    data = audio.audio_bytes(extension, seconds=4)
    facts = read(extension, data)
    assert (facts.codec, facts.sample_rate, facts.channels) == CODECS[extension]
    assert abs(facts.duration - 4) < Decimal("0.07")
    assert -facts.duration.as_tuple().exponent == 3
    assert facts.bitrate == pytest.approx(len(data) * 8 / 4 / 1000, rel=0.3)


def test_uncompressed_audio_is_measured_exactly(read: Read) -> None:
    facts = read("wav", audio.make_wav(seconds=2.5, rate=16_000, channels=2))
    assert facts == AudioFacts(Decimal("2.500"), 16_000, 2, 512, "pcm_s16le", {})


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_a_wave_file_without_a_length_is_measured_by_its_size(size: bytes, read: Read) -> None:
    wav = audio.make_wav(seconds=3)
    assert read("wav", wav[:40] + size + wav[44:]).duration == Decimal("3.000")


def test_a_live_recording_and_a_fragmented_file_are_measured(read: Read) -> None:
    assert abs(read("webm", audio.make_webm(seconds=3, live=True)).duration - 3) < Decimal("0.05")
    fragmented = audio.make_m4a(seconds=3, flags="frag_keyframe+empty_moov+default_base_moof")
    assert abs(read("m4a", fragmented).duration - 3) < Decimal("0.05")


def test_an_aac_stream_of_a_variable_rate_is_counted(read: Read) -> None:
    quiet, loud = (audio.encode("adts", "aac", seconds=4, seed=0, bit_rate=rate) for rate in (16_000, 128_000))
    assert abs(read("aac", quiet + loud).duration - 8) < Decimal("0.15")


@pytest.mark.parametrize("extension", [extension for extension in CODECS if extension != "aac"])
def test_tags_come_under_common_names(extension: str, read: Read) -> None:
    given = (("title", "Zwölf \U0001f3b5"), ("artist", "Nina"), ("album", "Live"), ("date", "1999"), ("genre", "Jazz"))
    tags = read(extension, audio.MAKERS[extension](tags=given)).tags
    assert {key: tags.get(key) for key, _ in given} == dict(given)


@pytest.mark.parametrize("extension", ["mp3", "wav", "flac", "ogg", "opus", "m4a", "aiff", "wma"])
def test_several_values_of_a_tag_are_a_list_without_nul(extension: str, read: Read) -> None:
    """ID3 joins them with NUL, which PostgreSQL refuses in JSON."""
    tags = read(extension, audio.MAKERS[extension](tags=(("artist", ("Ella", "Louis")),))).tags
    assert tags["artist"] == ["Ella", "Louis"]
    assert "\\u0000" not in json.dumps(tags)


def test_comments_and_free_tags_are_kept_and_binary_is_not(read: Read) -> None:
    data = audio.make_mp3(tags=(("title", "x"),))
    data = audio.with_frame(data, TXXX(encoding=3, desc="Mood", text=["calm"]))
    data = audio.with_frame(data, COMM(encoding=3, lang="eng", desc="", text=["first line\nsecond"]))
    data = audio.with_frame(data, COMM(encoding=3, lang="eng", desc="iTunNORM", text=["0000 0001"]))
    data = audio.with_frame(data, PRIV(owner="x", data=b"\0\1\2"))
    assert read("mp3", data).tags == {"title": "x", "mood": "calm", "comment": "first line\nsecond"}


def test_control_characters_and_lone_surrogates_are_taken_out(read: Read) -> None:
    data = audio.with_frame(audio.make_mp3(), TIT2(encoding=3, text=["a\x1b[31mb\r\nc\x07\x9f"]))
    data = audio.with_frame(data, TPE1(encoding=3, text=["\0\0"]))
    assert read("mp3", data).tags == {"title": "a[31mb\nc"}
    assert common_tags([("title", "x\ud800y")]).values == {"title": "xy"}
    assert common_tags([("artist", "Ella\0Louis")]).values == {"artist": ["Ella", "Louis"]}


def test_a_picture_among_the_comments_is_no_tag(read: Read) -> None:
    tags = read("ogg", audio.make_ogg(artwork=audio.make_png(), tags=(("title", "x"),))).tags
    assert tags["title"] == "x"
    assert "metadata_block_picture" not in tags


def test_text_is_no_audio_to_describe(read: Read) -> None:
    with pytest.raises(MediaError):
        read("mp3", b"A letter, not a song. " * 300)

"""Which files can be decoded, which are cut short, and what is tolerated in the files of the world.

Most of it runs in this process, without the limits, to be quick; what depends on the limits goes through the sandbox.
"""

import io
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from media import examine, inspection
from media.errors import NoAudioStream, TruncatedAudio
from media.failure import Failure
from media.formats import audio_format
from tests import audio

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"
# What has no count of its own, and is whole wherever it ends.
COUNTED = [extension for extension in audio.EXTENSIONS if extension not in ("aac", "oga", "aif")]

Check = Callable[[str, bytes], object]


@contextmanager
def refused(*codes: str, saying: str = "") -> Iterator[None]:
    with pytest.raises(Failure) as refusal:
        yield
    assert refusal.value.code in codes
    assert saying in refusal.value.reason


@pytest.fixture
def check() -> Check:
    """Decode here, or raise ``Failure``."""
    return lambda extension, data: next(examine.examine(io.BytesIO(data), audio_format(f"a.{extension}").demuxer))


@pytest.fixture
def check_in_sandbox(tmp_path: Path) -> Check:
    def check(extension: str, data: bytes) -> None:
        path = tmp_path / f"audio.{extension}"
        path.write_bytes(data)
        inspection.examine(path, audio_format(path.name))

    return check


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
def test_every_accepted_format_is_decoded(extension: str, check: Check) -> None:
    check(extension, audio.audio_bytes(extension))
    check(extension, audio.audio_bytes(extension, seconds=8))


@pytest.mark.parametrize("extension", COUNTED)
@pytest.mark.parametrize("seconds", [0.5, 8])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_file_that_lost_its_end_is_truncated(extension: str, seconds: float, part: float, check: Check) -> None:
    """Promise 41. A header that says more than the file holds is told, in every format whose header says anything."""
    data = audio.audio_bytes(extension, seconds=seconds)
    with refused("truncated_audio", saying="cut short"):
        check(extension, data[: int(len(data) * part)])


@pytest.mark.parametrize("extension", [extension for extension in COUNTED if extension != "mp3"])
def test_even_a_few_missing_bytes_are_told(extension: str, check: Check) -> None:
    with refused("truncated_audio"):
        check(extension, audio.audio_bytes(extension)[:-10])


@pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov+default_base_moof"])
def test_a_streamable_m4a_is_decoded_and_its_truncation_is_told(flags: str, check: Check) -> None:
    data = audio.make_m4a(seconds=8, flags=flags)
    check("m4a", data)
    with refused("truncated_audio"):
        check("m4a", data[: len(data) // 2])


def test_a_flac_whose_end_was_never_written_is_truncated(check: Check) -> None:
    data = audio.make_flac(seconds=8)
    with refused("truncated_audio", saying="8.000 seconds"):
        check("flac", data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def test_a_webm_whose_end_was_never_written_is_truncated(check: Check) -> None:
    data = audio.make_webm(seconds=8)
    with refused("truncated_audio"):
        check("webm", data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


@pytest.mark.parametrize("extension", ["aac", "mp3"])
def test_a_stream_without_a_count_passes_wherever_it_ends(extension: str, check: Check) -> None:
    data = audio.make_aac(seconds=8) if extension == "aac" else audio.make_mp3(seconds=8, xing=False)
    for missing in (1, 10, 100, len(data) // 2):
        check(extension, data[:-missing])


@pytest.mark.parametrize("seconds", [0.5, 8])
def test_a_recording_of_a_browser_without_length_or_index_passes(seconds: float, check: Check) -> None:
    data = audio.make_webm(seconds=seconds, live=True)
    check("webm", data)
    check("webm", data[:-5])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_a_wave_file_of_a_recorder_that_could_not_seek_back_passes(size: int, check: Check) -> None:
    wav = audio.make_wav(seconds=8)
    check("wav", wav[:4] + struct.pack("<I", 0xFFFFFFFF) + wav[8:40] + struct.pack("<I", size) + wav[44:])


def test_a_wave_file_with_a_size_of_64_bits_is_held_against_it(check: Check) -> None:
    wav = audio.make_wav()
    sound = wav[44:]
    ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 72 + len(sound), len(sound), len(sound) // 2, 0)
    whole = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + wav[12:40] + b"\xff" * 4 + sound
    check("wav", whole)
    with refused("truncated_audio"):
        check("wav", whole[:-100])


@pytest.mark.parametrize("extension", ["mp3", "flac", "aac", "ogg", "wav", "m4a"])
def test_an_old_tag_behind_the_sound_passes(extension: str, check: Check) -> None:
    check(extension, audio.audio_bytes(extension, seconds=8) + b"TAG" + b"title".ljust(125, b"\0"))


def test_an_ape_tag_behind_the_sound_passes(check: Check) -> None:
    footer = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
    check("mp3", audio.make_mp3(seconds=8) + footer)


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
def test_noise_behind_a_right_signature_is_refused(extension: str, check: Check) -> None:
    """Promise 41. The first bytes alone make no audio file."""
    # Behind the whole header of an uncompressed file, noise is what it says: noise.
    head = audio.audio_bytes(extension)[: 12 if extension in ("wav", "aiff", "aif") else 64]
    with refused("undecodable_audio", "truncated_audio"):
        check(extension, head + bytes((number * 89 + number // 7) % 251 for number in range(20_000)))


@pytest.mark.parametrize("extension", ["mp3", "aac"])
def test_an_end_that_is_no_audio_is_undecodable(extension: str, check: Check) -> None:
    sound = audio.make_mp3(seconds=8, xing=False) if extension == "mp3" else audio.make_aac(seconds=8)
    with refused("undecodable_audio", saying="damaged"):
        check(extension, sound + b"not audio at all " * 60_000)


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
@pytest.mark.parametrize("content", [b"A letter, not a song. " * 300, HLS, b"concat:/etc/passwd|/etc/hosts\n" * 50])
def test_text_is_refused_as_any_format(extension: str, content: bytes, check: Check) -> None:
    with refused("undecodable_audio", "truncated_audio"):
        check(extension, content)


@pytest.mark.parametrize("content", ["mp3", "wav", "flac", "ogg", "m4a", "aac", "aiff", "wma", "webm"])
@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "m4a", "wma", "webm", "aiff"])
def test_the_demuxer_is_the_one_of_the_name(extension: str, content: str, check: Check) -> None:
    """Promise 45. FFmpeg never guesses: good audio is refused under another name, although it could be decoded."""
    if extension == content:
        check(extension, audio.audio_bytes(content))
        return
    with refused("undecodable_audio", "truncated_audio"):
        check(extension, audio.audio_bytes(content))


def test_a_container_without_sound_is_refused(check: Check) -> None:
    with refused("no_audio_stream"):
        check("m4a", audio.make_silent_film())


@pytest.mark.parametrize("extension", audio.EXTENSIONS)
def test_every_accepted_format_is_decoded_within_the_limits(extension: str, check_in_sandbox: Check) -> None:
    """Promise 45. Nothing has to be loaded or opened once the file is: not even for a picture, a second stream."""
    options = {} if extension in ("aac", "webm") else {"artwork": audio.make_png(), "tags": (("title", "Cover"),)}
    check_in_sandbox(extension, audio.MAKERS[extension](seconds=5, **options))


def test_a_truncated_file_is_a_typed_error_with_its_reason(check_in_sandbox: Check) -> None:
    with pytest.raises(TruncatedAudio) as refusal:
        check_in_sandbox("wav", audio.make_wav()[:-1000])
    assert refusal.value.status == 422
    assert "1000 bytes" in refusal.value.detail


def test_a_file_without_sound_is_a_typed_error(check_in_sandbox: Check) -> None:
    with pytest.raises(NoAudioStream):
        check_in_sandbox("m4a", audio.make_silent_film())

"""Files that players play although something is odd about them, and files whose sound is missing (Promise 64).

Most of it runs in this process, without the limits, to be quick; what shows the way through all steps runs in the
sandbox.
"""

import io
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from media.bounds import bounded, bounded_seconds
from media.examine import examine
from media.failure import Failure
from media.formats import HEAD_BYTES, ContentMismatch, audio_format, check_signature
from quotas.models import Workspace
from tests import audio
from tests.odd_audio import (
    ID3V1,
    LYRICS3,
    aac,
    ape,
    chained,
    frames,
    hole,
    id3v2,
    mdhd,
    mp3,
    noise,
    ogg_cropped,
    ogg_flac,
    ogg_pages,
    patched,
    riff,
    rifx,
    tail,
    vbr_mp3,
    wav_parts,
    with_brands,
)
from tests.uploads.life import arrive, complete, new_workspace
from uploads.models import Status
from uploads.processing.runner import process_upload

# A file that is longer than the head on which signatures are judged, and shorter than a tenth of a second to look at.
COVER = 200_000
PADDING = 300_000

Look = Callable[[str, bytes], dict[str, Any]]
Maker = Callable[[], bytes]


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


@pytest.fixture
def look() -> Look:
    """What a worker finds, or the error."""

    def look(extension: str, data: bytes) -> dict[str, Any]:
        wanted = audio_format(f"a.{extension}")
        check_signature(wanted, data[:HEAD_BYTES], complete=len(data) <= HEAD_BYTES)
        return next(examine(io.BytesIO(data), wanted.demuxer))[0]

    return look


stream = partial(mp3, xing=False)
wav = partial(audio.encode, "wav", seconds=4, seed=0, bit_rate=None)
aiff = partial(audio.encode, "aiff", seconds=4, seed=0, bit_rate=None)
alac = partial(audio.encode, "ipod", "alac", seconds=8, seed=0, sample_format="s16p", bit_rate=None)
vorbis = partial(audio.make_ogg, seconds=8)
opus = partial(audio.make_opus, seconds=8)
flac = partial(audio.make_flac, seconds=4)
m4a = partial(audio.make_m4a, seconds=8)
webm = partial(audio.make_webm, seconds=8)
wma = partial(audio.make_wma, seconds=8)


def wav_of(riff_size: int | None = None, data_size: int | None = None) -> bytes:
    """Two seconds of plain WAV, with other sizes in its header."""
    data = audio.make_wav(seconds=2)
    sizes = [struct.pack("<I", size) if size is not None else None for size in (riff_size, data_size)]
    return data[:4] + (sizes[0] or data[4:8]) + data[8:40] + (sizes[1] or data[40:44]) + data[44:]


def without_total(data: bytes) -> bytes:
    """A FLAC of an encoder that did not know how long it would be."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


PLAYED: dict[str, tuple[str, Maker, float]] = {
    "an MP3 cut from a stream within a frame": ("mp3", lambda: stream()[200:], 8.02),
    "AAC cut from a stream within a frame": ("aac", lambda: aac()[100:], 8.01),
    "an MP3 behind many zeros": ("mp3", lambda: bytes(60_000) + stream(), 8.05),
    "AAC behind many zeros": ("aac", lambda: bytes(9000) + aac(), 8.03),
    "a tag that understates its zeros": ("mp3", lambda: id3v2(6000, declared=500, fill=b"\0") + stream(), 8.05),
    "a tag that understates its size": ("mp3", lambda: id3v2(30_000, declared=500) + stream(), 8.05),
    "a tag that overstates its size": ("mp3", lambda: id3v2(100, declared=3000) + stream(), 7.86),
    "a tag that is said to be longer than the file": ("mp3", lambda: id3v2(100, declared=900_000) + stream(), 8.05),
    "one frame of MP3 and ID3v1": ("mp3", lambda: frames(stream(), 1) + ID3V1, 0.026),
    "two frames of MP3 and an APE tag": ("mp3", lambda: frames(stream(), 2) + ape(COVER), 0.052),
    "two frames of MP3 and Lyrics3": ("mp3", lambda: frames(stream(), 2) + LYRICS3 + ID3V1, 0.052),
    "one frame of AAC and ID3v1": ("aac", lambda: frames(aac(), 1) + ID3V1, 0.023),
    "two frames of AAC and an APE tag": ("aac", lambda: frames(aac(), 2) + ape(200), 0.046),
    "an APE tag with a cover": ("mp3", lambda: mp3() + ape(COVER), 8.0),
    "an APE tag without a header": ("mp3", lambda: mp3() + ape(COVER, header=False), 8.0),
    "an APE tag behind AAC": ("aac", lambda: aac() + ape(COVER), 8.03),
    "an ID3v2 tag with a footer": ("mp3", lambda: stream() + id3v2(COVER, footer=True), 8.05),
    "an ID3v2 tag behind": ("mp3", lambda: stream() + id3v2(COVER), 8.05),
    "several tags and zeros": ("mp3", lambda: mp3() + ape(COVER) + LYRICS3 + ID3V1 + bytes(5000), 8.0),
    "zeros and a tag": ("mp3", lambda: stream() + bytes(PADDING) + ape(COVER), 8.05),
    "zeros behind an MP3": ("mp3", lambda: mp3() + bytes(PADDING), 8.0),
    "zeros behind a stream": ("mp3", lambda: stream() + bytes(PADDING), 8.05),
    "zeros behind AAC": ("aac", lambda: aac() + bytes(PADDING), 8.03),
    "MP3 joined of two": ("mp3", lambda: mp3(5) + mp3(8, seed=2), 13.07),
    "MP3 joined with all tags": (
        "mp3", lambda: id3v2(300) + mp3(5) + ID3V1 + id3v2(COVER) + mp3(8) + ape(9000) + mp3(2) + LYRICS3 + ID3V1, 15.1,
    ),
    "MP3 joined with zeros between": ("mp3", lambda: mp3(5) + bytes(3000) + id3v2(100) + mp3(5), 10.07),
    "MP3 joined of two rates": ("mp3", lambda: mp3(5) + mp3(5, rate=22_050, bit_rate=64_000), 10.09),
    "MP3 joined within frames": ("mp3", lambda: b"".join(stream()[99 + number : -60] for number in range(3)), 24.0),
    "a variable rate without a count": ("mp3", lambda: vbr_mp3(), 8.1),
    "one wrong byte": ("mp3", lambda: stream()[:5000] + b"\xff" + stream()[5001:], 8.05),
    "chained Vorbis": ("ogg", lambda: chained(vorbis(), audio.make_ogg(seconds=5, seed=2)), 13.0),
    "chained Opus": ("opus", lambda: chained(opus(), audio.make_opus(seconds=5)), 13.0),
    "chained FLAC": ("oga", lambda: chained(ogg_flac(8), ogg_flac(3)), 11.0),
    "cropped Vorbis": ("ogg", lambda: ogg_cropped(vorbis(), 2, 2), 5.96),
    "cropped Opus": ("opus", lambda: ogg_cropped(opus(), 2, 3), 5.0),
    "an ID3 tag before Ogg": ("ogg", lambda: id3v2(3000) + vorbis(), 8.0),
    "tags behind Ogg": ("ogg", lambda: vorbis() + ape(COVER) + ID3V1, 8.0),
    "zeros behind Ogg": ("opus", lambda: opus() + bytes(PADDING), 8.0),
    "Ogg without a last page": ("opus", lambda: b"".join(ogg_pages(opus())[:-1]), 7.99),
    "an ID3 tag before FLAC": ("flac", lambda: id3v2(100_000) + flac(), 4.0),
    "tags behind FLAC": ("flac", lambda: flac() + ape(COVER) + ID3V1, 4.0),
    "zeros behind FLAC": ("flac", lambda: flac() + bytes(PADDING), 4.0),
    "FLAC without a count": ("flac", lambda: without_total(flac()) + bytes(PADDING), 4.0),
    "QuickTime's brand": ("m4a", lambda: with_brands(m4a(), b"qt  ", b"M4A "), 8.0),
    "a telephone's brand": ("m4a", lambda: with_brands(m4a(), b"3gp7", b"isom"), 8.0),
    "Flash's brand": ("m4a", lambda: with_brands(m4a(), b"F4A ", b"isom"), 8.0),
    "a film's brand around sound alone": ("m4a", lambda: with_brands(m4a(), b"M4V ", b"isom"), 8.0),
    "an unknown brand that is compatible": ("m4a", lambda: with_brands(m4a(), b"XAVC", b"isom"), 8.0),
    "fragments": ("m4a", lambda: m4a(flags="dash+frag_keyframe+empty_moov"), 8.02),
    "a length of all ones": ("m4a", lambda: patched(m4a(), b"mdhd", mdhd(0xFFFF_FFFF)), 8.0),
    "a length in the movie's time scale": ("m4a", lambda: patched(m4a(), b"mdhd", mdhd(8000)), 8.0),
    "zeros behind M4A": ("m4a", lambda: m4a() + bytes(PADDING), 8.0),
    "noise behind M4A": ("m4a", lambda: m4a() + noise(PADDING), 8.0),
    "a WAV whose data counts the header": ("wav", lambda: wav_of(data_size=32_036), 2.0),
    "a WAV whose sizes are the file's": ("wav", lambda: wav_of(32_044, 32_044), 2.0),
    "a WAV whose data counts a pad byte": ("wav", lambda: wav_of(data_size=32_002), 2.0),
    "a streamed WAV, zeros": ("wav", lambda: wav_of(0, 0), 2.0),
    "a streamed WAV, ones": ("wav", lambda: wav_of(0xFFFF_FFFF, 0xFFFF_FFFF), 2.0),
    "a big-endian WAV": ("wav", lambda: rifx(audio.make_wav(seconds=2)), 2.0),
    "an odd chunk": ("wav", lambda: riff((b"fmt ", wav_parts()[0]), (b"junk", b"abc"), (b"data", wav_parts()[1])), 2.0),
    "tags and zeros behind WAV": ("wav", lambda: audio.make_wav(seconds=2) + ape(COVER) + bytes(PADDING), 2.0),
    "zeros behind AIFF": ("aiff", lambda: audio.make_aiff(seconds=4) + bytes(PADDING), 4.0),
    "zeros behind WMA": ("wma", lambda: wma() + bytes(PADDING), 8.0),
    "zeros behind WebM": ("webm", lambda: webm() + bytes(PADDING), 8.0),
    "two recordings of a browser joined": ("webm", lambda: webm(live=True) + webm(live=True), 16.0),
    "Vorbis in WebM": (
        "webm", lambda: audio.encode("webm", "vorbis", seconds=8, seed=0, layout="stereo", bit_rate=None), 8.0,
    ),
}  # fmt: skip

DAMAGED: dict[str, tuple[str, Maker]] = {
    f"{what} of {extension}": (extension, partial(lambda damage, make: damage(make()), damage, make))
    for extension, make in {
        "mp3": stream, "aac": aac, "ogg": vorbis, "opus": opus, "flac": flac, "wma": wma,
        "m4a": partial(m4a, flags="faststart"), "webm": partial(webm, live=True),
    }.items()
    for what, damage in {
        "zeros in the second half": tail, "noise in the second half": partial(tail, fill=b"noise"),
        "zeros in the middle": hole, "noise in the middle": partial(hole, fill=b"noise"),
    }.items()
}  # fmt: skip
DAMAGED |= {
    "zeros in the second half of an MP3 with a count": ("mp3", lambda: tail(mp3())),
    "zeros in the first part of an MP3": ("mp3", lambda: bytes(50_000) + stream()[50_000:]),
    "zeros in the second half of FLAC without a count": ("flac", lambda: tail(without_total(flac()))),
    "zeros in the second half of FLAC in Ogg": ("ogg", lambda: tail(ogg_flac())),
    "noise behind Ogg": ("opus", lambda: opus() + noise(PADDING)),
    "noise behind a browser's recording": ("webm", lambda: webm(live=True) + noise(PADDING)),
}


@pytest.mark.parametrize("name", PLAYED)
def test_what_players_play_is_taken_and_measured_as_it_sounds(name: str, look: Look) -> None:
    """Promise 64. The lengths are those that decoding all of it gives."""
    extension, make, seconds = PLAYED[name]
    facts = look(extension, make())
    assert abs(float(facts["duration"]) - seconds) < 0.1


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_whose_sound_is_missing_is_told(name: str, look: Look) -> None:
    """Promise 64. Zeros and noise in the place of sound are no padding."""
    extension, make = DAMAGED[name]
    with pytest.raises(Failure) as refusal:
        look(extension, make())
    assert refusal.value.code in ("undecodable_audio", "truncated_audio")


@pytest.mark.parametrize(
    ("extension", "make", "codec", "kbps"),
    [
        ("m4a", alac, "alac", 446),
        ("aiff", partial(aiff, codec="pcm_alaw"), "pcm_alaw", 353),
        ("aiff", partial(aiff, codec="adpcm_ima_qt"), "adpcm_ima_qt", 188),
        ("aiff", partial(aiff, codec="pcm_s16le"), "pcm_s16le", 706),
        ("aiff", partial(aiff, codec="pcm_f32be"), "pcm_f32be", 1411),
        ("wav", partial(wav, codec="ac3", bit_rate=192_000), "ac3", 192),
        ("wav", partial(wav, codec="libmp3lame", bit_rate=128_000), "mp3", 128),
        ("wav", partial(wav, codec="adpcm_ima_wav"), "adpcm_ima_wav", 177),
        ("wav", partial(wav, codec="adpcm_ms"), "adpcm_ms", 178),
        ("wav", partial(wav, codec="g722", rate=16_000), "adpcm_g722", 64),
        ("wav", partial(wav, codec="pcm_mulaw"), "pcm_mulaw", 353),
        ("wav", partial(wav, codec="pcm_s24le", layout="stereo"), "pcm_s24le", 2117),
        ("mp3", mp3, "mp3", 128),
        ("mp3", vbr_mp3, "mp3", 176),
        ("wma", wma, "wmav2", 64),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_bit_rate_is_bytes_by_time_and_the_codec_is_the_true_one(
    extension: str, make: Maker, codec: str, kbps: int, look: Look
) -> None:
    """Promise 64. What a header would give for uncompressed sound says nothing about compressed."""
    facts = look(extension, make())
    assert facts["codec"] == codec
    assert facts["bitrate"] == pytest.approx(kbps, rel=0.05)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif", b"jp2 "])
def test_an_image_is_no_m4a_whatever_it_is_compatible_with(brand: bytes) -> None:
    with pytest.raises(ContentMismatch):
        check_signature(audio_format("a.m4a"), with_brands(m4a(), brand, b"isom"), complete=True)


def test_a_codec_without_a_decoder_is_not_told_as_damage(look: Look) -> None:
    """Promise 64. The gap is FFmpeg's, and the words say so."""
    with pytest.raises(Failure) as refusal:
        look("wav", audio.make_wav()[:20] + b"\x77\x77" + audio.make_wav()[22:])
    assert refusal.value.code == "unsupported_codec"
    assert "may be whole" in refusal.value.reason


def test_a_film_in_an_m4a_is_told_and_a_cover_is_none(look: Look) -> None:
    film = audio.make_film()
    with pytest.raises(Failure) as refusal:
        look("m4a", film)
    assert refusal.value.code == "video_not_accepted"
    look("m4a", audio.make_m4a(artwork=audio.make_jpeg()))


@pytest.mark.parametrize("length_of_header", ["32 bits", "64 bits"])
def test_a_wave_file_over_4_gib_is_measured_by_its_bytes(length_of_header: str, tmp_path: Path, look: Look) -> None:
    """Promise 64. Recorders write the length modulo 4 GiB; the file here is sparse."""
    header = audio.make_wav(seconds=1, rate=44_100, channels=2)[:44]
    length = 2**32 + 44_100 * 4 * 60
    wrapped = length % 2**32
    if length_of_header == "32 bits":
        header = header[:40] + struct.pack("<I", wrapped)
    else:
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, length + 72, wrapped, length // 4, 0)
        header = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + header[12:40] + b"\xff" * 4
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + length)
    with path.open("rb") as file:
        facts, _ = next(examine(file, "wav"))
    assert abs(float(facts["duration"]) - length / 44_100 / 4) < 0.1
    assert facts["bitrate"] == 1411


def test_padding_that_is_longer_than_the_sound_gives_no_negative_length(look: Look) -> None:
    """LAME's numbers of a file of two frames say that more than all of it is padding."""
    data = bytearray(mp3(8)[: len(frames(mp3(8), 3))])
    info = data.index(b"Info") if b"Info" in data else data.index(b"Xing")
    data[info + 8 : info + 16] = struct.pack(">II", 2, len(data))
    lame = data.index(b"Lav", info)
    data[lame + 21 : lame + 24] = (1152 << 12 | 4095).to_bytes(3, "big")
    facts = look("mp3", bytes(data))
    assert 0 <= float(facts["duration"]) < 0.1


def test_numbers_that_no_column_holds_are_unknown() -> None:
    """D18 of the users' list: a fact is bounded on both sides."""
    assert [bounded(number) for number in (-1, 0, 1, 44_100, 2**31, float("nan"), float("inf"), None)] == [
        None, None, 1, 44_100, None, None, None, None,
    ]  # fmt: skip
    assert str(bounded_seconds(0.0004)) == "0.000"
    assert [bounded_seconds(number) for number in (-0.013, 1e10, float("nan"), None)] == [None] * 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "name",
    [
        "one frame of MP3 and ID3v1",
        "an APE tag behind AAC",
        "chained Opus",
        "a length of all ones",
        "FLAC without a count",
        "a WAV whose data counts the header",
        "two recordings of a browser joined",
    ],
)
def test_an_odd_file_goes_through_every_step(name: str, workspace: Workspace) -> None:
    """Promise 64, through the sandbox."""
    extension, make, seconds = PLAYED[name]
    upload = complete(workspace, make(), filename=f"odd.{extension}")
    assert upload.duration is not None and abs(float(upload.duration) - seconds) < 0.1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["zeros in the second half of mp3", "zeros in the middle of wma"])
def test_a_damaged_file_fails_and_says_that_it_is_damaged(name: str, workspace: Workspace) -> None:
    """Promise 64, through the sandbox."""
    extension, make = DAMAGED[name]
    upload = arrive(workspace, make(), filename=f"damaged.{extension}")
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == (Status.FAILED, "undecodable_audio")
    assert "damaged" in upload.error_message

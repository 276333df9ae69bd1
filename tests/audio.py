"""Small real audio and image files, made at test time with the encoders of PyAV's wheel, Pillow and mutagen.

Every function returns bytes and is cached for the session; ``seed`` gives distinct valid content.
"""

import base64
import io
import math
import random
import struct
import tempfile
import zlib
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import mutagen
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from mutagen.aiff import AIFF
from mutagen.asf import ASF, ASFByteArrayAttribute
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TALB, TCON, TDRC, TIT2, TPE1, TRCK, PictureType
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE
from PIL import Image

EXTENSIONS = ("mp3", "wav", "flac", "ogg", "oga", "opus", "m4a", "aac", "aiff", "aif", "wma", "webm")
ID3_FRAMES = {"title": TIT2, "artist": TPE1, "album": TALB, "date": TDRC, "genre": TCON, "track": TRCK}
MP4_ATOMS = {"title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb", "date": "\xa9day", "genre": "\xa9gen"}
ASF_NAMES = {"title": "Title", "artist": "Author", "album": "WM/AlbumTitle", "date": "WM/Year", "genre": "WM/Genre"}
Tags = tuple[tuple[str, str | tuple[str, ...]], ...]


def audio_bytes(extension: str, *, seed: int = 0, seconds: float = 0.5) -> bytes:
    """A valid file of an accepted format; another seed is other content."""
    return MAKERS[extension](seconds=seconds, seed=seed)


@cache
def samples(seconds: float, rate: int, channels: int, seed: int) -> bytes:
    """Interleaved 16-bit little-endian PCM: a tone under a little noise, both chosen by the seed.

    One second of it is computed and repeated.
    """
    count = int(seconds * rate)
    step = 2 * math.pi * (220 + 20 * (seed % 50)) / rate
    noise = array("b", random.Random(seed).randbytes(min(count, rate)))
    second = array("h", [int(9000 * math.sin(index * step)) + 2 * value for index, value in enumerate(noise)])
    mono = (second * math.ceil(count / rate))[:count]
    interleaved = array("h", bytes(2 * count * channels))
    for channel in range(channels):
        interleaved[channel::channels] = mono
    return interleaved.tobytes()


def encode(
    container: str,
    codec: str,
    *,
    seconds: float,
    seed: int,
    rate: int = 44_100,
    layout: str = "mono",
    sample_format: str | None = None,
    bit_rate: int | None = 48_000,
    options: dict[str, str] | None = None,
    metadata: Tags = (),
    seekable: bool = True,
) -> bytes:
    """Encode the samples with one of FFmpeg's muxers; not seekable means as a live recorder writes it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "audio"
        target: Any = str(path) if seekable else Pipe()
        write_container(
            target,
            container,
            codec,
            samples(seconds, rate, 2 if layout == "stereo" else 1, seed),
            rate=rate,
            layout=layout,
            sample_format=sample_format,
            bit_rate=bit_rate,
            options=options or {},
            metadata=metadata,
        )
        return path.read_bytes() if seekable else bytes(target.written)


def write_container(
    target: Any,
    container: str,
    codec: str,
    pcm: bytes,
    *,
    rate: int,
    layout: str,
    sample_format: str | None,
    bit_rate: int | None,
    options: dict[str, str],
    metadata: Tags,
) -> None:
    channels = 2 if layout == "stereo" else 1
    with av.open(target, "w", format=container, options=options) as output:
        output.metadata.update({key: str(value) for key, value in metadata})
        stream = output.add_stream(codec, rate=rate, options={"strict": "experimental"})
        assert isinstance(stream, AudioStream)
        stream.layout = layout
        stream.format = sample_format or stream.codec_context.codec.audio_formats[0].name  # type: ignore[index]
        if bit_rate:
            stream.bit_rate = bit_rate
        resampler = av.AudioResampler(stream.format, layout, rate)
        fifo = av.AudioFifo()
        for at in range(0, len(pcm), 4096 * channels):
            block = pcm[at : at + 4096 * channels]
            frame = av.AudioFrame("s16", layout, len(block) // 2 // channels)
            frame.planes[0].update(block.ljust(frame.planes[0].buffer_size, b"\0"))
            frame.sample_rate = rate
            frame.pts = at // 2 // channels
            for converted in resampler.resample(frame):
                fifo.write(converted)
        size = stream.codec_context.frame_size or 1024
        while fifo.samples:
            part = fifo.read(size, partial=True)
            assert part is not None
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))


class Pipe:
    """A file that can only be written forward."""

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> int:
        self.written += data
        return len(data)


def tagged(data: bytes, kind: Callable[[io.BytesIO], Any], change: Callable[[Any], None]) -> bytes:
    file = io.BytesIO(data)
    audio = kind(file)
    change(audio)
    file.seek(0)
    audio.save(file)
    return file.getvalue()


def texts(value: str | tuple[str, ...]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def picture(artwork: bytes) -> Picture:
    made = Picture()
    made.data, made.type, made.mime = artwork, PictureType.COVER_FRONT, "image/png"
    return made


def with_id3(data: bytes, kind: Callable[[io.BytesIO], Any], tags: Tags, artwork: bytes | None) -> bytes:
    if not tags and artwork is None:
        return data

    def change(audio: mutagen.FileType) -> None:
        if audio.tags is None:
            audio.add_tags()
        for key, value in tags:
            audio.tags.add(ID3_FRAMES[key](encoding=3, text=texts(value)))
        if artwork is not None:
            audio.tags.add(APIC(mime="image/png", type=PictureType.COVER_FRONT, desc="cover", data=artwork))

    return tagged(data, kind, change)


def with_vorbis_comments(data: bytes, kind: Callable[[io.BytesIO], Any], tags: Tags, artwork: bytes | None) -> bytes:
    if not tags and artwork is None:
        return data

    def change(audio: mutagen.FileType) -> None:
        for key, value in tags:
            audio[key] = texts(value)
        if artwork is not None and isinstance(audio, FLAC):
            audio.add_picture(picture(artwork))
        elif artwork is not None:
            audio["metadata_block_picture"] = [base64.b64encode(picture(artwork).write()).decode()]

    return tagged(data, kind, change)


@cache
def make_wav(
    *,
    seconds: float = 0.5,
    rate: int = 8000,
    channels: int = 1,
    seed: int = 0,
    tags: Tags = (),
    artwork: bytes | None = None,
) -> bytes:
    """16-bit PCM behind the plain header of 44 bytes."""
    pcm = samples(seconds, rate, channels, seed)
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16)
    data = struct.pack("<4sI4s", b"RIFF", 36 + len(pcm), b"WAVE") + chunk + struct.pack("<4sI", b"data", len(pcm)) + pcm
    return with_id3(data, WAVE, tags, artwork)


@cache
def make_mp3(
    *,
    seconds: float = 0.5,
    rate: int = 44_100,
    seed: int = 0,
    tags: Tags = (),
    artwork: bytes | None = None,
    xing: bool = True,
    id3: bool = False,
) -> bytes:
    """As LAME writes it; without ``xing`` the file carries no frame count, as many hardware recorders write it."""
    options = {"write_xing": str(int(xing)), "id3v2_version": "3" if id3 else "0"}
    data = encode("mp3", "libmp3lame", seconds=seconds, rate=rate, seed=seed, options=options)
    return with_id3(data, MP3, tags, artwork)


@cache
def make_flac(
    *, seconds: float = 0.5, rate: int = 44_100, seed: int = 0, tags: Tags = (), artwork: bytes | None = None
) -> bytes:
    data = encode("flac", "flac", seconds=seconds, rate=rate, seed=seed, sample_format="s16", bit_rate=None)
    return with_vorbis_comments(data, FLAC, tags, artwork)


@cache
def make_ogg(*, seconds: float = 0.5, seed: int = 0, tags: Tags = (), artwork: bytes | None = None) -> bytes:
    """Vorbis in Ogg. FFmpeg's own Vorbis encoder does stereo only."""
    data = encode("ogg", "vorbis", seconds=seconds, seed=seed, layout="stereo", bit_rate=None)
    return with_vorbis_comments(data, OggVorbis, tags, artwork)


@cache
def make_opus(*, seconds: float = 0.5, seed: int = 0, tags: Tags = (), artwork: bytes | None = None) -> bytes:
    data = encode("opus", "libopus", seconds=seconds, rate=48_000, seed=seed, sample_format="s16", bit_rate=32_000)
    return with_vorbis_comments(data, OggOpus, tags, artwork)


@cache
def make_m4a(
    *, seconds: float = 0.5, seed: int = 0, tags: Tags = (), artwork: bytes | None = None, flags: str = ""
) -> bytes:
    """AAC in MP4; ``flags`` are FFmpeg's ``movflags``, such as ``faststart`` or ``frag_keyframe+empty_moov``."""
    options = {"movflags": flags} if flags else {}
    data = encode("ipod", "aac", seconds=seconds, seed=seed, options=options)
    if not tags and artwork is None:
        return data

    def change(audio: MP4) -> None:
        for key, value in tags:
            if key == "track":
                audio["trkn"] = [(int(str(value)), 0)]
            else:
                audio[MP4_ATOMS[key]] = texts(value)
        if artwork is not None:
            audio["covr"] = [MP4Cover(artwork, imageformat=MP4Cover.FORMAT_PNG)]

    return tagged(data, MP4, change)


@cache
def make_aac(*, seconds: float = 0.5, seed: int = 0) -> bytes:
    """AAC in ADTS frames."""
    return encode("adts", "aac", seconds=seconds, seed=seed)


@cache
def make_aiff(
    *, seconds: float = 0.5, rate: int = 8000, seed: int = 0, tags: Tags = (), artwork: bytes | None = None
) -> bytes:
    data = encode("aiff", "pcm_s16be", seconds=seconds, rate=rate, seed=seed, bit_rate=None)
    return with_id3(data, AIFF, tags, artwork)


@cache
def make_wma(*, seconds: float = 0.5, seed: int = 0, tags: Tags = (), artwork: bytes | None = None) -> bytes:
    data = encode("asf", "wmav2", seconds=seconds, seed=seed, layout="stereo", bit_rate=64_000)
    if not tags and artwork is None:
        return data

    def change(audio: ASF) -> None:
        for key, value in tags:
            audio[ASF_NAMES[key]] = texts(value)
        if artwork is not None:
            mime, description = "image/png".encode("utf-16-le"), "cover".encode("utf-16-le")
            head = struct.pack("<BI", PictureType.COVER_FRONT, len(artwork)) + mime + b"\0\0" + description + b"\0\0"
            audio["WM/Picture"] = [ASFByteArrayAttribute(head + artwork)]

    return tagged(data, ASF, change)


@cache
def make_webm(*, seconds: float = 0.5, seed: int = 0, tags: Tags = (), live: bool = False) -> bytes:
    """Opus in WebM; ``live`` is what a browser's MediaRecorder gives: no duration, no sizes, no index."""
    return encode(
        "webm", "libopus", seconds=seconds, rate=48_000, seed=seed, sample_format="s16", bit_rate=32_000,
        metadata=tags, options={"live": "1"} if live else {}, seekable=not live,
    )  # fmt: skip


def make_silent_film() -> bytes:
    """An MP4 with pictures and without sound."""
    return make_film(sound=False)


@cache
def make_film(*, sound: bool = True) -> bytes:
    """A second of an MP4 with pictures."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film"
        with av.open(str(path), "w", format="mp4") as output:
            stream = output.add_stream("mpeg4", rate=5)
            assert isinstance(stream, VideoStream)
            stream.width = stream.height = 32
            voice = output.add_stream("aac", rate=44_100, layout="mono") if sound else None
            for number in range(5):
                frame = av.VideoFrame(32, 32, "yuv420p")
                frame.pts = number
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
            if isinstance(voice, AudioStream):
                for number in range(40):
                    silence = av.AudioFrame("fltp", "mono", 1024)
                    silence.planes[0].update(bytes(silence.planes[0].buffer_size))
                    silence.sample_rate, silence.pts = 44_100, 1024 * number
                    output.mux(voice.encode(silence))
                output.mux(voice.encode(None))
        return path.read_bytes()


MAKERS: dict[str, Callable[..., bytes]] = {
    "mp3": make_mp3,
    "wav": make_wav,
    "flac": make_flac,
    "ogg": make_ogg,
    "oga": make_ogg,
    "opus": make_opus,
    "m4a": make_m4a,
    "aac": make_aac,
    "aiff": make_aiff,
    "aif": make_aiff,
    "wma": make_wma,
    "webm": make_webm,
}


def with_frame(data: bytes, frame: Any) -> bytes:
    """An MP3 with one more ID3 frame, whatever it holds."""
    file = io.BytesIO(data)
    try:
        tags = ID3(file)
    except mutagen.MutagenError:
        tags = ID3()
    tags.add(frame)
    file.seek(0)
    tags.save(file)
    return file.getvalue()


@cache
def make_image(image_format: str, width: int = 64, height: int = 48, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((width, height))
    gradient.convert(mode).save(file, format=image_format)
    return file.getvalue()


def make_png(width: int = 64, height: int = 48, mode: str = "RGB") -> bytes:
    return make_image("PNG", width, height, mode)


def make_jpeg(width: int = 64, height: int = 48, mode: str = "RGB") -> bytes:
    return make_image("JPEG", width, height, mode)


def make_webp(width: int = 64, height: int = 48, mode: str = "RGB") -> bytes:
    return make_image("WEBP", width, height, mode)


@cache
def make_png_bomb(width: int = 10_000, height: int = 10_000) -> bytes:
    """A valid PNG of one colour: a hundred million pixels in some hundred kilobytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    size = height * (1 + 3 * width)
    # A hundred lines are compressed; the block stands on its own and is repeated. Adler-32 of zeros is their number.
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = squeeze.compress(bytes(size // 100)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    body = b"\x78\xda" + block * 100 + squeeze.flush() + struct.pack(">HH", size % 65521, 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

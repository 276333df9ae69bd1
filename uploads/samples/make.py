"""Makes the sound files of this folder: ``python uploads/samples/make.py``, which needs espeak-ng. We wrote the words,
espeak-ng speaks them, and the music is computed here.
"""

# mypy: allow-untyped-calls

import base64
import io
import math
import random
import subprocess
import tempfile
import wave
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, TALB, TIT2, TPE1
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggvorbis import OggVorbis
from PIL import Image, ImageDraw

HERE = Path(__file__).resolve().parent
RATE = 24_000
SEMITONE = 2 ** (1 / 12)
Sound = list[float]
Tags = dict[str, str]

WELCOME = "Welcome to AudioTricks. Drop a recording here, and it stays: whole, found, and within your quota."
MINUTES = (
    "Minutes of the meeting. We agreed on three things. The vault keeps every byte. No file is lost. Lunch at noon."
)
GREETING = "Guten Tag. Dies ist eine kleine Aufnahme auf Deutsch, damit auch Umlaute wie ä, ö und ü zu hören sind."


def main() -> None:
    album = "Handmade"
    speech = {"artist": "A machine that reads aloud", "album": "Spoken"}
    encode("welcome.opus", "opus", "libopus", spoken(WELCOME), bit_rate=24_000, tags={"title": "Welcome", **speech})
    encode("minutes.m4a", "ipod", "aac", spoken(MINUTES), bit_rate=32_000, tags={"title": "Minutes", **speech})
    encode("greeting.mp3", "mp3", "libmp3lame", spoken(GREETING, voice="de"), bit_rate=32_000)
    encode("waltz.mp3", "mp3", "libmp3lame", waltz(), bit_rate=40_000)
    encode("chords.m4a", "ipod", "aac", chords(), bit_rate=40_000)
    encode("drums.ogg", "ogg", "vorbis", drums(), layout="stereo")
    encode("bell.flac", "flac", "flac", bell(), rate=16_000)
    encode("rain.webm", "webm", "libopus", rain(), bit_rate=32_000, tags={"title": "Rain on the roof"})
    write_wave("metronome.wav", metronome(), rate=16_000)

    tag_mp3("greeting.mp3", {"title": "Guten Tag", **speech}, None)
    tag_mp3("waltz.mp3", {"title": "Waltz for three fingers", "artist": "The Oscillators", "album": album}, cover(1))
    tag_m4a("chords.m4a", {"title": "Four chords", "artist": "The Oscillators", "album": album}, cover(2))
    tag_ogg("drums.ogg", {"title": "Drums", "artist": "Noise & Decay", "album": album}, cover(3))
    tag_flac("bell.flac", {"title": "Bell", "artist": "The Oscillators", "album": album}, cover(4))
    # Cut off in the middle, with a valid name and beginning.
    whole = (HERE / "bell.flac").read_bytes()
    (HERE / "cut-off.flac").write_bytes(whole[: len(whole) // 2])


# Words


def spoken(text: str, voice: str = "en") -> Sound:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", voice, "-s", "160", "-w", str(path), text]
        subprocess.run(command, check=True)  # noqa: S603 - our own words
        with wave.open(str(path)) as file:
            rate, values = file.getframerate(), array("h", file.readframes(file.getnframes()))
    count = int(len(values) * RATE / rate)
    return [values[int(index * rate / RATE)] / 32_768 for index in range(count)]


# Music, as numbers from -1 to 1


def pitch(semitones: int) -> float:
    """Hz, counted from A at 220 Hz."""
    return 220 * SEMITONE**semitones


def silence(seconds: float) -> Sound:
    return [0.0] * int(seconds * RATE)


def tone(hertz: float, seconds: float, partials: Sequence[float], *, decay: float) -> Sound:
    """A struck or plucked tone. ``partials`` are the loudness of the multiples; ``decay`` is how fast it fades."""
    result = []
    for index in range(int(seconds * RATE)):
        moment = index / RATE
        loudness = min(1.0, moment / 0.01) * math.exp(-decay * moment)
        result.append(
            loudness
            * sum(
                strength * math.sin(2 * math.pi * hertz * (number + 1) * moment)
                for number, strength in enumerate(partials)
            )
        )
    return result


def noise(seconds: float, *, decay: float, seed: int) -> Sound:
    source = random.Random(seed)  # noqa: S311 - a sound
    return [source.uniform(-1, 1) * math.exp(-decay * index / RATE) for index in range(int(seconds * RATE))]


def mix(seconds: float, parts: Iterable[tuple[float, Sound, float]]) -> Sound:
    """``parts`` are begin in seconds, sound and loudness; the sum peaks just below the limit."""
    result = silence(seconds)
    for start, sound, loudness in parts:
        for index, value in enumerate(sound, start=int(start * RATE)):
            if index >= len(result):
                break
            result[index] += loudness * value
    peak = max(map(abs, result))
    return [0.8 * value / peak for value in result]


def waltz() -> Sound:
    soft = (0.6, 0.3, 0.1)
    melody = (12, 16, 19, 17, 16, 14, 16, 12, 11, 12, 14, 7, 12, 16, 19, 24, 23, 19, 21, 17, 14, 12)
    bass = (0, 5, 7, 0, 0, 5, 7, 0)
    parts = [(0.35 * number, tone(pitch(note), 0.8, soft, decay=3), 0.5) for number, note in enumerate(melody)]
    parts += [(1.05 * bar, tone(pitch(note - 12), 1.2, soft, decay=2), 0.6) for bar, note in enumerate(bass)]
    return mix(8.6, parts)


def chords() -> Sound:
    strings = (0.5, 0.25, 0.15, 0.1)
    bars = ((0, 4, 7), (-3, 0, 4), (5, 9, 12), (7, 11, 14))
    return mix(
        8.4,
        [
            (2 * bar + 0.06 * string, tone(pitch(note), 2.4, strings, decay=1.2), 0.4)
            for bar, chord in enumerate(bars)
            for string, note in enumerate(chord)
        ],
    )


def drums() -> Sound:
    def kick() -> Sound:
        return [
            math.sin(2 * math.pi * (50 * moment + 6 * (1 - math.exp(-20 * moment)))) * math.exp(-9 * moment)
            for moment in (index / RATE for index in range(int(0.35 * RATE)))
        ]

    parts = []
    for beat in range(16):
        start = 0.25 * beat
        if beat % 4 == 0:
            parts.append((start, kick(), 1.0))
        if beat % 4 == 2:
            parts.append((start, noise(0.2, decay=20, seed=beat), 0.5))
        parts.append((start, noise(0.05, decay=80, seed=100 + beat), 0.25))
    return mix(4.2, parts)


def bell() -> Sound:
    inharmonic = ((1.0, 1.0), (2.76, 0.6), (5.4, 0.25))
    return mix(2.0, [(0.0, tone(440 * ratio, 2.0, (1.0,), decay=2 * ratio), loud) for ratio, loud in inharmonic])


def rain() -> Sound:
    source = random.Random(7)  # noqa: S311 - a sound
    drops = [(source.uniform(0, 4.8), noise(0.05, decay=90, seed=number), source.random()) for number in range(400)]
    return mix(5.0, drops)


def metronome() -> Sound:
    clicks = [(0.3 * beat, tone(1500 if beat == 0 else 1000, 0.04, (1.0,), decay=60), 1.0) for beat in range(4)]
    return mix(1.3, clicks)


# Pictures


def cover(seed: int) -> bytes:
    """A JPEG of circles on a colour that changes from top to bottom."""
    source = random.Random(seed)  # noqa: S311 - a picture
    top, bottom = (tuple(source.randint(40, 200) for _ in range(3)) for _ in range(2))
    image = Image.new("RGB", (400, 400))
    draw = ImageDraw.Draw(image, "RGBA")
    for y in range(400):
        draw.line([(0, y), (400, y)], tuple(int(a + (b - a) * y / 400) for a, b in zip(top, bottom, strict=True)))
    for _ in range(7):
        x, y, radius = source.randint(0, 400), source.randint(0, 400), source.randint(30, 140)
        colour = (*(source.randint(120, 255) for _ in range(3)), 110)
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return file.getvalue()


# Files


def pcm(sound: Sound, channels: int = 1) -> bytes:
    values = array("h", (int(32_767 * value) for value in sound for _ in range(channels)))
    return values.tobytes()


def at_rate(sound: Sound, rate: int) -> Sound:
    return [sound[int(index * RATE / rate)] for index in range(int(len(sound) * rate / RATE))]


def write_wave(name: str, sound: Sound, *, rate: int) -> None:
    with wave.open(str(HERE / name), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm(at_rate(sound, rate)))


def encode(
    name: str,
    container: str,
    codec: str,
    sound: Sound,
    *,
    rate: int = RATE,
    layout: str = "mono",
    bit_rate: int | None = None,
    tags: Tags | None = None,
) -> None:
    channels = 2 if layout == "stereo" else 1
    data = pcm(at_rate(sound, rate), channels)
    with av.open(str(HERE / name), "w", format=container) as output:
        output.metadata.update(tags or {})
        stream = output.add_stream(codec, rate=rate, options={"strict": "experimental"})
        assert isinstance(stream, AudioStream)
        formats = stream.codec_context.codec.audio_formats
        assert formats
        stream.layout = layout
        stream.format = formats[0].name
        if bit_rate:
            stream.bit_rate = bit_rate
        resampler = av.AudioResampler(stream.format, layout, rate)
        frames = av.AudioFifo()
        frame = av.AudioFrame("s16", layout, len(data) // 2 // channels)
        frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate = rate
        frame.pts = 0
        for converted in resampler.resample(frame):
            frames.write(converted)
        size = stream.codec_context.frame_size or 1024
        while frames.samples:
            part = frames.read(size, partial=True)
            assert part is not None
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))


def tag_mp3(name: str, tags: Tags, artwork: bytes | None) -> None:
    file: Any = MP3(HERE / name)
    if file.tags is None:
        file.add_tags()
    frames: dict[str, Callable[..., Any]] = {"title": TIT2, "artist": TPE1, "album": TALB}
    for key, value in tags.items():
        file.tags.add(frames[key](encoding=3, text=value))
    if artwork:
        file.tags.add(APIC(encoding=3, mime="image/jpeg", type=3, desc="cover", data=artwork))
    file.save()


def tag_m4a(name: str, tags: Tags, artwork: bytes) -> None:
    file = MP4(HERE / name)
    atoms = {"title": "\xa9nam", "artist": "\xa9ART", "album": "\xa9alb"}
    for key, value in tags.items():
        file[atoms[key]] = value
    file["covr"] = [MP4Cover(artwork, imageformat=MP4Cover.FORMAT_JPEG)]
    file.save()


def picture(artwork: bytes) -> Picture:
    made = Picture()
    made.type, made.mime, made.data = 3, "image/jpeg", artwork
    return made


def tag_ogg(name: str, tags: Tags, artwork: bytes) -> None:
    file = OggVorbis(HERE / name)
    file.update(tags)
    file["metadata_block_picture"] = [base64.b64encode(picture(artwork).write()).decode()]
    file.save()


def tag_flac(name: str, tags: Tags, artwork: bytes) -> None:
    file = FLAC(HERE / name)
    file.update(tags)
    file.add_picture(picture(artwork))
    file.save()


if __name__ == "__main__":
    main()

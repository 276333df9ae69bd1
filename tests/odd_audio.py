"""Files that players play although something is odd about them, and files whose sound is missing: made byte by byte."""

import io
import random
import struct
from collections.abc import Callable
from functools import cache

import av

from media.framing import adts_frame, mpeg_layer3_frame
from tests import audio

ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
LYRICS = b"LYRICSBEGININD0000200LYR00005wordsLYR00005words"
LYRICS3 = LYRICS + f"{len(LYRICS):06}".encode() + b"LYRICS200"
OGG_SERIAL, OGG_SEQUENCE, OGG_CHECKSUM = slice(14, 18), slice(18, 22), slice(22, 26)


def noise(length: int, *, seed: int = 3) -> bytes:
    return random.Random(seed).randbytes(length)


@cache
def mp3(seconds: float = 8, *, seed: int = 0, xing: bool = True, bit_rate: int = 128_000, rate: int = 44_100) -> bytes:
    options = {"write_xing": str(int(xing)), "id3v2_version": "0"}
    return audio.encode("mp3", "libmp3lame", seconds=seconds, seed=seed, rate=rate, bit_rate=bit_rate, options=options)


@cache
def vbr_mp3(seconds: float = 8) -> bytes:
    """Frames of very different sizes without a count: the first ones are far from the average."""
    return mp3(seconds / 2, xing=False, bit_rate=32_000) + mp3(seconds / 2, xing=False, bit_rate=320_000)


@cache
def aac(seconds: float = 8) -> bytes:
    return audio.make_aac(seconds=seconds)


def frames(data: bytes, number: int) -> bytes:
    """The first frames of an MP3 or an AAC stream, without what lies behind them."""
    parse = adts_frame if adts_frame(data, 0) else mpeg_layer3_frame
    at = 0
    for _ in range(number):
        frame = parse(data, at)
        assert frame is not None
        at += frame.length
    return data[:at]


def id3v2(body: int, *, declared: int | None = None, footer: bool = False, fill: bytes = b"\x55") -> bytes:
    """A tag with one frame of ``body`` bytes; ``declared`` is the size that its header states instead."""
    content = b"PRIV" + synchsafe(body) + b"\0\0" + fill * body
    size = synchsafe(len(content) if declared is None else declared)
    head = b"ID3\x04\0" + (b"\x10" if footer else b"\0") + size
    return head + content + (b"3DI" + head[3:] if footer else b"")


def synchsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def ape(cover: int, *, header: bool = True) -> bytes:
    item = struct.pack("<II", cover, 2) + b"Cover Art (Front)\0" + noise(cover)
    flags = 1 << 31 if header else 0
    size = len(item) + 32

    def mark(is_header: int) -> bytes:
        return b"APETAGEX" + struct.pack("<IIII", 2000, size, 1, flags | is_header << 29) + bytes(8)

    return (mark(1) if header else b"") + item + mark(0)


def hole(data: bytes, fill: bytes = b"\0", *, begin: float = 0.4, end: float = 0.6) -> bytes:
    """The file with a part of it overwritten, by zeros or by noise."""
    first, last = int(len(data) * begin) + 5, int(len(data) * end) + 5
    return data[:first] + (bytes(last - first) if fill == b"\0" else noise(last - first)) + data[last:]


def tail(data: bytes, fill: bytes = b"\0", *, begin: float = 0.5) -> bytes:
    first = int(len(data) * begin) + 5
    return data[:first] + (bytes(len(data) - first) if fill == b"\0" else noise(len(data) - first))


def ogg_pages(data: bytes) -> list[bytes]:
    pages, at = [], 0
    while at < len(data):
        segments = data[at + 26]
        length = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        pages.append(data[at : at + length])
        at += length
    return pages


def with_checksum(page: bytes) -> bytes:
    """The page with the checksum that it should have, computed bit by bit (RFC 3533, 6)."""
    page = page[:22] + bytes(4) + page[26:]
    crc = 0
    for byte in page:
        crc = (crc << 8 ^ CRC_TABLE[crc >> 24 ^ byte]) & 0xFFFFFFFF
    return page[:22] + struct.pack("<I", crc) + page[26:]


def crc_of_byte(byte: int) -> int:
    crc = byte << 24
    for _ in range(8):
        crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


CRC_TABLE = [crc_of_byte(byte) for byte in range(256)]


def chained(*streams: bytes) -> bytes:
    """Ogg streams behind one another, each with a serial number of its own (RFC 3533, 4)."""
    return b"".join(
        with_checksum(page[:14] + struct.pack("<I", 1000 + number) + page[18:])
        for number, stream in enumerate(streams)
        for page in ogg_pages(stream)
    )


def ogg_cropped(data: bytes, headers: int, dropped: int) -> bytes:
    """An Ogg stream without its first pages of sound, as a cutter leaves it that keeps the positions."""
    pages = ogg_pages(data)
    return b"".join(pages[:headers] + pages[headers + dropped :])


def with_brands(data: bytes, major: bytes, *compatible: bytes) -> bytes:
    """An MP4 with other brands in front. Its index lies behind the sound, and its offsets are moved along."""
    length = int.from_bytes(data[:4], "big")
    box = struct.pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", major, 512) + b"".join(compatible)
    filler = length - len(box)
    assert filler == 0 or filler >= 8, "the new box must leave room for a free one"
    return box + (struct.pack(">I4s", filler, b"free") + bytes(filler - 8) if filler else b"") + data[length:]


def patched(data: bytes, box: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """An MP4 with the body of the first box of this name changed in place."""
    changed = bytearray(data)
    change(changed, data.index(box) + 4)
    return bytes(changed)


def mdhd(duration: int) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, at: int) -> None:
        data[at + 16 : at + 20] = struct.pack(">I", duration)

    return change


def riff(*chunks: tuple[bytes, bytes], kind: bytes = b"RIFF", pad: bool = True) -> bytes:
    body = b"WAVE"
    for name, content in chunks:
        body += name + struct.pack("<I", len(content)) + content + (b"\0" if pad and len(content) % 2 else b"")
    return kind + struct.pack("<I", len(body)) + body


def wav_parts(seconds: float = 2) -> tuple[bytes, bytes]:
    """The format chunk and the sound of a plain WAV."""
    data = audio.make_wav(seconds=seconds)
    return data[20:36], data[44:]


def rifx(data: bytes) -> bytes:
    """A plain WAV of 16 bits with everything the other way round."""
    form = struct.unpack("<IHHIIHH", data[16:36])
    pcm = data[44:]
    swapped = bytearray(pcm)
    swapped[::2], swapped[1::2] = pcm[1::2], pcm[::2]
    sizes = struct.pack(">I", len(data) - 8), struct.pack(">I", len(pcm))
    return b"RIFX" + sizes[0] + b"WAVEfmt " + struct.pack(">IHHIIHH", *form) + b"data" + sizes[1] + bytes(swapped)


def ogg_page(packet: bytes, *, position: int, number: int, flags: int = 0) -> bytes:
    """One packet on one page of its own."""
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    head = b"OggS\0" + bytes([flags]) + struct.pack("<qIII", position, 7, number, 0) + bytes([len(lacing)])
    return with_checksum(head + lacing + packet)


@cache
def ogg_flac(seconds: float = 8, *, rate: int = 8000) -> bytes:
    """FLAC in Ogg by its mapping, made of a native file: a page for each frame."""
    native = audio.make_flac(seconds=seconds, rate=rate)
    comment = b"\x84\0\0\x08" + bytes(8)
    pages = [
        ogg_page(b"\x7fFLAC\x01\0\0\x01fLaC\0" + native[5:42], position=0, number=0, flags=2),
        ogg_page(comment, position=0, number=1),
    ]
    position = 0
    with av.open(io.BytesIO(native), format="flac") as container:
        for packet in container.demux(container.streams.audio[0]):
            if packet.size:
                position += packet.duration or 0
                pages.append(ogg_page(bytes(packet), position=position, number=len(pages)))
    last = bytearray(pages[-1])
    last[5] |= 4
    return b"".join(pages[:-1]) + with_checksum(bytes(last))

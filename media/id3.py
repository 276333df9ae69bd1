"""ID3v2.2 to 2.4 and ID3v1, in one pass.

Sources: the informal standards ID3v2.2.0, ID3v2.3.0 and ID3v2.4.0 (structure and frames), and ID3v1.1.
"""

import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from mutagen.id3 import TCON, Frames_2_2

from media.found import MAX_ARTWORK_BYTES, MAX_TEXT_BYTES, Found, Patch, decompress
from media.text import decode_field, decode_legacy, decode_text, decode_utf16

HEADER_BYTES = 10
V1_BYTES = 128
MAX_TAG_BYTES = 64 * 1024**2
# Consecutive tags: a file that was tagged twice has two.
MAX_TAGS = 10_000
FRAME_NAME = re.compile(rb"[A-Z][A-Z0-9]{2,3}")
LINK = "-->"
ID3_NAMES = {
    "TIT2": "title", "TPE1": "artist", "TALB": "album", "TDRC": "date", "TYER": "date", "TCON": "genre",
    "TRCK": "track", "TPOS": "disc", "TPE2": "albumartist", "TPE3": "conductor", "TCOM": "composer",
    "TIT1": "grouping", "TIT3": "subtitle", "TBPM": "bpm", "TSRC": "isrc", "TCOP": "copyright", "TPUB": "publisher",
    "TENC": "encodedby", "TSSE": "encoder", "TLAN": "language", "TDOR": "originaldate", "TORY": "originaldate",
    "TCMP": "compilation", "COMM": "comment", "USLT": "lyrics",
}  # fmt: skip
# Lists of people with their roles, and parts of a date that are useless alone.
LEFT_OUT = frozenset(("TIPL", "TMCL", "TDAT", "TIME", "TRDA", "TSIZ"))
SHORT_NAMES = {name: kind.__base__.__name__ for name, kind in Frames_2_2.items() if kind.__base__ is not None}
# iTunes' short names, which mutagen lacks.
SHORT_NAMES |= {"TCP": "TCMP", "PIC": "APIC"}


def read_id3(file: BinaryIO, at: int, end: int) -> Found:
    """From ``at`` on; earlier tags take precedence."""
    found = Found()
    for _ in range(MAX_TAGS):
        file.seek(at)
        header = file.read(HEADER_BYTES)
        if header[:3] != b"ID3" or len(header) < HEADER_BYTES or at >= end:
            break
        size = synchsafe(header[6:10])
        found.fill_from(read_tag(file, header, at))
        at += HEADER_BYTES + size + (HEADER_BYTES if header[5] & 0x10 else 0)
    return found


def read_tag(file: BinaryIO, header: bytes, at: int) -> Found:
    found = Found()
    version, flags = header[3], header[5]
    body = file.read(min(synchsafe(header[6:10]), MAX_TAG_BYTES))
    if version not in (2, 3, 4):
        return found
    # A tag that begins with zero is padding to other readers.
    hidden = min(HEADER_BYTES, len(body))
    found.patches += [Patch(at + 5, bytes([flags & 0x10])), Patch(at + HEADER_BYTES, bytes(hidden))]
    unsynchronised = bool(flags & 0x80)
    if unsynchronised and version < 4:
        body = resynchronise(body)
    begin = after_extended_header(body, version) if flags & 0x40 and version > 2 else 0
    day = ""
    for name, frame_flags, data in frames(body, begin, version):
        found.entries += 1
        if found.is_full:
            found.is_cut = True
            break
        content = unwrapped(name, data, frame_flags, version, unsynchronised=unsynchronised)
        if name == "TDAT" and content:
            day = " ".join(text_values(content))
        elif content:
            read_frame(found, name, content, version)
    if re.fullmatch(r"\d{4}", day):
        found.texts = [with_day(name, text, day) for name, text in found.texts]
    return found


def with_day(name: str, text: str, day: str) -> tuple[str, str]:
    """The year of ID3v2.3 with the day (DDMM)."""
    is_year = name == "date" and re.fullmatch(r"\d{4}", text)
    return (name, f"{text}-{day[2:]}-{day[:2]}") if is_year else (name, text)


def frames(body: bytes, at: int, version: int) -> Iterator[tuple[str, int, bytes]]:
    """Name (four letters), flags and content, up to the padding."""
    head = 6 if version == 2 else 10
    while at + head < len(body):
        name = body[at : at + (3 if version == 2 else 4)]
        if version == 2:
            size, flags = int.from_bytes(body[at + 3 : at + 6], "big"), 0
        else:
            size = frame_size(body, at, version)
            flags = int.from_bytes(body[at + 8 : at + 10], "big")
        # Some encoders write frames of three letters and a NUL or blank.
        if not FRAME_NAME.fullmatch(name.rstrip(b"\0 ")):
            return
        letters = name.rstrip(b"\0 ").decode()
        yield SHORT_NAMES.get(letters, letters), flags, body[at + head : at + head + size]
        at += head + size


def frame_size(body: bytes, at: int, version: int) -> int:
    """ID3v2.4 uses seven bits of each byte; iTunes wrote plain numbers."""
    raw = body[at + 4 : at + 8]
    plain = int.from_bytes(raw, "big")
    if version == 3 or any(byte & 0x80 for byte in raw):
        return plain
    safe = synchsafe(raw)
    if plain == safe or begins_frame(body, at + 10 + safe):
        return safe
    return plain if begins_frame(body, at + 10 + plain) else safe


def begins_frame(body: bytes, at: int) -> bool:
    return at == len(body) or body[at : at + 1] == b"\0" or bool(FRAME_NAME.fullmatch(body[at : at + 4]))


def synchsafe(data: bytes) -> int:
    size = 0
    for byte in data:
        size = size << 7 | byte & 0x7F
    return size


def resynchronise(data: bytes) -> bytes:
    return data.replace(b"\xff\0", b"\xff")


def after_extended_header(body: bytes, version: int) -> int:
    """Some writers set the flag without such a header."""
    if FRAME_NAME.fullmatch(body[:4]):
        return 0
    return synchsafe(body[:4]) if version == 4 else 4 + int.from_bytes(body[:4], "big")


def unwrapped(name: str, data: bytes, flags: int, version: int, *, unsynchronised: bool) -> bytes:
    """Decompressed and bounded; empty if encrypted or broken."""
    if version == 4:
        grouped, packed, encrypted = flags & 0x40, flags & 0x08, flags & 0x04
        data = data[1:] if grouped else data
        plain = data
        if flags & 0x09:
            data = data[4:]
        if flags & 0x02 or unsynchronised:
            data = resynchronise(data)
    else:
        packed, encrypted, grouped = flags & 0x80, flags & 0x40, flags & 0x20
        plain = data
        data = data[4:] if packed else data
        data = data[1:] if grouped else data
    if encrypted:
        return b""
    if not packed:
        return data
    most = MAX_ARTWORK_BYTES if name == "APIC" else MAX_TEXT_BYTES
    # Some writers omit the leading length.
    for packing in (data, plain):
        try:
            return decompress(packing, most)
        except zlib.error:
            continue
    return b""


def read_frame(found: Found, name: str, data: bytes, version: int) -> None:
    if name == "APIC":
        read_picture(found, data, version)
    elif name in ("COMM", "USLT"):
        description, *texts = text_values(data[:1] + data[4:MAX_TEXT_BYTES]) or [""]
        # iTunes stores private numbers in comments with such a description.
        if texts and not description.startswith("iTun"):
            found.add(ID3_NAMES[name], "\0".join(texts))
        elif not texts:
            found.add(ID3_NAMES[name], description)
    elif name == "TXXX":
        description, *texts = text_values(data[:MAX_TEXT_BYTES]) or [""]
        found.add(description.lower(), "\0".join(texts))
    elif name.startswith("T") and name not in LEFT_OUT:
        texts = text_values(data[:MAX_TEXT_BYTES])
        if name == "TCON":
            texts = list(TCON(encoding=3, text=texts).genres)  # type: ignore[no-untyped-call]
        found.add(ID3_NAMES.get(name, name.lower()), "\0".join(texts))


def text_values(data: bytes) -> list[str]:
    """Declared Latin-1 is read as UTF-8 where possible."""
    if not data:
        return []
    encoding, text = data[0], data[1:]
    if encoding in (1, 2) and not looks_narrow(text):
        return decode_utf16(text, default="utf-16-be" if encoding == 2 else "utf-16-le")
    # The byte is missing: the text begins at once.
    return decode_text(text if encoding <= 3 else data).split("\0")


def looks_narrow(text: bytes) -> bool:
    """Whether declared UTF-16 is plain ASCII."""
    return len(text) > 3 and text.isascii() and b"\0" not in text


def read_picture(found: Found, data: bytes, version: int) -> None:
    """A link (MIME type ``-->``) is not followed."""
    encoding = data[0] if data else 0
    if version == 2:
        mime, at = decode_legacy(data[1:4], "latin-1"), 4
    else:
        end = data.find(b"\0", 1)
        if end < 0:
            return
        mime, at = decode_legacy(data[1:end], "latin-1"), end + 1
    if mime.strip() == LINK or at >= len(data):
        return
    found.add_picture(data[at], data[after_text(data, at + 1, encoding) :])


def after_text(data: bytes, at: int, encoding: int) -> int:
    if encoding not in (1, 2):
        end = data.find(b"\0", at)
        return end + 1 if end >= 0 else len(data)
    end = data.find(b"\0\0", at)
    while end >= 0 and (end - at) % 2:
        end = data.find(b"\0\0", end + 1)
    return end + 2 if end >= 0 else len(data)


def read_id3v1(file: BinaryIO, size: int) -> Found:
    found = Found()
    file.seek(max(0, size - V1_BYTES))
    tag = file.read(V1_BYTES)
    if len(tag) < V1_BYTES or tag[:3] != b"TAG":
        return found
    found.entries = 1
    comment = tag[97:127]
    if comment[28] == 0 and comment[29]:
        found.add("track", str(comment[29]))
        comment = comment[:28]
    fields = {"title": tag[3:33], "artist": tag[33:63], "album": tag[63:93], "date": tag[93:97], "comment": comment}
    for name, value in fields.items():
        found.add(name, decode_field(value))
    if tag[127] < len(TCON.GENRES):
        found.add("genre", TCON.GENRES[tag[127]])
    return found

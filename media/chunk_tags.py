"""Tags in chunks of WAV (RIFF, RF64, BW64) and AIFF files.

Sources: Multimedia Programming Interface and Data Specifications 1.0 (INFO, CSET), EBU Tech 3285 (bext), Apple's Audio
Interchange File Format 1.3 (text chunks).
"""

import codecs
from typing import BinaryIO

from media.found import MAX_TEXT_BYTES, Found, Patch
from media.id3 import read_id3
from media.riff import iff_chunks
from media.sound import read_at
from media.text import decode_field, decode_text

INFO_NAMES = {
    b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"ICMT": "comment", b"ICRD": "date", b"IGNR": "genre",
    b"ITRK": "track", b"IPRT": "track", b"ICOP": "copyright", b"ILNG": "language", b"ISFT": "encoder",
    b"ITCH": "encodedby", b"IMUS": "composer", b"IPUB": "publisher",
}  # fmt: skip
AIFF_NAMES = {b"NAME": "title", b"AUTH": "artist", b"(c) ": "copyright", b"ANNO": "comment"}
# The fields of a broadcast extension with their widths, in bytes.
BEXT_FIELDS = (
    ("description", 256), ("originator", 32), ("originator_reference", 32), ("origination_date", 10),
    ("origination_time", 8),
)  # fmt: skip
BEXT_BYTES = 602
MAX_INFO_BYTES = 4 * 1024**2
# Windows' code pages whose Python name is not "cp" and the number.
CODE_PAGES = {0: "cp1252", 1200: "utf-16-le", 10000: "mac_roman", 20866: "koi8-r", 21866: "koi8-u", 65001: "utf-8"}


def read_wav(file: BinaryIO, size: int) -> Found:
    """The ID3 chunk precedes INFO and the broadcast extension."""
    found, plain = Found(), Found()
    infos: list[bytes] = []
    page = "cp1252"
    for name, at, length in iff_chunks(file, size, "<"):
        if name in (b"id3 ", b"ID3 "):
            found.fill_from(read_id3(file, at, min(size, at + length)))
        elif name == b"CSET":
            page = code_page(int.from_bytes(read_at(file, at, 2), "little"))
        elif name == b"LIST" and read_at(file, at, 4) == b"INFO":
            # All are hidden from FFmpeg, also those beyond our own limit.
            plain.patches.append(Patch(at, bytes(4)))
            plain.is_cut = plain.is_cut or length > MAX_INFO_BYTES or plain.is_full
            if not plain.is_full:
                infos.append(read_at(file, at + 4, min(length - 4, MAX_INFO_BYTES) if length > 4 else 0))
            plain.entries += 1
        elif name == b"bext" and not plain.is_full:
            read_bext(plain, read_at(file, at, min(length, BEXT_BYTES + MAX_TEXT_BYTES)))
    for info in infos:
        read_info(plain, info, page)
    found.fill_from(plain)
    return found


def code_page(number: int) -> str:
    """Python's name of a Windows code page; default cp1252."""
    name = CODE_PAGES.get(number) or f"iso8859-{number - 28590}" if 28590 < number < 28606 else f"cp{number}"
    name = CODE_PAGES.get(number, name)
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "cp1252"


def read_info(found: Found, data: bytes, page: str) -> None:
    at = 0
    while at + 8 < len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if found.is_full:
            found.is_cut = True
            return
        found.entries += 1
        value = data[at + 8 : at + 8 + min(length, MAX_TEXT_BYTES)].rstrip(b"\0")
        if name.isalnum() and name.isascii():
            found.add(INFO_NAMES.get(name) or name.decode().lower(), decode_text(value, otherwise=page))
        at += 8 + length + length % 2


def read_bext(found: Found, data: bytes) -> None:
    at = 0
    found.entries += 1
    for name, width in BEXT_FIELDS:
        found.add(name, decode_field(data[at : at + width]))
        at += width
    samples = int.from_bytes(data[at : at + 8], "little")
    if samples:
        found.add("time_reference", str(samples))
    found.add("coding_history", decode_text(data[BEXT_BYTES:].rstrip(b"\0")))


def read_aiff(file: BinaryIO, size: int) -> Found:
    found, plain = Found(), Found()
    for name, at, length in iff_chunks(file, size, ">"):
        if name in (b"ID3 ", b"id3 "):
            found.fill_from(read_id3(file, at, min(size, at + length)))
        elif name in AIFF_NAMES and not plain.is_full:
            plain.entries += 1
            text = read_at(file, at, min(length, MAX_TEXT_BYTES)).rstrip(b"\0")
            plain.add(AIFF_NAMES[name], decode_text(text, otherwise="mac_roman"))
    found.fill_from(plain)
    return found

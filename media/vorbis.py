"""Vorbis comments and pictures in FLAC and Ogg files, read once from front to back. Runs in the sandbox.

Sources: RFC 9639 (FLAC, with its picture block), RFC 3533 (Ogg), the Vorbis I specification (comments), RFC 7845
(Opus), and Xiph's conventions for pictures.
"""

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import BinaryIO

from media.found import FRONT_COVER, MAX_ARTWORK_BYTES, MAX_TEXT_BYTES, Found, Patch, Picture
from media.text import decode_text

COMMENT_BLOCK, PICTURE_BLOCK = 4, 6
MAX_BLOCKS = 10_000
MAX_PACKET_BYTES = 64 * 1024**2
MAX_PAGES = 10_000
PAGE_HEADER_BYTES = 27
LINK = b"-->"
# How a comment packet begins, and the first packet of its stream.
COMMENT_MARKS = {b"\x01vorbis": b"\x03vorbis", b"OpusHead": b"OpusTags", b"Speex   ": b"", b"\x7fFLAC": b""}
FLAC_BLOCK_HEADER_BYTES = 4


def read_flac(file: BinaryIO, at: int, size: int) -> Found:
    found = Found()
    file.seek(at)
    if file.read(4) != b"fLaC":
        return found
    at += 4
    for _ in range(MAX_BLOCKS):
        file.seek(at)
        header = file.read(FLAC_BLOCK_HEADER_BYTES)
        if len(header) < FLAC_BLOCK_HEADER_BYTES:
            break
        kind, length = header[0] & 0x7F, int.from_bytes(header[1:], "big")
        at += FLAC_BLOCK_HEADER_BYTES
        if kind == COMMENT_BLOCK:
            place = read_comments(found, file.read(length))
            if place is not None:
                found.patches.append(Patch(at + place, bytes(4)))
        elif kind == PICTURE_BLOCK:
            found.entries += 1
            picture = flac_picture(file.read(min(length, MAX_ARTWORK_BYTES)))
            if picture is not None:
                found.add_picture(*picture)
        at += length
        if header[0] & 0x80 or at >= size:
            break
    return found


def read_ogg(file: BinaryIO, size: int) -> Found:
    """The comments of the first stream that has some, which are its second packet."""
    found = Found()
    streams: dict[bytes, bytes] = {}
    packets: dict[bytes, bytearray] = {}
    places: dict[bytes, tuple[int, bytes]] = {}
    for at, serial, page, body, whole in pages(file, size):
        if serial not in streams:
            mark = next((COMMENT_MARKS[first] for first in COMMENT_MARKS if body.startswith(first)), None)
            if mark is not None:
                streams[serial] = mark
            continue
        if streams[serial] and serial not in packets and not body.startswith(streams[serial]):
            continue
        packet = packets.setdefault(serial, bytearray())
        places.setdefault(serial, (at, page))
        packet += body[:whole] if whole is not None else body
        if whole is not None or len(packet) > MAX_PACKET_BYTES:
            begin = len(streams[serial])
            # FLAC in Ogg wraps the comments into a block of its own.
            begin += FLAC_BLOCK_HEADER_BYTES if not begin and packet[0] & 0x7F == COMMENT_BLOCK else 0
            place = read_comments(found, bytes(packet[begin:]))
            patch = place is not None and without_comments(*places[serial], at=begin + place)
            if patch:
                found.patches.append(patch)
            break
    return found


def pages(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bytes, bytes, int | None]]:
    """Offset, serial number, the whole page, its body, and where the first packet in it ends, if it does."""
    at = 0
    for _ in range(MAX_PAGES):
        file.seek(at)
        header = file.read(PAGE_HEADER_BYTES + 255)
        if header[:4] != b"OggS" or len(header) < PAGE_HEADER_BYTES or at >= size:
            return
        segments = header[PAGE_HEADER_BYTES : PAGE_HEADER_BYTES + header[26]]
        begin = PAGE_HEADER_BYTES + len(segments)
        file.seek(at)
        page = file.read(begin + sum(segments))
        last = next((place for place, length in enumerate(segments) if length < 255), None)
        yield at, header[14:18], page, page[begin:], None if last is None else sum(segments[: last + 1])
        at += begin + sum(segments)


def without_comments(offset: int, page: bytes, *, at: int) -> Patch | None:
    """The page with a count of zero at this place of its body, and the checksum that it has then."""
    place = PAGE_HEADER_BYTES + page[26] + at
    if place + 4 > len(page):
        return None
    changed = page[:22] + bytes(4) + page[26:place] + bytes(4) + page[place + 4 :]
    return Patch(offset, changed[:22] + struct.pack("<I", page_checksum(changed)) + changed[26:])


def page_checksum(page: bytes) -> int:
    """CRC-32 with the polynomial 04c11db7, from zero, not reflected (RFC 3533, 6)."""
    checksum = 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFF_FFFF) ^ CHECKSUMS[checksum >> 24 ^ byte]
    return checksum


def checksum_of_byte(byte: int) -> int:
    checksum = byte << 24
    for _ in range(8):
        checksum = (checksum << 1 ^ (0x04C1_1DB7 if checksum & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    return checksum


CHECKSUMS = tuple(map(checksum_of_byte, range(256)))


def read_comments(found: Found, data: bytes) -> int | None:
    """Read the comments of one block; gives where their count stands."""
    place = 4 + int.from_bytes(data[:4], "little")
    if place + 4 > len(data):
        return None
    count = int.from_bytes(data[place : place + 4], "little")
    at = place + 4
    for _ in range(count):
        if at + 4 > len(data):
            break
        if found.is_full:
            found.is_cut = True
            break
        found.entries += 1
        length = int.from_bytes(data[at : at + 4], "little")
        read_comment(found, data[at + 4 : at + 4 + length])
        at += 4 + length
    return place


def read_comment(found: Found, comment: bytes) -> None:
    name, equals, value = comment.partition(b"=")
    key = decode_text(name[:1000]).lower()
    if key == "metadata_block_picture":
        picture = flac_picture(unpacked(value))
        if picture is not None:
            found.add_picture(*picture)
    elif key == "coverart":
        # What players wrote before there was METADATA_BLOCK_PICTURE: the picture and nothing else.
        found.add_picture(FRONT_COVER, unpacked(value))
    elif equals:
        found.add(key, decode_text(value[: MAX_TEXT_BYTES + 1]))


def unpacked(value: bytes) -> bytes:
    """The bytes of base64 in one of its two alphabets, broken into lines or not, with its padding or without."""
    letters = b"".join(value.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def flac_picture(data: bytes) -> Picture | None:
    """Type, MIME type, description, four numbers and the picture (RFC 9639, 8.8). A link is not followed."""
    kind, length = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4))
    mime = data[8 : 8 + length]
    at = 8 + length
    at += 4 + int.from_bytes(data[at : at + 4], "big") + 16
    size = int.from_bytes(data[at : at + 4], "big")
    content = data[at + 4 : at + 4 + size]
    return None if mime.strip() == LINK or not content else Picture(kind, content)

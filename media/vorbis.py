"""Vorbis comments and pictures in FLAC and Ogg files, in one pass.

Sources: RFC 9639 (FLAC, with its picture block), RFC 3533 (Ogg), the Vorbis I specification (comments), RFC 7845
(Opus), and Xiph's conventions for pictures.
"""

import base64
import binascii
import struct
from itertools import islice
from typing import BinaryIO, NamedTuple

from media.found import FRONT_COVER, MAX_ARTWORK_BYTES, MAX_TEXT_BYTES, Found, Patch, Picture
from media.ogg import Page, Pages, page_checksum
from media.sound import read_at
from media.text import decode_text

COMMENT_BLOCK, PICTURE_BLOCK = 4, 6
MAX_BLOCKS = 10_000
MAX_PACKET_BYTES = 64 * 1024**2
MAX_PAGES = 10_000
LINK = b"-->"
# How a comment packet begins, and the first packet of its stream.
COMMENT_MARKS = {b"\x01vorbis": b"\x03vorbis", b"OpusHead": b"OpusTags", b"Speex   ": b"", b"\x7fFLAC": b""}
FLAC_BLOCK_HEADER_BYTES = 4


class Place(NamedTuple):
    offset: int
    page: Page


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
    """Of the first stream with comments, in its second packet."""
    found = Found()
    marks: dict[int, bytes] = {}
    packets: dict[int, bytearray] = {}
    places: dict[int, Place] = {}
    reader = Pages(file, 0, size)
    for page in islice(reader, MAX_PAGES):
        serial = page.serial
        if serial not in marks:
            mark = next((COMMENT_MARKS[first] for first in COMMENT_MARKS if page.body.startswith(first)), None)
            if mark is not None:
                marks[serial] = mark
            continue
        if marks[serial] and serial not in packets and not page.body.startswith(marks[serial]):
            continue
        packet = packets.setdefault(serial, bytearray())
        places.setdefault(serial, Place(reader.at, page))
        ends = next((number for number, length in enumerate(page.lacing) if length < 255), None)
        packet += page.body if ends is None else page.body[: sum(page.lacing[: ends + 1])]
        if ends is not None or len(packet) > MAX_PACKET_BYTES:
            begin = len(marks[serial])
            # FLAC in Ogg wraps the comments into a block of its own.
            begin += FLAC_BLOCK_HEADER_BYTES if not begin and packet[0] & 0x7F == COMMENT_BLOCK else 0
            place = read_comments(found, bytes(packet[begin:]))
            patch = None if place is None else without_comments(file, places[serial], at=begin + place)
            if patch is not None:
                found.patches.append(patch)
            break
    return found


def without_comments(file: BinaryIO, place: Place, *, at: int) -> Patch | None:
    """The page with a count of zero and its new checksum."""
    page = read_at(file, place.offset, place.page.length)
    at += len(page) - len(place.page.body)
    if at + 4 > len(page):
        return None
    changed = page[:22] + bytes(4) + page[26:at] + bytes(4) + page[at + 4 :]
    return Patch(place.offset, changed[:22] + struct.pack("<I", page_checksum(changed)) + changed[26:])


def read_comments(found: Found, data: bytes) -> int | None:
    """Return the offset of their count."""
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
    """Base64 in either alphabet, with or without line breaks and padding."""
    letters = b"".join(value.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(letters + b"=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def flac_picture(data: bytes) -> Picture | None:
    """RFC 9639, 8.8. Links are not followed."""
    kind, length = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4))
    mime = data[8 : 8 + length]
    at = 8 + length
    at += 4 + int.from_bytes(data[at : at + 4], "big") + 16
    size = int.from_bytes(data[at : at + 4], "big")
    content = data[at + 4 : at + 4 + size]
    return None if mime.strip() == LINK or not content else Picture(kind, content)

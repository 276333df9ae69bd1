"""APE tags, versions 1 and 2, at the end of an MP3 or AAC stream."""

from typing import BinaryIO

from media.found import FRONT_COVER, MAX_TEXT_BYTES, Found
from media.text import decode_text

FOOTER_BYTES = 32
MAX_TAG_BYTES = 64 * 1024**2
TEXT, BINARY = 0, 1
OTHER_PICTURE = 0


def read_ape(file: BinaryIO, size: int) -> Found:
    """The tag that ends at ``size``, or before an ID3v1 tag."""
    found = Found()
    for end in (size, size - 128):
        file.seek(max(0, end - FOOTER_BYTES))
        footer = file.read(FOOTER_BYTES)
        if footer[:8] == b"APETAGEX":
            break
    else:
        return found
    length = int.from_bytes(footer[12:16], "little")
    if not FOOTER_BYTES <= length <= min(end, MAX_TAG_BYTES):
        return found
    file.seek(end - length)
    body = file.read(length - FOOTER_BYTES)
    at = 0
    while at + 8 < len(body):
        value_bytes, flags = (int.from_bytes(body[at + step : at + step + 4], "little") for step in (0, 4))
        name_end = body.find(b"\0", at + 8, at + 8 + 256)
        if name_end < 0:
            break
        if found.is_full:
            found.is_cut = True
            break
        found.entries += 1
        begin = name_end + 1
        read_item(found, body[at + 8 : name_end], flags >> 1 & 3, body[begin : begin + value_bytes])
        at = begin + value_bytes
    return found


def read_item(found: Found, name: bytes, kind: int, value: bytes) -> None:
    key = decode_text(name).lower()
    if kind == TEXT:
        found.add(key, decode_text(value[:MAX_TEXT_BYTES]))
    elif kind == BINARY and key.startswith("cover art"):
        # The file's name precedes the picture.
        data = value[value.find(b"\0") + 1 :]
        found.add_picture(FRONT_COVER if "front" in key else OTHER_PICTURE, data)

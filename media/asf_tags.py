"""Tags in WMA files. Source: Advanced Systems Format specification, revision 01.20.05, 3.10, 3.11, 4.7 and 4.8."""

from collections.abc import Iterator
from typing import BinaryIO

from media.found import MAX_TEXT_BYTES, Found, Patch
from media.text import decode_utf16

ASF_NAMES = {
    "author": "artist", "wm/albumtitle": "album", "wm/year": "date", "wm/genre": "genre", "wm/tracknumber": "track",
    "wm/track": "track", "wm/partofset": "disc", "wm/albumartist": "albumartist", "wm/composer": "composer",
    "wm/publisher": "publisher", "wm/isrc": "isrc", "wm/beatsperminute": "bpm", "wm/encodedby": "encodedby",
    "wm/lyrics": "lyrics", "description": "comment", "wm/encodingsettings": "encoder",
}  # fmt: skip
HEADER_OBJECT_BYTES = 30
MAX_HEADER_BYTES = 64 * 1024**2
CONTENT_DESCRIPTION = bytes.fromhex("3326b2758e66cf11a6d900aa0062ce6c")
EXTENDED_CONTENT = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")
HEADER_EXTENSION = bytes.fromhex("b503bf5f2ea9cf118ee300c00c205365")
METADATA = bytes.fromhex("eacbf8c5af5b77488467aa8c44fa4cca")
METADATA_LIBRARY = bytes.fromhex("941c23449894d149a1411d134e457054")
EXTENSION_HEADER_BYTES = 22
TEXT, BYTES, BOOLEAN, DOUBLE, QUAD, WORD, GUID = range(7)
NUMBER_BYTES = {DOUBLE: 4, QUAD: 8, WORD: 2}


def read_asf(file: BinaryIO, size: int) -> Found:
    found = Found()
    file.seek(16)
    length = int.from_bytes(file.read(8), "little")
    file.seek(0)
    data = file.read(min(length, size, MAX_HEADER_BYTES))
    extensions = []
    for kind, begin, end in objects(data, HEADER_OBJECT_BYTES, len(data)):
        if kind == HEADER_EXTENSION:
            extensions.append((begin + EXTENSION_HEADER_BYTES, end))
        else:
            read_object(found, kind, data, begin, end)
    # These contain second and long values of names in the descriptions.
    for begin, end in extensions:
        for kind, inner_begin, inner_end in objects(data, begin, end):
            read_object(found, kind, data, inner_begin, inner_end)
    return found


def objects(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The GUID and content bounds of each object."""
    while at + 24 <= end:
        length = int.from_bytes(data[at + 16 : at + 24], "little")
        if length < 24:
            return
        yield data[at : at + 16], at + 24, min(at + length, end)
        at += length


def read_object(found: Found, kind: bytes, data: bytes, begin: int, end: int) -> None:
    if kind == CONTENT_DESCRIPTION:
        found.entries += 1
        at = begin + 10
        for number, name in enumerate(("title", "artist", "copyright", "comment", "rating")):
            length = int.from_bytes(data[begin + 2 * number : begin + 2 * number + 2], "little")
            found.add(name, "\0".join(decode_utf16(data[at : min(at + length, end)])))
            at += length
    elif kind in (EXTENDED_CONTENT, METADATA, METADATA_LIBRARY):
        # An object with a count of zero.
        found.patches.append(Patch(begin, bytes(2)))
        read_attributes(found, data, begin, end, is_extended_content=kind == EXTENDED_CONTENT)


def read_attributes(found: Found, data: bytes, begin: int, end: int, *, is_extended_content: bool) -> None:
    """With short values (3.11), or with language, stream and long values (4.7, 4.8)."""
    at = begin + 2
    for _ in range(int.from_bytes(data[begin : begin + 2], "little")):
        if at >= end:
            return
        if found.is_full:
            found.is_cut = True
            return
        found.entries += 1
        if is_extended_content:
            name_at = at + 2
            value_head = name_at + int.from_bytes(data[at : at + 2], "little")
            name = data[name_at:value_head]
            kind, length = (int.from_bytes(data[value_head + n : value_head + n + 2], "little") for n in (0, 2))
            value_at = value_head + 4
        else:
            name_at = at + 12
            value_at = name_at + int.from_bytes(data[at + 4 : at + 6], "little")
            name = data[name_at:value_at]
            kind = int.from_bytes(data[at + 6 : at + 8], "little")
            length = int.from_bytes(data[at + 8 : at + 12], "little")
        read_attribute(found, decode_utf16(name[:2000])[0].lower(), kind, data[value_at : min(value_at + length, end)])
        at = value_at + length


def read_attribute(found: Found, name: str, kind: int, value: bytes) -> None:
    """Skips bytes and GUIDs."""
    if name == "wm/picture" and kind == BYTES:
        found.add_picture(*asf_picture(value))
        return
    if kind == TEXT:
        text = "\0".join(decode_utf16(value[:MAX_TEXT_BYTES]))
    elif kind == BOOLEAN:
        text = str(int(any(value)))
    elif kind in NUMBER_BYTES:
        text = str(int.from_bytes(value[: NUMBER_BYTES[kind]], "little"))
    else:
        return
    found.add(ASF_NAMES.get(name, name.removeprefix("wm/")), text)


def asf_picture(value: bytes) -> tuple[int, bytes]:
    """WM/Picture: type, length, MIME type and description in NUL-terminated UTF-16, picture."""
    at = 5
    for _ in range(2):
        while value[at : at + 2] not in (b"\0\0", b""):
            at += 2
        at += 2
    length = int.from_bytes(value[1:5], "little")
    return (value[0], value[at : at + length]) if value else (0, b"")

"""iTunes tags in MP4 files (moov, udta, meta, ilst).

Sources: ISO/IEC 14496-12 (boxes), Apple's QuickTime File Format (metadata, types of values).
"""

from collections.abc import Iterator
from typing import BinaryIO

from mutagen.id3 import TCON

from media.found import FRONT_COVER, MAX_TEXT_BYTES, Found, Patch
from media.text import decode_text, decode_utf16

MP4_NAMES = {
    b"\xa9nam": "title", b"\xa9ART": "artist", b"\xa9alb": "album", b"\xa9day": "date", b"\xa9gen": "genre",
    b"trkn": "track", b"disk": "disc", b"aART": "albumartist", b"\xa9wrt": "composer", b"\xa9grp": "grouping",
    b"\xa9cmt": "comment", b"\xa9lyr": "lyrics", b"\xa9too": "encoder", b"cprt": "copyright", b"tmpo": "bpm",
    b"desc": "description", b"cpil": "compilation", b"gnre": "genre",
}  # fmt: skip
NUMBERS = frozenset(
    (b"tmpo", b"cpil", b"\xa9mvc", b"\xa9mvi", b"shwm", b"stik", b"hdvd", b"rtng", b"tves", b"tvsn", b"pgap", b"pcst")
)
#: Ids of a shop.
LEFT_OUT = frozenset((b"plID", b"cnID", b"geID", b"atID", b"sfID", b"cmID", b"akID"))
PATH = (b"moov", b"udta", b"meta", b"ilst")
MAX_BOXES = 100_000
MAX_TAG_BYTES = 64 * 1024**2
IMPLICIT, UTF8, UTF16, UTF8_SORT, UTF16_SORT = 0, 1, 2, 4, 5
TEXT_TYPES = frozenset((IMPLICIT, UTF8, UTF16, UTF8_SORT, UTF16_SORT))
VALUE_HEADER_BYTES = 16


def read_mp4(file: BinaryIO, size: int) -> Found:
    found = Found()
    for at, begin, end in every(file, PATH, 0, size):
        # Players skip ``free`` boxes.
        found.patches.append(Patch(at + 4, b"free"))
        file.seek(begin)
        data = file.read(min(end - begin, MAX_TAG_BYTES))
        for name, item_begin, item_end in inner_boxes(data, 0, len(data)):
            if found.is_full:
                found.is_cut = True
                break
            found.entries += 1
            read_item(found, name, data, item_begin, item_end)
    return found


def every(file: BinaryIO, path: tuple[bytes, ...], at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Offset and content bounds of each box at this path."""
    for name, offset, begin, box_end in boxes(file, at, end):
        if name != path[0]:
            continue
        if name == b"meta":
            begin += version_bytes(file, begin)
        if len(path) == 1:
            yield offset, begin, box_end
        else:
            yield from every(file, path[1:], begin, box_end)


def version_bytes(file: BinaryIO, at: int) -> int:
    """``meta`` begins with a version only in MP4."""
    file.seek(at)
    return 0 if file.read(8)[4:8] == b"hdlr" else 4


def boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Name, offset and content bounds."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        file.seek(at)
        header = file.read(16)
        length, begin = int.from_bytes(header[:4], "big"), at + 8
        if length == 1:
            length, begin = int.from_bytes(header[8:16], "big"), at + 16
        box_end = at + length if length else end
        if box_end < begin:
            return
        yield header[4:8], at, begin, min(box_end, end)
        at = box_end


def inner_boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while at + 8 <= end:
        length = int.from_bytes(data[at : at + 4], "big")
        if length < 8:
            return
        yield data[at + 4 : at + 8], at + 8, min(at + length, end)
        at += length


def read_item(found: Found, name: bytes, data: bytes, begin: int, end: int) -> None:
    key = MP4_NAMES.get(name) or name.lstrip(b"\xa9").decode("latin-1").lower()
    texts: list[str] = []
    for part, at, part_end in inner_boxes(data, begin, end):
        if part == b"name" and name == b"----":
            key = decode_text(data[at + 4 : min(part_end, at + 1000)]).lower()
        elif part == b"data" and part_end - at >= 8:
            kind = int.from_bytes(data[at + 1 : at + 4], "big")
            if name == b"covr":
                # The declared type is often wrong.
                found.entries += 1
                found.add_picture(FRONT_COVER, data[at + 8 : part_end])
            elif name not in LEFT_OUT and len(texts) < 100:
                texts.append(value_text(name, kind, data[at + 8 : min(part_end, at + 8 + MAX_TEXT_BYTES)]))
    if texts:
        found.add(key, "\0".join(texts))


def value_text(name: bytes, kind: int, value: bytes) -> str:
    if name in (b"trkn", b"disk"):
        numbers = (int.from_bytes(value[at : at + 2], "big") for at in (2, 4))
        return "/".join(str(number) for number in numbers if number)
    if name == b"gnre":
        return str(TCON.GENRES[number]) if 0 <= (number := int.from_bytes(value, "big") - 1) < len(TCON.GENRES) else ""
    if name in NUMBERS or (kind == 21 and name != b"----"):
        return str(int.from_bytes(value[:8], "big", signed=True))
    if kind not in TEXT_TYPES or (kind == IMPLICIT and (name == b"----" or b"\0" in value)):
        return ""
    if kind in (UTF16, UTF16_SORT):
        return "\0".join(decode_utf16(value, default="utf-16-be"))
    return decode_text(value)

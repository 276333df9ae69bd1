"""Text tags under common names, bounded and without NUL and lone surrogates."""

import json
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

# The sum as JSON in ASCII, the longest form; with the other ``metadata`` it stays under 64 KiB.
MAX_BYTES = 62 * 1024
MAX_TAGS = 100
MAX_VALUES = 20
MAX_KEY_LENGTH = 100
MAX_VALUE_LENGTH = 8_000
MULTILINE = "\n\t"
#: Ends a shortened text.
CUT_MARK = "\u2026"
JOINER = "\u200d"
# The longest single character: an emoji of a family with joiners and colours.
LONGEST_CHARACTER = 32

OTHER_NAMES = {
    "tracknumber": "track", "discnumber": "disc", "album_artist": "albumartist", "album artist": "albumartist",
    "year": "date", "encoded_by": "encodedby", "author": "artist",
}  # fmt: skip
#: The most searched tags, which are kept before all others.
FIRST = (
    *("title", "artist", "album", "albumartist", "composer", "conductor", "track", "disc", "date", "genre"),
    *("language", "publisher", "copyright", "isrc", "bpm"),
)
PICTURE_KEYS = frozenset(
    ("metadata_block_picture", "coverart", "coverartmime", "coverartdescription", "wm/picture", "covr", "apic")
)

Tags = dict[str, str | list[str]]


class CommonTags(NamedTuple):
    values: Tags
    is_cut: bool


def common_tags(pairs: Iterable[tuple[str, str]]) -> CommonTags:
    """Texts (several between NULs) joined, without repeats."""
    found: dict[str, list[str]] = {}
    is_cut = False
    for name, text in pairs:
        key = name_of(name)
        if not key or key in PICTURE_KEYS:
            continue
        if key not in found and len(found) >= MAX_TAGS and key not in FIRST:
            is_cut = True
            continue
        texts = found.setdefault(key, [])
        for part in text.split("\0"):
            value = clean_text(part, keep=MULTILINE)
            if not value or value in texts:
                continue
            if len(texts) == MAX_VALUES:
                is_cut = True
                break
            is_cut = is_cut or len(value) > MAX_VALUE_LENGTH
            texts.append(shortened(value, MAX_VALUE_LENGTH))
    kept = within_budget(found)
    return CommonTags(kept, is_cut or sum(map(len, found.values())) > sum(map(count_values, kept.values())))


def name_of(name: str) -> str:
    key = clean_text(name[: 2 * MAX_KEY_LENGTH], keep="").lower()
    return whole_characters(OTHER_NAMES.get(key, key), MAX_KEY_LENGTH).strip()


def count_values(value: str | list[str]) -> int:
    return 1 if isinstance(value, str) else len(value)


def within_budget(found: dict[str, list[str]]) -> Tags:
    """The most useful names first."""
    room = MAX_BYTES
    kept: dict[str, list[str]] = {}
    for key in sorted(found, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        room_for_key = room - stored_bytes(key) - len(": [], ")
        for value in found[key]:
            if (size := stored_bytes(value) + len(", ")) <= room_for_key:
                room_for_key -= size
                kept.setdefault(key, []).append(value)
        room = room_for_key if key in kept else room
    return {key: kept[key][0] if len(kept[key]) == 1 else kept[key] for key in found if key in kept}


def stored_bytes(text: str) -> int:
    return len(json.dumps(text))


def clean_text(text: str, *, keep: str) -> str:
    """Without controls (except ``keep``), byte order marks and lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\ufeff", "")
    return "".join(char for char in text if char in keep or unicodedata.category(char) not in ("Cc", "Cs")).strip()


def shortened(text: str, length: int) -> str:
    """A cut text ends with the mark."""
    return text if len(text) <= length else whole_characters(text, length - 1) + CUT_MARK


def whole_characters(text: str, length: int) -> str:
    """Without cutting a combining mark or an emoji."""
    if len(text) <= length:
        return text
    for at in range(length, max(0, length - LONGEST_CHARACTER), -1):
        if text[at - 1] != JOINER and text[at] != JOINER and not unicodedata.category(text[at]).startswith("M"):
            return text[:at]
    return text[:length]

"""Text tags under common names, as JSON that PostgreSQL takes: no NUL, no lone surrogate, no binary, all bounded."""

import unicodedata
from collections.abc import Iterable
from typing import Any

from mutagen.asf import ASFTags
from mutagen.asf._attrs import ASFBoolAttribute, ASFByteArrayAttribute
from mutagen.id3 import ID3, TextFrame
from mutagen.mp4 import MP4FreeForm, MP4Tags

MAX_TAGS = 100
MAX_VALUES = 20
MAX_KEY_LENGTH = 100
MAX_VALUE_LENGTH = 2_000
MULTILINE = "\n\t"

ID3_NAMES = {
    "TIT2": "title", "TPE1": "artist", "TALB": "album", "TDRC": "date", "TYER": "date", "TCON": "genre",
    "TRCK": "track", "TPOS": "disc", "TPE2": "albumartist", "TPE3": "conductor", "TCOM": "composer",
    "TIT1": "grouping", "TIT3": "subtitle", "TBPM": "bpm", "TSRC": "isrc", "TCOP": "copyright", "TPUB": "publisher",
    "TENC": "encodedby", "TSSE": "encoder", "TLAN": "language", "TDOR": "originaldate", "TCMP": "compilation",
    "COMM": "comment", "USLT": "lyrics",
}  # fmt: skip
MP4_NAMES = {
    "\xa9nam": "title", "\xa9ART": "artist", "\xa9alb": "album", "\xa9day": "date", "\xa9gen": "genre",
    "trkn": "track", "disk": "disc", "aART": "albumartist", "\xa9wrt": "composer", "\xa9grp": "grouping",
    "\xa9cmt": "comment", "\xa9lyr": "lyrics", "\xa9too": "encoder", "cprt": "copyright", "tmpo": "bpm",
    "desc": "description", "cpil": "compilation",
}  # fmt: skip
ASF_NAMES = {
    "author": "artist", "wm/albumtitle": "album", "wm/year": "date", "wm/genre": "genre", "wm/tracknumber": "track",
    "wm/track": "track", "wm/partofset": "disc", "wm/albumartist": "albumartist", "wm/composer": "composer",
    "wm/publisher": "publisher", "wm/isrc": "isrc", "wm/beatsperminute": "bpm", "wm/encodedby": "encodedby",
    "wm/lyrics": "lyrics", "description": "comment", "wm/encodingsettings": "encoder",
}  # fmt: skip
OTHER_NAMES = {
    "tracknumber": "track", "discnumber": "disc", "album_artist": "albumartist", "album artist": "albumartist",
    "year": "date", "encoded_by": "encodedby",
}  # fmt: skip
PICTURE_KEYS = frozenset(("metadata_block_picture", "coverart", "wm/picture", "covr", "apic"))

Tags = dict[str, str | list[str]]


def common_tags(tags: Any) -> Tags:
    """The text in any of mutagen's tag objects or a plain mapping, under the common names; ``None`` gives none."""
    if tags is None:
        return {}
    if isinstance(tags, ID3):
        pairs = id3_pairs(tags)
    elif isinstance(tags, MP4Tags):
        pairs = mp4_pairs(tags)
    elif isinstance(tags, ASFTags):
        pairs = asf_pairs(tags)
    else:
        pairs = [(OTHER_NAMES.get(key.lower(), key.lower()), as_list(value)) for key, value in tags.items()]
    return cleaned(pairs)


def cleaned(pairs: Iterable[tuple[str, list[Any]]]) -> Tags:
    """Join the values of one name, in order and without repeats, clean and bound them."""
    found: dict[str, list[str]] = {}
    for name, values in pairs:
        key = clean_text(name, keep="")[:MAX_KEY_LENGTH]
        if not key or key in PICTURE_KEYS or (key not in found and len(found) == MAX_TAGS):
            continue
        texts = found.setdefault(key, [])
        for value in values:
            for part in str(value).split("\0"):
                text = clean_text(part, keep=MULTILINE)[:MAX_VALUE_LENGTH].strip()
                if text and text not in texts and len(texts) < MAX_VALUES:
                    texts.append(text)
    return {key: texts[0] if len(texts) == 1 else texts for key, texts in found.items() if texts}


def clean_text(text: str, *, keep: str) -> str:
    """Without control characters (other than ``keep``) and lone surrogates."""
    text = text.replace("\r\n", "\n")
    return "".join(char for char in text if char in keep or unicodedata.category(char) not in ("Cc", "Cs")).strip()


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def id3_pairs(tags: Any) -> Iterable[tuple[str, list[Any]]]:
    for frame in tags.values():
        if frame.FrameID == "TXXX":
            name = frame.desc.lower()
            yield OTHER_NAMES.get(name, name), list(frame.text)
        elif frame.FrameID in ("COMM", "USLT"):
            # iTunes keeps its private numbers in comments with a description of their own.
            if not frame.desc.startswith("iTun"):
                yield ID3_NAMES[frame.FrameID], as_list(frame.text)
        elif frame.FrameID == "TCON":
            yield "genre", list(frame.genres)
        elif isinstance(frame, TextFrame):
            yield ID3_NAMES.get(frame.FrameID, frame.FrameID.lower()), list(frame.text)  # type: ignore[attr-defined]


def mp4_pairs(tags: Any) -> Iterable[tuple[str, list[Any]]]:
    for key, values in tags.items():
        if key == "covr":
            continue
        if key in ("trkn", "disk"):
            yield MP4_NAMES[key], ["/".join(str(number) for number in pair if number) for pair in values]
        elif key.startswith("----"):
            name = key.split(":")[-1].lower()
            texts = [bytes(value).decode("utf-8", "replace") for value in values if is_mp4_text(value)]
            yield OTHER_NAMES.get(name, name), texts
        elif key == "cpil":
            yield MP4_NAMES[key], [int(values)]
        elif isinstance(values, list) and not any(isinstance(value, bytes) for value in values):
            yield MP4_NAMES.get(key, key.lstrip("\xa9").lower()), values


def is_mp4_text(value: Any) -> bool:
    return isinstance(value, MP4FreeForm) and value.dataformat == 1


def asf_pairs(tags: Any) -> Iterable[tuple[str, list[Any]]]:
    for key in dict.fromkeys(tags.keys()):
        name = key.lower()
        values = [value for value in tags[key] if not isinstance(value, ASFByteArrayAttribute)]
        texts = [str(int(bool(value.value))) if isinstance(value, ASFBoolAttribute) else str(value) for value in values]
        yield ASF_NAMES.get(name, name.removeprefix("wm/")), texts

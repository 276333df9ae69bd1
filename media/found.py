"""The bounded result of all tag readers."""

import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

# More texts than any reasonable file has; only a small part is kept in the end.
MAX_TEXTS = 2_000
MAX_CHARACTERS = 1_000_000
MAX_TEXT_BYTES = 256 * 1024
# The picture types of ID3v2.4 (4.14), also used by other formats.
FRONT_COVER = 3
MAX_PICTURES = 16
MAX_ARTWORK_BYTES = 20 * 1024**2
MAX_PICTURE_BYTES = 64 * 1024**2


class Picture(NamedTuple):
    kind: int
    data: bytes


class Patch(NamedTuple):
    """Bytes that hide a tag from another reader."""

    offset: int
    replacement: bytes


@dataclass
class Found:
    """Texts by name and pictures, in order, and the patches that hide their tags. ``entries`` counts everything;
    ``is_cut``: some was left out.
    """

    texts: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    patches: list[Patch] = field(default_factory=list)
    entries: int = 0
    characters: int = 0
    picture_bytes: int = 0
    is_cut: bool = False

    @property
    def is_full(self) -> bool:
        return self.entries >= MAX_TEXTS or self.characters >= MAX_CHARACTERS

    def add(self, name: str, text: str) -> None:
        if self.characters >= MAX_CHARACTERS:
            self.is_cut = True
            return
        self.is_cut = self.is_cut or len(text) > MAX_TEXT_BYTES
        self.texts.append((name, text[:MAX_TEXT_BYTES]))
        self.characters += min(len(text), MAX_TEXT_BYTES)

    def add_picture(self, kind: int, data: bytes) -> None:
        room = MAX_PICTURE_BYTES - self.picture_bytes
        if 0 < len(data) <= min(room, MAX_ARTWORK_BYTES) and len(self.pictures) < MAX_PICTURES:
            self.pictures.append(Picture(kind, data))
            self.picture_bytes += len(data)

    def fill_from(self, other: "Found") -> None:
        """Add texts under names that this tag lacks."""
        if not self.is_full:
            names = {name for name, _ in self.texts}
            for name, text in other.texts:
                if name not in names:
                    self.add(name, text)
        for picture in other.pictures:
            self.add_picture(*picture)
        self.patches += other.patches
        self.entries += other.entries
        self.is_cut = self.is_cut or other.is_cut


def decompress(data: bytes, most: int) -> bytes:
    """At most ``most`` bytes. Raises ``zlib.error``."""
    return zlib.decompressobj().decompress(data, most)

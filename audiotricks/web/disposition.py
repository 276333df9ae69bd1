import unicodedata
from pathlib import PurePosixPath

from django.utils.http import content_disposition_header

#: Bytes of UTF-8. No usual file system has longer names, and a letter of three bytes takes nine in a header.
MAX_NAME_BYTES = 255
#: In the query of a signed URL, such a letter takes fifteen, beside a signature and perhaps a session's token.
MAX_SIGNED_NAME_BYTES = 120
MAX_EXTENSION_BYTES = 20
JOINER = "\u200d"
SKIN_TONES = frozenset(map(chr, range(0x1F3FB, 0x1F400)))


def content_disposition(filename: str, *, as_attachment: bool, longest: int = MAX_NAME_BYTES) -> str:
    """The name is cut to ``longest`` bytes, since proxies limit headers, and keeps its extension."""
    return content_disposition_header(as_attachment, shortened(filename, longest)) or "inline"


def shortened(name: str, longest: int) -> str:
    """At most ``longest`` bytes of UTF-8, without breaking letters and emoji."""
    if len(name.encode()) <= longest:
        return name
    extension = PurePosixPath(name).suffix
    if len(extension.encode()) > MAX_EXTENSION_BYTES:
        extension = ""
    stem = name.removesuffix(extension)
    room = longest - len(extension.encode())
    end = len(stem.encode()[:room].decode(errors="ignore"))
    while end and (belongs_to_the_one_before(stem[end : end + 1]) or stem[end - 1] == JOINER):
        end -= 1
    return stem[:end].rstrip(". ") + extension


def belongs_to_the_one_before(character: str) -> bool:
    return character == JOINER or unicodedata.category(character or " ").startswith("M") or character in SKIN_TONES

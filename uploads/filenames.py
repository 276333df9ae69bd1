"""The name that a user gave a file, made harmless."""

import re
import unicodedata
from pathlib import PurePosixPath

from uploads.models import AudioUpload

MAX_LENGTH = AudioUpload._meta.get_field("original_filename").max_length or 500
#: Controls, and the marks that turn the direction of writing and so disguise an extension.
DISGUISES = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def clean_filename(name: str) -> str:
    """The last path component, in NFC, without control characters or direction marks, at most 500 characters.

    Returns an empty string when nothing is left. A name that is cut keeps its extension.
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = DISGUISES.sub("", name)
    name = "".join(character for character in name if unicodedata.category(character) not in ("Cc", "Cs"))
    name = unicodedata.normalize("NFC", name).strip().strip(".").strip() if name.strip(". ") else ""
    if len(name) > MAX_LENGTH:
        suffix = PurePosixPath(name).suffix[:20]
        name = name[: MAX_LENGTH - len(suffix)] + suffix
    return name

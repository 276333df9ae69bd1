"""The name that a user gave a file, made harmless."""

import re
import unicodedata
from pathlib import PurePosixPath

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from uploads.formats import audio_format
from uploads.models import AudioUpload

MAX_LENGTH = AudioUpload._meta.get_field("original_filename").max_length or 500
MAX_EXTENSION_LENGTH = 20
#: Controls, and the marks that turn the direction of writing and so disguise an extension.
DISGUISES = re.compile("[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
#: A hidden file's dot in front, what Windows drops behind, and the spaces that are no controls.
EDGES = ". \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def clean_filename(name: str) -> str:
    """The last path component, in NFC, without control characters or direction marks, at most 500 characters.

    Returns an empty string when nothing is left. A name that is cut keeps its extension.
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = DISGUISES.sub("", name)
    name = "".join(character for character in name if unicodedata.category(character) not in ("Cc", "Cs"))
    name = unicodedata.normalize("NFC", name).strip(EDGES)
    if len(name) > MAX_LENGTH:
        suffix = PurePosixPath(name).suffix
        suffix = suffix if len(suffix) <= MAX_EXTENSION_LENGTH else ""
        name = (name[: MAX_LENGTH - len(suffix)] + suffix).strip(EDGES)
    return name


def check_new_name(name: str, *, extension: str) -> str:
    """The name made harmless, for a file that is called something else now and whose content wants this extension.

    Raises ValidationError in words, UnsupportedFormat for a name that ends like no format of ours.
    """
    name = clean_filename(name)
    if not name:
        raise ValidationError(_("Nothing is left of this name. Write one with letters in it."))
    if audio_format(name).extension != extension:
        raise ValidationError(_("Keep the ending .%(extension)s: it says what it is.") % {"extension": extension})
    return name

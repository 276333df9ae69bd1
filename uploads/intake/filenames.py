"""Makes the name that a user gave a file harmless."""

import re
import unicodedata
from pathlib import PurePosixPath

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from media.formats import audio_format
from uploads.models import AudioUpload

MAX_LENGTH = AudioUpload._meta.get_field("original_filename").max_length or 500
MAX_EXTENSION_LENGTH = 20
#: Controls and direction marks, which can disguise an extension.
DISGUISES = re.compile("[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
# Scripts whose letters are joined or separated by invisible signs: Arabic, Syriac, N'Ko, Mandaic, those of India,
# Myanmar, Khmer, Mongolian, and Arabic's presentation forms.
JOINED = "\u0620-\u065f\u066e-\u06d3\u06d5-\u06ef\u06fa-\u07bf\u07ca-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u17d3"
JOINED += "\u1820-\u18af\ua840-\ua8ff\ua980-\ua9df\ufb50-\ufdff\ufe70-\ufefc\U00011000-\U000114ff"
# The sign that removes a vowel; a joiner after it may end a word.
VIRAMA = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u1039\u17d2"
EMOJI = "\u00a9\u00ae\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
PART_OF_EMOJI = f"{EMOJI}\ufe0f\U000e007f"
JOINERS = re.compile(
    f"((?<=[{JOINED}])[\u200c\u200d](?=[{JOINED}])"
    f"|(?<=[{VIRAMA}])[\u200c\u200d]"
    f"|(?<=[{PART_OF_EMOJI}])\u200d(?=[{EMOJI}]))"
    "|[\u200c\u200d]"
)
SEVERAL_JOINERS = re.compile("([\u200c\u200d])[\u200c\u200d]+")
#: The leading dot of a hidden file, trailing characters that Windows drops, and spaces that are no controls.
EDGES = ". \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


def clean_filename(name: str) -> str:
    """The last path component, in NFC, without controls and direction marks, cut to 500 characters with its extension.
    May be empty.
    """
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = DISGUISES.sub("", name)
    name = "".join(character for character in name if unicodedata.category(character) not in ("Cc", "Cs"))
    name = unicodedata.normalize("NFC", needed_joiners(name)).strip(EDGES)
    if len(name) > MAX_LENGTH:
        suffix = PurePosixPath(name).suffix
        suffix = suffix if len(suffix) <= MAX_EXTENSION_LENGTH else ""
        name = needed_joiners(name[: MAX_LENGTH - len(suffix)] + suffix).strip(EDGES)
    return name


def needed_joiners(name: str) -> str:
    """Without joiners (ZWJ, ZWNJ) that have no visible effect."""
    return JOINERS.sub(r"\1", SEVERAL_JOINERS.sub(r"\1", name))


def check_new_name(name: str, *, extension: str) -> str:
    """For content of this extension. Raises ValidationError, UnsupportedFormat."""
    name = clean_filename(name)
    if not name:
        raise ValidationError(_("Nothing is left of this name. Write one with letters in it."))
    if audio_format(name).extension != extension:
        raise ValidationError(_("Keep the ending .%(extension)s: it says what it is.") % {"extension": extension})
    return name

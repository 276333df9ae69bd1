"""Folds names, regardless of case, composition, width and invisible joiners."""

import re
import unicodedata

# Joiners and variation selectors, which change the look of a letter but not the word.
INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]")


def fold(text: str) -> str:
    """Idempotent."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    # Case folding may decompose a letter, and composition may give one with a case.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return text

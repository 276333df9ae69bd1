"""Names as they are compared: whatever case, composition, width or invisible joiner they are written with."""

import re
import unicodedata

# Joiners and variation selectors change the look of a letter and not the word.
INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufe00-\ufe0f\ufeff]")


def fold(text: str) -> str:
    """Two texts that a reader takes for the same word give the same result; folding twice changes nothing."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    # Folding case may take a letter apart, and composing may give one that has a case.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", text.casefold())
    return text

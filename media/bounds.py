"""Which numbers out of a file can be facts. A header can claim anything, and a column holds only so much."""

import math
from decimal import ROUND_HALF_UP, Decimal

# More than any column takes, and than any recording lasts.
LONGEST = Decimal("9999999.999")
LARGEST = 2**31 - 1


def bounded(number: float | None) -> int | None:
    """A whole number above 0 that a column holds, or None."""
    if number is None or not math.isfinite(number) or not 0 < number <= LARGEST:
        return None
    return int(number)


def bounded_seconds(seconds: float | Decimal | None) -> Decimal | None:
    """A length in seconds, with three places, from 0 up to what the column holds; or None."""
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST:
        return None
    return Decimal(seconds).quantize(Decimal("0.001"), ROUND_HALF_UP)


def bounded_text(seconds: float) -> str | None:
    found = bounded_seconds(seconds)
    return None if found is None else str(found)

import math
from decimal import ROUND_HALF_UP, Decimal

# More than any column or recording.
LONGEST = Decimal("9999999.999")
LARGEST = 2**31 - 1


def bounded(number: float | None) -> int | None:
    if number is None or not math.isfinite(number) or not 0 < number <= LARGEST:
        return None
    return int(number)


def bounded_seconds(seconds: float | Decimal | None) -> Decimal | None:
    """With three decimals; None if out of range."""
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= LONGEST:
        return None
    return Decimal(seconds).quantize(Decimal("0.001"), ROUND_HALF_UP)


def bounded_text(seconds: float) -> str | None:
    found = bounded_seconds(seconds)
    return None if found is None else str(found)

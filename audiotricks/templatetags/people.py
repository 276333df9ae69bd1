"""What we store, the way people write it; Django's own filters do sizes and dates."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def duration(seconds: Decimal | float | None) -> str:
    """``3:05`` or ``1:02:03``; an empty string when it is not known."""
    if seconds is None:
        return ""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"


@register.filter
def words(name: str) -> str:
    """``taken_back`` as ``taken back``."""
    return name.replace("_", " ")


@register.filter
def step(path: str) -> str:
    """The dotted path of a processing step as its last name, in words."""
    return words(path.rsplit(".", 1)[-1])

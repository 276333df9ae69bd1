from datetime import datetime, timedelta
from decimal import Decimal

from django import template
from django.utils.formats import number_format

register = template.Library()


@register.filter
def duration(seconds: Decimal | float | None) -> str:
    """``3:05`` or ``1:02:03``; empty when unknown."""
    if seconds is None:
        return ""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"


@register.filter
def grouped(number: int | None) -> str:
    """``44,100``, grouped for the reader's language; empty when unknown."""
    return "" if number is None else number_format(number, use_l10n=True, force_grouping=True)


@register.filter
def plus_days(moment: datetime, days: int) -> datetime:
    return moment + timedelta(days=days)

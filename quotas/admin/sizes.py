import re
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.formats import sanitize_separators
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextInputWidget

# As ``filesizeformat`` writes them: each unit is 1,024 of the one before.
UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
# Two decimals at most, so that "1,000 GB" and "1.000 GB" are refused rather than taken for one.
SIZE = re.compile(r"\s*(\d{1,20}(?:\.\d{1,2})?)\s*(?:([KMGTPE])(?:I?B)?|B|BYTES?)?\s*")


class SizeField(forms.Field):
    """Bytes as ``100 GB``, ``1.5 TB``, or a number; empty is None."""

    widget = UnfoldAdminTextInputWidget
    default_error_messages = {
        "invalid": _("Write a size like “500 MB” or “1.5 TB”, with at most two decimals, or a number of bytes.")
    }

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return None
        found = SIZE.fullmatch(str(sanitize_separators(str(value))).upper())
        if found is None:
            raise ValidationError(self.error_messages["invalid"], code="invalid")
        number, unit = found.groups(default="")
        return int(Decimal(number) * 1024 ** UNITS.index(f"{unit}B"))

    def prepare_value(self, value: Any) -> Any:
        """Without decimals, so that saving it loses nothing."""
        if not isinstance(value, int):
            return value
        unit = 0
        while value and value % 1024 == 0 and unit < len(UNITS) - 1:
            value, unit = value // 1024, unit + 1
        return f"{value} {UNITS[unit]}" if unit else str(value)

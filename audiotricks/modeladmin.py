"""What the tables of the administration share: no count of a whole table, nothing changed behind the services."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

from django import forms
from django.contrib.admin import ShowFacets, helpers
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import ManyToOneRel, Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format, sanitize_separators
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin as UnfoldAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from audiotricks.errors import DomainError

#: How far a list is counted and can be paged through; whoever looks for something further down narrows it by a filter.
LONGEST_LIST = 10_000

# What makes up an action on a selection.
CARRIED = ("action", "select_across", helpers.ACTION_CHECKBOX_NAME)

# As ``filesizeformat`` writes them: each unit is 1,024 of the one before.
UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
# Two decimals at most, so that "1,000 GB" and "1.000 GB" are refused rather than taken for one.
SIZE = re.compile(r"\s*(\d{1,20}(?:\.\d{1,2})?)\s*(?:([KMGTPE])(?:I?B)?|B|BYTES?)?\s*")


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most LONGEST_LIST rows, so that a page of a million costs no more than one of ten thousand."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:LONGEST_LIST].count())


class VaultAdmin(UnfoldAdmin):
    """Lists in the order of an index, a page at a time, without the number of all rows."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    list_fullwidth = True
    sortable_by = ()
    empty_value_display = "-"
    warn_unsaved_form = True

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """A list that nothing narrows has no link that would show all of it."""
        changelist = super().get_changelist_instance(request)
        if not changelist.query and not changelist.has_active_filters:
            changelist.full_result_count = changelist.result_count
        return changelist


class ReadOnlyAdmin(VaultAdmin):
    """Staff may look; what changes a row goes through the services."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SizeField(forms.Field):
    """A number of bytes, written the way people do: ``100 GB``, ``1.5 TB``, or the bytes alone. Empty is None."""

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
        """In the largest unit that needs no decimals, so that nothing is lost by saving what is shown."""
        if not isinstance(value, int):
            return value
        unit = 0
        while value and value % 1024 == 0 and unit < len(UNITS) - 1:
            value, unit = value // 1024, unit + 1
        return f"{value} {UNITS[unit]}" if unit else str(value)


def rehearse(write: Callable[[], object]) -> None:
    """Do the write and take it back. Raises ValidationError with the words of the DomainError that it was refused for.

    For ``clean()``: whether a service will refuse is asked of the service itself, before anything is saved.
    """
    try:
        with transaction.atomic():
            write()
            transaction.set_rollback(True)
    except DomainError as error:
        raise ValidationError(str(error.detail), code=error.code) from None


def confirmation(
    model_admin: UnfoldAdmin, request: HttpRequest, *, title: str, explanation: str, button: str, back: str = ""
) -> TemplateResponse | None:
    """The page that asks whether to go on, or None for the request that says so.

    Works for an action on a selection, which it sends again, and for a view of one row; ``back`` is where "Cancel"
    leads, the list if it is left out.
    """
    if request.method == "POST" and "confirmed" in request.POST:
        return None
    again = [(name, value) for name in CARRIED for value in request.POST.getlist(name)]
    return TemplateResponse(
        request,
        "admin/confirm.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.model._meta,
            "title": title,
            "explanation": explanation,
            "button": button,
            "again": again,
            "back": back or reverse(f"admin:{model_admin.model._meta.label_lower.replace('.', '_')}_changelist"),
        },
    )


def link_to(row: Model | None, text: Any = None) -> SafeString | str | None:
    """A link to the row's page in the admin; its text alone where it has none."""
    if row is None:
        return None
    try:
        address = reverse(f"admin:{row._meta.label_lower.replace('.', '_')}_change", args=[row.pk])
    except NoReverseMatch:
        return text or str(row)
    return link(address, text or str(row))


def link(address: str, text: Any) -> SafeString:
    return format_html('<a class="text-link" href="{}">{}</a>', address, text)


def moment(when: datetime | None) -> SafeString | None:
    """A time as a cell shows it, in the time zone of whoever looks."""
    if when is None:
        return None
    text = date_format(timezone.localtime(when), "DATETIME_FORMAT")
    return format_html('<time datetime="{}">{}</time>', when.isoformat(), text)


def is_referred_to(row: Model, *, ignoring: Sequence[str] = ()) -> bool:
    """Whether any row of any table refers to this one; ``ignoring`` names tables whose rows go along with it."""
    for relation in row._meta.get_fields(include_hidden=True):
        if not isinstance(relation, ManyToOneRel):
            continue
        table: Any = relation.related_model
        if table._meta.db_table not in ignoring and table._base_manager.filter(**{relation.field.name: row}).exists():
            return True
    return False


def capped_count(rows: QuerySet[Any], *, most: int = 1000) -> str:
    """How many rows, counted no further than ``most``: ``12``, or ``1000+``."""
    found = rows.order_by()[: most + 1].count()
    return f"{most}+" if found > most else str(found)

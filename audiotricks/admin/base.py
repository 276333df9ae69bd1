"""Admin tables with bounded counts, changed only through services."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from django.contrib.admin import ShowFacets, helpers
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import ManyToOneRel, Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin as UnfoldAdmin

from audiotricks.errors import DomainError

#: Lists are counted and paged up to this row; a filter leads to later ones.
LONGEST_LIST = 10_000

# The fields of an action on a selection.
CARRIED = ("action", "select_across", helpers.ACTION_CHECKBOX_NAME)


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    longest = LONGEST_LIST

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.longest].count())


class VaultAdmin(UnfoldAdmin):
    """Lists in the order of an index, without a count of all rows."""

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
        """Offers no link that would show all rows."""
        changelist = super().get_changelist_instance(request)
        if not changelist.query and not changelist.has_active_filters:
            changelist.full_result_count = changelist.result_count
        return changelist


class ReadOnlyAdmin(VaultAdmin):
    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def rehearse(write: Callable[[], object]) -> None:
    """Do the write and roll it back, for ``clean()``. Raises ValidationError for a DomainError."""
    try:
        with transaction.atomic():
            write()
            transaction.set_rollback(True)
    except DomainError as error:
        raise ValidationError(str(error.detail), code=error.code) from None


def confirmation(
    model_admin: UnfoldAdmin,
    request: HttpRequest,
    *,
    title: str,
    explanation: str,
    button: str,
    back: str = "",
    shown: str = "",
) -> TemplateResponse | None:
    """A page that asks for confirmation; None for the request that confirms.

    For an action on a selection, which it sends again, or a view of one row. ``back`` is the link of "Cancel" (default:
    the list). ``shown`` comes back as a field.
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
            "again": [*again, ("shown", shown)],
            "back": back or reverse(f"admin:{model_admin.model._meta.label_lower.replace('.', '_')}_changelist"),
        },
    )


def link_to(row: Model | None, text: Any = None) -> SafeString | str | None:
    """Plain text where the row has no admin page."""
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
    if when is None:
        return None
    text = date_format(timezone.localtime(when), "DATETIME_FORMAT")
    return format_html('<time datetime="{}">{}</time>', when.isoformat(), text)


def is_referred_to(row: Model, *, ignoring: Sequence[str] = ()) -> bool:
    """``ignoring`` names tables whose rows are deleted with this one."""
    for relation in row._meta.get_fields(include_hidden=True):
        if not isinstance(relation, ManyToOneRel):
            continue
        table: Any = relation.related_model
        if table._meta.db_table not in ignoring and table._base_manager.filter(**{relation.field.name: row}).exists():
            return True
    return False


def capped_count(rows: QuerySet[Any], *, most: int = 1000) -> str:
    """``12``, or ``1000+`` beyond ``most``."""
    found = rows.order_by()[: most + 1].count()
    return f"{most}+" if found > most else str(found)

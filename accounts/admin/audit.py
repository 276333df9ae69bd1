from functools import reduce
from operator import or_
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter, FieldTextFilter, RangeDateFilter
from unfold.decorators import display

from accounts.models import AuditEvent
from audiotricks.addresses import normal_address
from audiotricks.admin.base import LONGEST_LIST, ReadOnlyAdmin, moment

#: Ids in one statement.
MOST_IDS = 1000


class ExactFilter(FieldTextFilter):
    """Compares the whole value, which an index finds."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = (self.value() or "").strip()
        return queryset.filter(**{self.field_path: value}) if value else queryset


class AddressFilter(ExactFilter):
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        address = normal_address(value)
        return queryset.filter(address=address) if address else queryset.none()


@admin.register(AuditEvent)
class AuditEventAdmin(ReadOnlyAdmin):
    list_display = ("when", "what", "actor_name", "subject", "address", "right")
    list_display_links = ("when",)
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("actor_name", ExactFilter),
        ("subject_name", ExactFilter),
        ("address", AddressFilter),
        ("created_at", RangeDateFilter),
    )
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("actor_name",)
    search_help_text = _("The whole name of a user, workspace, token or file, or an address.")
    ordering = ("-id",)
    fields = (
        *("when", "what", "actor_name", "actor_id", "subject_kind", "subject_name", "subject_id"),
        *("address", "user_agent", "right", "details"),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        # Each column by its own index: one condition over all of them may read the whole table. Thousands of ids make a
        # statement slow; the condition and the oldest id find the same events.
        term = search_term.strip()
        if not term:
            return queryset, False
        conditions = [Q(actor_name=term), Q(subject_name=term)]
        if address := normal_address(term):
            conditions.append(Q(address=address))
        found: set[int] = set()
        for condition in conditions:
            newest = AuditEvent.objects.filter(condition).order_by("-id").values_list("pk", flat=True)
            found.update(newest[:LONGEST_LIST])
        shown = sorted(found)[-LONGEST_LIST:]
        if len(shown) <= MOST_IDS:
            return queryset.filter(pk__in=shown), False
        return queryset.filter(reduce(or_, conditions), pk__gte=shown[0]), False

    @display(description=_("when"))
    def when(self, event: AuditEvent) -> Any:
        return moment(event.created_at)

    @display(description=_("kind"))
    def what(self, event: AuditEvent) -> str:
        return event.get_kind_display()

    @display(description=_("subject"))
    def subject(self, event: AuditEvent) -> str:
        return event.subject_name

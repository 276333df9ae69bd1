"""What the tables of the administration share: no count of a whole table, nothing changed behind the services."""

from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest
from unfold.admin import ModelAdmin

#: How far a list is counted and can be paged through; whoever looks for something further down narrows it by a filter.
LONGEST_LIST = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most LONGEST_LIST rows, so that a page of a million costs no more than one of ten thousand."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:LONGEST_LIST].count())


class VaultAdmin(ModelAdmin):
    """Lists in the order of an index, a page at a time, without the number of all rows."""

    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()


class ReadOnlyAdmin(VaultAdmin):
    """Staff may look; what changes a row goes through the services."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from audiotricks.admin.base import ReadOnlyAdmin, link_to, moment
from audiotricks.web.users import user_of
from uploads.admin.facts import described
from uploads.admin.filters import DaysFilter
from uploads.admin.shown import file_link
from uploads.models import AudioUpload, BulkAction, BulkActionItem

ITEMS_SHOWN = 100


@admin.register(BulkAction)
class BulkActionAdmin(ReadOnlyAdmin):
    list_display = ("what", "actor", "begun", "total", "done", "refused", "progress")
    list_filter = (
        ("action", ChoicesDropdownFilter),
        ("actor", AutocompleteSelectFilter),
        ("created_at", DaysFilter),
    )
    list_filter_submit = True
    list_select_related = ("actor",)
    show_facets = admin.ShowFacets.NEVER
    fields = ()
    change_form_template = "admin/uploads/bulkaction/change_form.html"

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The permission to view files is enough."""
        return super().has_view_permission(request, obj) or user_of(request).has_perm("uploads.view_audioupload")

    @display(description=_("action"))
    def what(self, bulk: BulkAction) -> str:
        return bulk.get_action_display()

    @display(description=_("begun"))
    def begun(self, bulk: BulkAction) -> Any:
        return moment(bulk.created_at)

    @display(description=_("state"), label={"open": "info", "finished": "success", "refused": "warning"})
    def progress(self, bulk: BulkAction) -> tuple[str, Any]:
        if bulk.finished_at is None:
            return "open", _("Under way")
        return ("refused", _("Finished, some refused")) if bulk.refused else ("finished", _("Finished"))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: BulkAction, **kwargs: Any
    ) -> HttpResponse:
        outcome = request.GET.get("outcome", "")
        items = obj.items.filter(outcome=outcome) if outcome in BulkActionItem.Outcome else obj.items.all()
        page = Paginator(items.order_by("id"), ITEMS_SHOWN).get_page(request.GET.get("page"))
        context |= {
            "title": obj.get_action_display(),
            "bulk": obj,
            "facts": described(
                [
                    (_("By"), link_to(obj.actor)),
                    (_("Reason"), obj.reason),
                    (_("Begun"), moment(obj.created_at)),
                    (_("Finished"), moment(obj.finished_at)),
                ]
            ),
            "percent": 100 * (obj.total - obj.waiting) // max(1, obj.total),
            "outcome": outcome,
            "outcomes": [("", _("All"), obj.total), *counts_of(obj)],
            "page": page,
            "items": {"headers": [_("Name"), _("Outcome"), _("Why")], "rows": rows_of(list(page))},
        }
        response: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return response


def counts_of(bulk: BulkAction) -> list[tuple[str, Any, int]]:
    kinds = BulkActionItem.Outcome
    counts = {kinds.WAITING: bulk.waiting, kinds.DONE: bulk.done, kinds.REFUSED: bulk.refused}
    return [(kind.value, kind.label, count) for kind, count in counts.items()]


def rows_of(items: list[BulkActionItem]) -> list[list[Any]]:
    """A file without a row links to its event log."""
    here = set(AudioUpload.objects.filter(pk__in=[item.upload_id for item in items]).values_list("pk", flat=True))
    return [
        [
            file_link(item.upload_id, item.name, is_there=item.upload_id in here),
            item.get_outcome_display(),
            item.message or "-",
        ]
        for item in items
    ]

"""What happened to files, and objects that no file needs: to be read, never changed."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.views import ChangeList

from audiotricks.modeladmin import ReadOnlyAdmin, moment
from quotas.models import parse_uuid
from uploads.admin.filters import DaysFilter, EventFilter, StorageFilter, storage_aliases
from uploads.admin.shown import exact_size, file_link, state_label
from uploads.history import describe
from uploads.models import AudioUpload, OrphanedObject, UploadEvent


class EventList(ChangeList):
    """Files are named for the page that is shown: an event has their id alone, and outlives them."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        add_file_names(self.result_list)


def add_file_names(events: Iterable[Any]) -> None:
    """Give each event ``file_name``; None where the file's row is gone."""
    files = AudioUpload.objects.filter(pk__in={event.upload_id for event in events})
    names = dict(files.values_list("pk", "original_filename"))
    for event in events:
        event.file_name = names.get(event.upload_id)


@admin.register(UploadEvent)
class UploadEventAdmin(ReadOnlyAdmin):
    list_display = ("when", "file", "what", "state", "actor", "workspace")
    list_display_links = ("when",)
    list_filter = (
        EventFilter,
        ("workspace", AutocompleteSelectFilter),
        ("actor", AutocompleteSelectFilter),
        ("created_at", DaysFilter),
    )
    list_filter_submit = True
    list_select_related = ("actor", "workspace")
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("upload_id",)
    search_help_text = _("Id of a file")
    ordering = ("-id",)
    fields = ("when", "file", "what", "action", "from_status", "to_status", "actor", "reason", "workspace", "details")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> UploadEvent | None:
        event: UploadEvent | None = super().get_object(request, object_id, from_field)
        add_file_names([event] if event else [])
        return event

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UploadEvent], search_term: str
    ) -> tuple[QuerySet[UploadEvent], bool]:
        if not search_term.strip():
            return queryset, False
        upload_id = parse_uuid(search_term.strip())
        return queryset.filter(upload_id=upload_id) if upload_id else queryset.none(), False

    @display(description=_("when"))
    def when(self, event: UploadEvent) -> Any:
        return moment(event.created_at)

    @display(description=_("file"))
    def file(self, event: Any) -> str:
        return file_link(event.upload_id, event.file_name or event.upload_id, is_there=event.file_name is not None)

    @display(description=_("what"))
    def what(self, event: UploadEvent) -> str:
        return describe(event)

    @display(description=_("state"))
    def state(self, event: UploadEvent) -> str:
        return state_label(event)


@admin.register(OrphanedObject)
class OrphanedObjectAdmin(ReadOnlyAdmin):
    list_display = ("storage_path", "storage_provider", "bytes", "first_seen", "removed_after")
    list_filter = (StorageFilter, ("first_seen_at", DaysFilter))
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("storage_path",)
    search_help_text = _("Storage path")
    fields = ("storage_path", "storage_provider", "exact_bytes", "first_seen", "removed_after")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[OrphanedObject], search_term: str
    ) -> tuple[QuerySet[OrphanedObject], bool]:
        term = search_term.strip()
        named = Q(storage_provider__in=storage_aliases(), storage_path=term)
        return queryset.filter(named) if term else queryset, False

    @display(description=_("size"))
    def bytes(self, orphan: OrphanedObject) -> str:
        return filesizeformat(orphan.size)

    @display(description=_("size"))
    def exact_bytes(self, orphan: OrphanedObject) -> str | None:
        return exact_size(orphan.size)

    @display(description=_("seen first"))
    def first_seen(self, orphan: OrphanedObject) -> Any:
        return moment(orphan.first_seen_at)

    @display(description=_("removed after"))
    def removed_after(self, orphan: OrphanedObject) -> Any:
        return moment(orphan.first_seen_at + timedelta(hours=settings.ORPHAN_GRACE_HOURS))

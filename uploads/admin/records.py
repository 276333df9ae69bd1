"""The event log, sessions and the ledger, read-only."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import AutocompleteSelectFilter, DropdownFilter
from unfold.decorators import action, display
from unfold.views import ChangeList

from audiotricks.admin.base import ReadOnlyAdmin, confirmation, link_to, moment
from audiotricks.errors import DomainError
from audiotricks.web.users import user_of
from quotas.models import parse_uuid
from uploads.admin.filters import DaysFilter, EventFilter, storage_aliases
from uploads.admin.shown import exact_size, file_link, state_label
from uploads.intake.sessions.complete import end_session
from uploads.lifecycle.events import basis_in_words
from uploads.lifecycle.sentences import describe
from uploads.models import AudioUpload, StoredObject, UploadEvent, UploadSession


class EventList(ChangeList):
    """Looks up file names for the page: an event has only an id."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        add_file_names(self.result_list)


def add_file_names(events: Iterable[Any]) -> None:
    """None where the row is gone."""
    files = AudioUpload.objects.filter(pk__in={event.upload_id for event in events})
    names = dict(files.values_list("pk", "original_filename"))
    for event in events:
        event.file_name = names.get(event.upload_id)


def found_by_upload(rows: QuerySet[Any], term: str) -> QuerySet[Any]:
    """By the file's id; all rows for an empty term."""
    if not term.strip():
        return rows
    upload_id = parse_uuid(term.strip())
    return rows.filter(upload_id=upload_id) if upload_id else rows.none()


@admin.register(UploadEvent)
class UploadEventAdmin(ReadOnlyAdmin):
    list_display = ("when", "file", "what", "state", "actor", "by_right", "workspace")
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
    fields = (
        "when",
        "file",
        "what",
        "action",
        "from_status",
        "to_status",
        "actor",
        "by_right",
        "reason",
        "workspace",
        "details",
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return EventList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> UploadEvent | None:
        event: UploadEvent | None = super().get_object(request, object_id, from_field)
        add_file_names([event] if event else [])
        return event

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UploadEvent], search_term: str
    ) -> tuple[QuerySet[UploadEvent], bool]:
        return found_by_upload(queryset, search_term), False

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

    @display(description=_("right"))
    def by_right(self, event: UploadEvent) -> str:
        return basis_in_words(event)


@admin.register(UploadSession)
class UploadSessionAdmin(ReadOnlyAdmin):
    """Hides what suffices to write to the storage."""

    list_display = ("begun", "file", "kind", "received", "bytes", "workspace", "owner", "until")
    list_display_links = ("begun",)
    list_filter = ("kind", ("created_at", DaysFilter))
    list_filter_submit = True
    list_select_related = ("workspace", "owner", "upload")
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("upload_id",)
    search_help_text = _("Id of a file")
    ordering = ("-created_at", "-id")
    fields = (
        "file", "workspace", "owner", "kind", "method", "is_partial", "received", "exact_bytes", "part_bytes", "sha256",
        "md5", "begun", "until",
    )  # fmt: skip
    actions_detail = ("end_this",)

    def has_end_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(user_of(request).has_perm("uploads.change_uploadsession"))

    @action(description=_("End this upload"), url_path="end", permissions=["end"])
    def end_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        session = self.get_object(request, object_id)
        if session is None:
            raise Http404
        asked = confirmation(
            self,
            request,
            title=gettext("End this upload?"),
            explanation=gettext("What has arrived of it is removed, and its room in the quota is given back."),
            button=gettext("End this upload"),
            back=reverse("admin:uploads_uploadsession_change", args=[session.pk]),
        )
        if asked is not None:
            return asked
        try:
            end_session(session, "upload_ended_by_staff")
        except DomainError as error:
            messages.error(request, error.detail)
        else:
            messages.success(request, gettext("The upload is ended."))
        return redirect("admin:uploads_uploadsession_changelist")

    def get_queryset(self, request: HttpRequest) -> QuerySet[UploadSession]:
        return UploadSession.objects.open().select_related(*self.list_select_related)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[UploadSession], search_term: str
    ) -> tuple[QuerySet[UploadSession], bool]:
        return found_by_upload(queryset, search_term), False

    @display(description=_("begun"))
    def begun(self, session: UploadSession) -> Any:
        return moment(session.created_at)

    @display(description=_("file"), empty_value=_("a part of another upload"))
    def file(self, session: UploadSession) -> str | None:
        return file_link(session.upload.pk, session.upload.original_filename) if session.upload else None

    @display(description=_("received"))
    def received(self, session: UploadSession) -> str | None:
        """Of what a client sends to the bucket itself, the provider alone knows."""
        return None if session.kind == UploadSession.Kind.DIRECT else filesizeformat(session.received_bytes)

    @display(description=_("size"))
    def bytes(self, session: UploadSession) -> str | None:
        return None if session.size_bytes is None else filesizeformat(session.size_bytes)

    @display(description=_("size"))
    def exact_bytes(self, session: UploadSession) -> str | None:
        return None if session.size_bytes is None else exact_size(session.size_bytes)

    @display(description=_("workspace"))
    def workspace(self, session: UploadSession) -> Any:
        return link_to(session.workspace)

    @display(description=_("owner"))
    def owner(self, session: UploadSession) -> Any:
        return link_to(session.owner)

    @display(description=_("expires at"))
    def until(self, session: UploadSession) -> Any:
        return moment(session.expires_at)


class NeedFilter(DropdownFilter):
    title = _("state")
    parameter_name = "need"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("in_use", _("In use")), ("unneeded", _("Unneeded")), ("removing", StoredObject.State.REMOVING.label)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[StoredObject]) -> QuerySet[StoredObject]:
        match self.value():
            case "in_use":
                return queryset.filter(unneeded_since=None)
            case "unneeded":
                return queryset.filter(unneeded_since__isnull=False).order_by("-unneeded_since", "-id")
            case "removing":
                return queryset.filter(unneeded_since__isnull=False, state=StoredObject.State.REMOVING)
            case _:
                return queryset


@admin.register(StoredObject)
class StoredObjectAdmin(ReadOnlyAdmin):
    list_display = ("storage_path", "storage_provider", "kind", "bytes", "state", "unneeded", "removed_after")
    list_filter = (NeedFilter, ("unneeded_since", DaysFilter))
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("storage_path",)
    search_help_text = _("Storage path")
    fields = (
        *("storage_path", "storage_provider", "kind", "state", "exact_bytes", "checksum_sha256", "checksum_md5"),
        *("storage_class", "storage_region", "written", "verified", "unneeded", "removed_after"),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[StoredObject], search_term: str
    ) -> tuple[QuerySet[StoredObject], bool]:
        term = search_term.strip()
        named = Q(storage_provider__in=storage_aliases(), storage_path=term)
        return queryset.filter(named) if term else queryset, False

    @display(description=_("size"))
    def bytes(self, stored: StoredObject) -> str:
        return filesizeformat(stored.size_bytes)

    @display(description=_("size"))
    def exact_bytes(self, stored: StoredObject) -> str | None:
        return exact_size(stored.size_bytes)

    @display(description=_("written at"))
    def written(self, stored: StoredObject) -> Any:
        return moment(stored.written_at)

    @display(description=_("verified at"))
    def verified(self, stored: StoredObject) -> Any:
        return moment(stored.verified_at)

    @display(description=_("unneeded since"))
    def unneeded(self, stored: StoredObject) -> Any:
        return moment(stored.unneeded_since)

    @display(description=_("removed after"))
    def removed_after(self, stored: StoredObject) -> Any:
        since = stored.unneeded_since
        return moment(since + timedelta(hours=settings.ORPHAN_GRACE_HOURS)) if since else None

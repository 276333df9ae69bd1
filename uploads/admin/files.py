import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.utils import translation
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import AutocompleteSelectFilter, ChoicesDropdownFilter
from unfold.decorators import display

from accounts.audit import Kind, record
from accounts.templatetags.people import duration
from audiotricks.admin.base import VaultAdmin, moment
from audiotricks.web.exports import csv_response
from audiotricks.web.middleware import policy_for
from audiotricks.web.users import user_of
from quotas.rights import Right
from uploads.actions import file_actions
from uploads.actions.edits import RENAME
from uploads.admin.actions import admin_action
from uploads.admin.export import csv_rows
from uploads.admin.facts import facts_of
from uploads.admin.filters import DaysFilter, DuplicateFilter, ErrorFilter, FormatFilter, HoldFilter, StorageFilter
from uploads.admin.searching import HELP, find_uploads
from uploads.admin.shown import STATE_LOOKS, file_link, history_of, link_to_bulk_action, state_label
from uploads.lifecycle.events import basis_in_words
from uploads.lifecycle.sentences import describe, why_it_failed
from uploads.models import AudioUpload, AudioUploadQuerySet, BulkActionItem, Status, UploadEvent
from uploads.pages.forms import new_name
from uploads.serving.content import can_be_heard, media_origins

#: The limits of events, sharing files and bulk actions on a file's page.
EVENTS_SHOWN, SHARING_SHOWN, BULK_ACTIONS_SHOWN = 100, 20, 10
#: The limit of counting and paging a list with a filter that has no index.
LONGEST_UNINDEXED_LIST = 1000
UNINDEXED = (FormatFilter, StorageFilter)


class RenameUploadForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = AudioUpload
        fields = ("original_filename",)

    def clean_original_filename(self) -> str:
        return new_name(self.cleaned_data["original_filename"], upload=self.instance)


@admin.register(AudioUpload)
class AudioUploadAdmin(VaultAdmin):
    """Only the name can be edited; file actions do the rest."""

    list_display = ("name", "workspace", "owner", "state", "size", "length", "uploaded", "hold")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ErrorFilter,
        ("workspace", AutocompleteSelectFilter),
        ("owner", AutocompleteSelectFilter),
        FormatFilter,
        StorageFilter,
        HoldFilter,
        DuplicateFilter,
        ("uploaded_at", DaysFilter),
    )
    list_filter_submit = True
    list_select_related = ("workspace", "owner")
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("original_filename",)
    search_help_text = HELP
    form = RenameUploadForm
    fields = ("original_filename",)
    change_form_template = "admin/uploads/audioupload/change_form.html"

    @property
    def actions(self) -> list[Any]:
        return [*map(admin_action, file_actions()), "download_as_csv"]

    # Permissions

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deletion is a file action."""
        return False

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        forbidden = {action.name for action in file_actions() if not action.is_allowed(user_of(request), role=None)}
        return {name: entry for name, entry in super().get_actions(request).items() if name not in forbidden}

    # The list

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        paginator = super().get_paginator(request, *args, **kwargs)
        if any(request.GET.get(each.parameter_name) for each in UNINDEXED):
            paginator.longest = LONGEST_UNINDEXED_LIST
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: AudioUploadQuerySet, search_term: str
    ) -> tuple[AudioUploadQuerySet, bool]:
        return find_uploads(queryset, search_term), False

    @display(description=_("name"))
    def name(self, upload: AudioUpload) -> str:
        return upload.original_filename

    @display(description=_("state"), label=STATE_LOOKS)
    def state(self, upload: AudioUpload) -> tuple[str, str]:
        return upload.status, upload.get_status_display()

    @display(description=_("size"))
    def size(self, upload: AudioUpload) -> str:
        return filesizeformat(upload.file_size)

    @display(description=_("length"))
    def length(self, upload: AudioUpload) -> str | None:
        return duration(upload.duration) or None

    @display(description=_("uploaded"))
    def uploaded(self, upload: AudioUpload) -> Any:
        return moment(upload.uploaded_at)

    @display(description=_("on hold"), label={"held": "warning"})
    def hold(self, upload: AudioUpload) -> tuple[str, Any] | None:
        return ("held", _("On hold")) if upload.legal_hold else None

    @admin.action(description=_("Download as CSV"), permissions=["view"])
    def download_as_csv(self, request: HttpRequest, chosen: AudioUploadQuerySet) -> HttpResponseBase:
        details = {"list": "admin", "query": request.META.get("QUERY_STRING", "")}
        record(Kind.EXPORTED, right=Right.VIEW_FILES.permission, details=details)
        return csv_response("files.csv", csv_rows(chosen, language=translation.get_language() or "en"))

    # The page of one file

    def get_queryset(self, request: HttpRequest) -> AudioUploadQuerySet:
        uploads: AudioUploadQuerySet = super().get_queryset(request)
        return uploads

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> AudioUpload | None:
        upload: AudioUpload | None = super().get_object(request, object_id, from_field)
        return upload

    def get_readonly_fields(self, request: HttpRequest, obj: AudioUpload | None = None) -> tuple[str, ...]:
        return ("original_filename",) if obj and obj.status not in RENAME.states else ()

    def save_model(self, request: HttpRequest, obj: AudioUpload, form: Any, change: bool) -> None:
        if "original_filename" in form.changed_data:
            stored = AudioUpload.objects.get(pk=obj.pk)
            RENAME.run(stored, actor=user_of(request), name=obj.original_filename)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: AudioUpload, **kwargs: Any
    ) -> HttpResponse:
        context |= {
            "upload": obj,
            "look": STATE_LOOKS[Status(obj.status)],
            "why": why_it_failed(obj.error_code) if obj.error_code else "",
            "can_play": can_be_heard(obj),
            "facts": facts_of(obj),
            "metadata": written(obj.metadata),
            "whole_history": history_of(obj.pk),
            "possible": [action for action in file_actions() if action.is_offered(obj, user_of(request), role=None)],
            "history": timeline(obj),
            "sharing": sharing(obj),
            "bulk_actions": bulk_actions(obj),
        }
        response: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        response["Content-Security-Policy"] = policy_for(request.path, media=media_origins())
        return response


def written(metadata: dict[str, Any]) -> str:
    """Indented JSON; empty without any."""
    return json.dumps(metadata, indent=2, ensure_ascii=False, sort_keys=True) if any(metadata.values()) else ""


def timeline(upload: AudioUpload) -> dict[str, Any]:
    events = UploadEvent.objects.filter(upload_id=upload.pk).select_related("actor").order_by("-id")
    return {
        "headers": [_("When"), _("What"), _("State"), _("Right")],
        "rows": [
            [moment(event.created_at), describe(event), state_label(event), basis_in_words(event)]
            for event in events[:EVENTS_SHOWN]
        ],
    }


def sharing(upload: AudioUpload) -> dict[str, Any]:
    others = AudioUpload.objects.none()
    if upload.stored_object_id:
        others = AudioUpload.objects.filter(stored_object=upload.stored_object_id).exclude(pk=upload.pk)
    return {
        "headers": [_("Name"), _("State"), _("Uploaded")],
        "rows": [
            [file_link(other.pk, other.original_filename), other.get_status_display(), moment(other.uploaded_at)]
            for other in others[:SHARING_SHOWN]
        ],
    }


def bulk_actions(upload: AudioUpload) -> dict[str, Any]:
    items = BulkActionItem.objects.filter(upload_id=upload.pk).select_related("bulk_action__actor").order_by("-id")
    return {
        "headers": [_("When"), _("Action"), _("By"), _("Outcome")],
        "rows": [
            [
                moment(item.bulk_action.created_at),
                link_to_bulk_action(item.bulk_action),
                item.bulk_action.actor or "-",
                item.message or item.get_outcome_display(),
            ]
            for item in items[:BULK_ACTIONS_SHOWN]
        ],
    }

"""Lists of files and of the trash, also as CSV."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_safe

from accounts.audit import Kind, record
from audiotricks.clock import Now
from audiotricks.database import release_connection
from audiotricks.keyset import Ordering, Page, page_or_first, pages_of
from audiotricks.web.exports import csv_response
from audiotricks.web.users import sign_in_required, user_of
from quotas.models import Membership, StorageQuota, Workspace
from quotas.reservations import fill_quotas
from quotas.rights import Right, is_permitted
from quotas.workspaces import personal_workspace, workspace_for
from uploads.actions.base import BulkFileAction
from uploads.actions.trash import PURGE
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadEvent
from uploads.models.states import TRANSIENT, UNLISTED
from uploads.pages.access import page_actions
from uploads.pages.forms import NEWEST, ORDERINGS, FilterForm, TrashFilterForm

PAGE_SIZE = 50
CSV_BATCH = 2000
CSV_COLUMNS = (
    *("original_filename", "workspace__name", "status", "file_type", "file_size", "duration", "codec", "sample_rate"),
    *("channels", "bitrate", "uploaded_at", "deleted_at", "checksum_sha256", "id"),
)
#: With more workspaces, only their own page shows the bars.
MOST_BARS = 4
IN_TRASH_ORDER: Ordering = ("-deleted_at", "-id")


@dataclass
class List:
    user: User
    in_trash: bool
    form: TrashFilterForm
    rows: AudioUploadQuerySet
    ordering: Ordering
    memberships: list[Membership]
    workspace: Workspace | None

    def first_rows(self, ordered: AudioUploadQuerySet, count: int) -> Iterable[AudioUpload]:
        return ordered.first_for(self.user, count)

    def page(self, cursor: str) -> Page[AudioUpload]:
        return page_or_first(self.rows, self.ordering, size=PAGE_SIZE, cursor=cursor, first_rows=self.first_rows)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        return pages_of(self.rows.values(*CSV_COLUMNS), self.ordering, size=CSV_BATCH, first_rows=self.first_rows)

    @cached_property
    def is_filtered(self) -> bool:
        return bool(self.form.chosen().keys() - {"sort"})

    def quotas(self) -> list[StorageQuota]:
        """Empty for more than MOST_BARS."""
        about = [self.workspace] if self.workspace else [membership.workspace for membership in self.memberships]
        fill_quotas(about)
        return [workspace.quota for workspace in about] if len(about) <= MOST_BARS else []

    def trash_limits(self) -> list[dict[str, Any]]:
        """Used bytes and limit."""
        quotas = [quota for quota in self.quotas() if quota.max_trash_bytes is not None]
        workspaces = [quota.workspace_id for quota in quotas]
        since = Now() - timedelta(days=settings.TRASH_DAYS)
        trash = AudioUpload.objects.in_trash().filter(workspace__in=workspaces)
        displaced = UploadEvent.objects.filter(action="displaced", workspace__in=workspaces, created_at__gt=since)
        held = dict(trash.order_by().values_list("workspace").annotate(Sum("file_size")))
        gone = dict(displaced.order_by().values_list("workspace").annotate(Count("pk")))
        return [
            {
                "workspace": quota.workspace,
                "held": held.get(quota.workspace_id, 0),
                "most": quota.max_trash_bytes,
                "displaced": gone.get(quota.workspace_id, 0),
            }
            for quota in quotas
        ]

    def owned(self) -> list[Workspace]:
        """Workspaces whose trash the user may empty."""
        if self.workspace and PURGE.is_allowed(self.user, role=None):
            return [self.workspace]
        roles = PURGE.right.roles
        held = [membership.workspace for membership in self.memberships if membership.role in roles]
        return [workspace for workspace in held if self.workspace in (None, workspace)]

    def actions(self, page: Page[AudioUpload]) -> dict[UUID, list[BulkFileAction]]:
        """The user's actions on ticked files, by workspace."""
        states = frozenset({Status.DELETED}) if self.in_trash else frozenset(Status) - frozenset(UNLISTED)
        listed = [action for action in page_actions() if action.list_button and action.states & states]
        roles = {held.workspace_id: held.role for held in self.memberships}
        return {
            workspace: [action for action in listed if action.is_allowed(self.user, roles.get(workspace))]
            for workspace in {upload.workspace_id for upload in page.rows}
        }


def asked_list(request: HttpRequest, *, in_trash: bool) -> List:
    """Raises NotFound."""
    user = user_of(request)
    memberships = _memberships(user)
    offered = [membership.workspace for membership in memberships]
    workspace = _asked_workspace(user, request.GET.get("workspace", ""), offered)
    if workspace and workspace not in offered:
        offered.append(workspace)
    form: TrashFilterForm
    if in_trash:
        form = TrashFilterForm(request.GET, workspaces=offered)
    else:
        form = FilterForm(
            request.GET, workspaces=offered, everybodys=is_permitted(user, Right.VIEW_FILES) and workspace is None
        )
    chosen = form.chosen()
    visible = AudioUpload.objects.visible_to(user).select_related("workspace").defer("metadata")
    rows = visible.in_trash() if in_trash else visible.listed()
    if workspace:
        rows = rows.in_workspace(workspace)
    if "q" in chosen:
        rows = rows.named(chosen["q"])
    rows = rows.filter(**{name: chosen[name] for name in ("file_type", "status") if name in chosen})
    ordering = IN_TRASH_ORDER if in_trash else ORDERINGS[chosen.get("sort", NEWEST)]
    return List(user, in_trash, form, rows, ordering, memberships, workspace)


def _memberships(user: User) -> list[Membership]:
    """The personal workspace first, with quotas."""
    found = Membership.objects.filter(user=user).select_related("workspace__quota").order_by("workspace__name", "pk")
    if all(membership.workspace.personal_of_id != user.pk for membership in found):
        personal_workspace(user)
        found = found.all()
    return sorted(found, key=lambda membership: membership.workspace.personal_of_id != user.pk)


def _asked_workspace(user: User, ref: str, offered: list[Workspace]) -> Workspace | None:
    if not ref:
        return None
    return next((workspace for workspace in offered if workspace.slug == ref), None) or workspace_for(
        user, ref, right=Right.VIEW_FILES
    )


@require_safe
@sign_in_required()
def files(request: HttpRequest) -> HttpResponse:
    asked = asked_list(request, in_trash=False)
    page = asked.page(request.GET.get("cursor", ""))
    return render(
        request,
        "uploads/files.html",
        {
            **_shown(asked, page),
            "is_busy": any(upload.status in TRANSIENT for upload in page.rows),
            "quotas": asked.quotas(),
            "moving": TRANSIENT,
        },
    )


@require_safe
@sign_in_required()
def trash(request: HttpRequest) -> HttpResponse:
    asked = asked_list(request, in_trash=True)
    page = asked.page(request.GET.get("cursor", ""))
    return render(
        request,
        "uploads/trash.html",
        {
            **_shown(asked, page),
            "owned": asked.owned(),
            "trash_days": settings.TRASH_DAYS,
            "trash_limits": asked.trash_limits(),
        },
    )


def _shown(asked: List, page: Page[AudioUpload]) -> dict[str, Any]:
    by_workspace = asked.actions(page)
    allowed = {action.name for actions in by_workspace.values() for action in actions}
    return {
        "form": asked.form,
        "page": page,
        "uploads": page.rows,
        "editable": {workspace for workspace, actions in by_workspace.items() if actions},
        "actions": [action for action in page_actions() if action.name in allowed],
        "is_filtered": asked.is_filtered,
    }


@require_GET
@sign_in_required()
def files_csv(request: HttpRequest) -> HttpResponseBase:
    record(Kind.EXPORTED, details={"list": "files", "query": request.META.get("QUERY_STRING", "")})
    return csv_response(_("files.csv"), _csv_rows(asked_list(request, in_trash=False), translation.get_language()))


@require_GET
@sign_in_required()
def trash_csv(request: HttpRequest) -> HttpResponseBase:
    record(Kind.EXPORTED, details={"list": "trash", "query": request.META.get("QUERY_STRING", "")})
    return csv_response(_("trash.csv"), _csv_rows(asked_list(request, in_trash=True), translation.get_language()))


def _csv_rows(asked: List, language: str) -> Iterator[list[Any]]:
    """``language`` is the reader's, not active while rows are sent."""
    with translation.override(language):
        headings = [
            *(_("Name"), _("Workspace"), _("State"), _("Format"), _("Bytes"), _("Seconds"), _("Codec")),
            *(_("Sample rate (Hz)"), _("Channels"), _("Bitrate (kbit/s)"), _("Uploaded (UTC)"), _("Deleted (UTC)")),
            *("SHA-256", "ID"),
        ]
    yield headings
    for batch in asked.batches():
        # Not held for a slow client.
        release_connection()
        with translation.override(language):
            rows = [_csv_row(upload) for upload in batch]
        yield from rows


def _csv_row(upload: dict[str, Any]) -> list[Any]:
    cells = [upload[name] for name in CSV_COLUMNS]
    # A string, since another language is active when it is written.
    cells[CSV_COLUMNS.index("status")] = str(Status(upload["status"]).label)
    return cells

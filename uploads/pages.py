"""Plain pages: upload, list, listen, throw away. They work without JavaScript."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from audiotricks.errors import DomainError, NotFound
from audiotricks.users import user_of
from quotas.models import Membership, StorageQuota, Workspace
from quotas.reservations import ensure_quota
from quotas.workspaces import personal_workspace, require_role, role_in
from uploads import lifecycle
from uploads.forms import UploadForm
from uploads.ingest import ingest_audio
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadEvent
from uploads.receiving import incoming_file

PAGE_SIZE = 50


@require_GET
@login_required
def files(request: HttpRequest) -> HttpResponse:
    """The newest files; older ones behind ``?before=``, the id of the last one shown."""
    return _list(request, AudioUpload.objects.visible_to(user_of(request)).listed(), in_trash=False)


@require_GET
@login_required
def trash(request: HttpRequest) -> HttpResponse:
    return _list(request, AudioUpload.objects.visible_to(user_of(request)).in_trash(), in_trash=True)


def _list(request: HttpRequest, uploads: AudioUploadQuerySet, *, in_trash: bool) -> HttpResponse:
    user = user_of(request)
    if before := _upload_before(request, request.GET.get("before", "")):
        uploads = uploads.filter(uploaded_at__lte=before.uploaded_at).exclude(
            uploaded_at=before.uploaded_at, pk__gte=before.pk
        )
    newest = uploads.select_related("workspace").order_by("-uploaded_at", "-id")
    rows = list(newest.first_for(user, PAGE_SIZE + 1))
    ensure_quota(personal_workspace(user))
    return render(
        request,
        "uploads/files.html",
        {
            "uploads": rows[:PAGE_SIZE],
            "older": rows[PAGE_SIZE - 1].pk if len(rows) > PAGE_SIZE else None,
            "quotas": StorageQuota.objects.filter(workspace__memberships__user=user)
            .select_related("workspace")
            .order_by("workspace__name"),
            "in_trash": in_trash,
            "trash_days": settings.TRASH_DAYS,
        },
    )


def _upload_before(request: HttpRequest, given: str) -> AudioUpload | None:
    try:
        return AudioUpload.objects.visible_to(request.user).filter(pk=UUID(given)).first()
    except ValueError:
        return None


# The form's own check comes as soon as its token is read: Django's would read the whole body first.
@csrf_exempt
@require_http_methods(["GET", "POST"])
@login_required
def upload(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    problem: DomainError | None = None
    chosen = personal_workspace(user)
    if request.method == "POST":
        try:
            incoming = incoming_file(request, user, by_session=True)
            chosen = incoming.workspace
            stored = ingest_audio(incoming.body, workspace=chosen, owner=user, door="form")
            return redirect("file", pk=stored.pk)
        except DomainError as error:
            problem = error
    workspaces = sorted(
        Workspace.objects.editable_by(user), key=lambda workspace: (workspace.personal_of_id != user.pk, workspace.name)
    )
    return render(
        request,
        "uploads/upload.html",
        {"form": UploadForm(workspaces=workspaces, initial={"workspace": chosen.slug}), "problem": problem},
        status=problem.status if problem else 200,
    )


@require_GET
@login_required
def file(request: HttpRequest, pk: UUID) -> HttpResponse:
    shown = _visible(request, pk)
    return render(
        request,
        "uploads/file.html",
        {
            "upload": shown,
            "events": UploadEvent.objects.filter(upload_id=pk).select_related("actor"),
            "can_edit": role_in(request.user, shown.workspace) != Membership.Role.VIEWER,
            "can_play": shown.status not in (Status.DELETED, Status.ARCHIVED, Status.RESTORING),
            "is_on_its_way": shown.status in (Status.UPLOADED, Status.VALIDATING, Status.PROCESSING),
        },
    )


@require_POST
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    lifecycle.delete_upload(_editable(request, pk), actor=user_of(request))
    return redirect("file", pk=pk)


@require_POST
@login_required
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    lifecycle.retry_upload(_editable(request, pk), actor=user_of(request))
    return redirect("file", pk=pk)


@require_POST
@login_required
def undelete(request: HttpRequest, pk: UUID) -> HttpResponse:
    lifecycle.undelete_upload(_editable(request, pk), actor=user_of(request))
    return redirect("file", pk=pk)


def _visible(request: HttpRequest, pk: UUID) -> AudioUpload:
    shown = AudioUpload.objects.visible_to(request.user).select_related("workspace").filter(pk=pk).first()
    if shown is None:
        raise NotFound
    return shown


def _editable(request: HttpRequest, pk: UUID) -> AudioUpload:
    shown = _visible(request, pk)
    require_role(request.user, shown.workspace, Membership.Role.EDITOR)
    return shown

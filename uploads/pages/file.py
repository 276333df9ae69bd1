"""The page of a file, made of declared panels."""

from datetime import timedelta
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.module_loading import import_string
from django.views.decorators.http import require_POST, require_safe

from audiotricks.plug import file_panels
from audiotricks.web.middleware import policy_for
from audiotricks.web.users import sign_in_required, user_of
from quotas.rights import role_of
from uploads.actions.base import BulkFileAction
from uploads.actions.edits import RENAME
from uploads.lifecycle.sentences import why_it_failed
from uploads.models import AudioUpload
from uploads.models.states import TRANSIENT
from uploads.pages.access import page_actions, upload_for, visible_upload
from uploads.pages.forms import RenameForm
from uploads.pages.selected import tell
from uploads.processing.backlog import files_ahead
from uploads.serving.content import can_be_heard, media_origins
from uploads.serving.links import sign_link


@require_safe
@sign_in_required()
def file(request: HttpRequest, pk: UUID) -> HttpResponse:
    return show_file(request, visible_upload(request, pk))


def show_file(request: HttpRequest, upload: AudioUpload, *, status: int = 200) -> HttpResponse:
    user = user_of(request)
    role = role_of(user, upload.workspace_id)
    response = render(
        request,
        "uploads/file.html",
        {
            "upload": upload,
            "actions": [action for action in page_actions() if action.is_offered(upload, user, role)],
            "can_play": can_be_heard(upload),
            "ahead": files_ahead(upload),
            "is_busy": upload.status in TRANSIENT,
            "why": why_it_failed(upload.error_code) if upload.error_code else "",
            "goes_at": upload.deleted_at and upload.deleted_at + timedelta(days=settings.TRASH_DAYS),
            "panels": [import_string(path)(request, upload, role) for path in file_panels()],
        },
        status=status,
    )
    response["Content-Security-Policy"] = policy_for(request.path, media=media_origins())
    return response


@require_POST
@sign_in_required(form_on="file")
def act(request: HttpRequest, pk: UUID, action: BulkFileAction) -> HttpResponse:
    upload = upload_for(request, pk, action)
    tell(request, action, [action.apply(upload, actor=user_of(request))])
    return redirect("file", pk=pk)


@require_POST
@sign_in_required(form_on="file")
def rename(request: HttpRequest, pk: UUID) -> HttpResponse:
    upload = upload_for(request, pk, RENAME)
    form = RenameForm(request.POST, upload=upload)
    if not form.is_valid():
        return show_file(request, upload, status=400)
    RENAME.run(upload, actor=user_of(request), name=form.cleaned_data["name"])
    return redirect("file", pk=pk)


@require_POST
@sign_in_required(form_on="file")
def make_link(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Redirects to the page with the link in its query."""
    upload = visible_upload(request, pk)
    signature = sign_link(upload, maker=user_of(request))
    return redirect(f"{reverse('file', args=[pk])}?{urlencode({'link': signature})}#link")

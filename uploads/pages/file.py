"""One file: listen, what is known of it, where it stands, what happened to it, and what can be done."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from audiotricks.errors import DomainError
from audiotricks.web.middleware import policy_for
from audiotricks.web.users import sign_in_required, user_of
from quotas.rights import Right, basis_by, role_of
from uploads.actions.bulk import RIGHT_FOR, Action, apply_action, is_allowed
from uploads.lifecycle import edits
from uploads.lifecycle.sentences import basis_in_words, describe, why_it_failed
from uploads.models import AudioUpload, UploadEvent
from uploads.models.states import TRANSIENT
from uploads.pages.access import OFFERED, may_do, upload_with, visible_upload
from uploads.pages.forms import RenameForm
from uploads.pages.selected import tell
from uploads.processing.backlog import files_ahead
from uploads.serving.content import can_be_heard, media_origins
from uploads.serving.links import open_link, sign_link

#: A history longer than this begins with its newest part.
MOST_EVENTS = 200

#: The tags that most files have, in the order in which people look for them; the others follow under their own names.
TAG_NAMES: dict[str, str | Promise] = {
    "title": gettext_lazy("Title"),
    "artist": gettext_lazy("Artist"),
    "album": gettext_lazy("Album"),
    "albumartist": gettext_lazy("Album artist"),
    "composer": gettext_lazy("Composer"),
    "conductor": gettext_lazy("Conductor"),
    "track": gettext_lazy("Track"),
    "disc": gettext_lazy("Disc"),
    "date": gettext_lazy("Date"),
    "genre": gettext_lazy("Genre"),
    "language": gettext_lazy("Language"),
    "publisher": gettext_lazy("Publisher"),
    "copyright": gettext_lazy("Copyright"),
    "comment": gettext_lazy("Comment"),
}


@require_safe
@sign_in_required()
def file(request: HttpRequest, pk: UUID) -> HttpResponse:
    return show_file(request, visible_upload(request, pk))


def show_file(
    request: HttpRequest, upload: AudioUpload, *, rename: RenameForm | None = None, status: int = 200
) -> HttpResponse:
    user = user_of(request)
    role = role_of(user, upload.workspace_id)
    events = UploadEvent.objects.filter(upload_id=upload.pk).select_related("actor").order_by("-id")[:MOST_EVENTS]
    response = render(
        request,
        "uploads/file.html",
        {
            "upload": upload,
            "history": [(event, describe(event), basis_in_words(event)) for event in reversed(events)],
            "tags": tags_of(upload),
            "can_edit": bool(basis_by(user, Right.CHANGE_FILES, role)),
            "can": {
                action.value: may_do(action, user, role)
                and is_allowed(action, status=upload.status, legal_hold=upload.legal_hold)
                for action in OFFERED
            },
            "can_play": can_be_heard(upload),
            "ahead": files_ahead(upload),
            "is_busy": upload.status in TRANSIENT,
            "why": why_it_failed(upload.error_code) if upload.error_code else "",
            "goes_at": upload.deleted_at and upload.deleted_at + timedelta(days=settings.TRASH_DAYS),
            "rename": rename or RenameForm(upload=upload),
            "link": shown_link(request, upload),
        },
        status=status,
    )
    response["Content-Security-Policy"] = policy_for(request.path, media=media_origins())
    return response


def tags_of(upload: AudioUpload) -> list[tuple[str, str]]:
    """Each tag's name and text, those that people look for first."""
    tags = dict(upload.metadata.get("tags", {}))
    known = [(str(label), tags.pop(name)) for name, label in TAG_NAMES.items() if name in tags]
    return [(label, _joined(value)) for label, value in [*known, *sorted(tags.items())]]


def _joined(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


@require_POST
@sign_in_required(form_on="file")
def act(request: HttpRequest, pk: UUID, action: Action) -> HttpResponse:
    upload = upload_with(request, pk, RIGHT_FOR[action])
    tell(request, action, [apply_action(action, upload, actor=user_of(request))])
    return redirect("file", pk=pk)


@require_POST
@sign_in_required(form_on="file")
def rename(request: HttpRequest, pk: UUID) -> HttpResponse:
    upload = upload_with(request, pk, Right.CHANGE_FILES)
    form = RenameForm(request.POST, upload=upload)
    if not form.is_valid():
        return show_file(request, upload, rename=form, status=400)
    edits.rename_upload(upload, form.cleaned_data["name"], actor=user_of(request))
    return redirect("file", pk=pk)


@require_POST
@sign_in_required(form_on="file")
def make_link(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Back to the file's page, which shows the link that its address holds."""
    upload = visible_upload(request, pk)
    signature = sign_link(upload, maker=user_of(request))
    return redirect(f"{reverse('file', args=[pk])}?{urlencode({'link': signature})}#link")


def shown_link(request: HttpRequest, upload: AudioUpload) -> dict[str, Any] | None:
    """The link of ``?link=``, if it is one to this file that works, and until when."""
    signature = request.GET.get("link", "")
    if not signature:
        return None
    try:
        link = open_link(signature)
    except DomainError:
        return None
    if link.upload != upload:
        return None
    address = request.build_absolute_uri(f"{reverse('listen')}?{urlencode({'signature': signature})}")
    return {"address": address, "ends_at": link.ends_at}

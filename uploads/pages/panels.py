"""Sections of a file's page; empty ones are not shown."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from audiotricks.errors import DomainError
from audiotricks.web.users import user_of
from quotas.rights import Role
from uploads.actions.edits import RENAME
from uploads.lifecycle.events import basis_in_words
from uploads.lifecycle.sentences import describe
from uploads.models import AudioUpload, UploadEvent
from uploads.pages.forms import RenameForm
from uploads.serving.content import can_be_heard
from uploads.serving.links import open_link

#: A longer event log shows its newest events.
MOST_EVENTS = 200

#: The most common tags, the most wanted first; others follow under their own names.
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


def facts(request: HttpRequest, upload: AudioUpload, role: Role | None) -> str:
    return render_to_string("uploads/panels/facts.html", {"upload": upload, "tags": tags_of(upload)}, request)


def tags_of(upload: AudioUpload) -> list[tuple[str, str]]:
    """The most wanted first."""
    tags = dict(upload.metadata.get("tags", {}))
    known = [(str(label), tags.pop(name)) for name, label in TAG_NAMES.items() if name in tags]
    return [(label, _joined(value)) for label, value in [*known, *sorted(tags.items())]]


def _joined(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def rename(request: HttpRequest, upload: AudioUpload, role: Role | None) -> str:
    """With errors after a refused name."""
    if not RENAME.is_offered(upload, user_of(request), role):
        return ""
    form = RenameForm(request.POST if request.method == "POST" else None, upload=upload)
    return render_to_string("uploads/panels/rename.html", {"upload": upload, "rename": form}, request)


def link(request: HttpRequest, upload: AudioUpload, role: Role | None) -> str:
    if not can_be_heard(upload):
        return ""
    return render_to_string(
        "uploads/panels/link.html", {"upload": upload, "link": shown_link(request, upload)}, request
    )


def shown_link(request: HttpRequest, upload: AudioUpload) -> dict[str, Any] | None:
    """The working link in ``?link=``, and its end."""
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


def events(request: HttpRequest, upload: AudioUpload, role: Role | None) -> str:
    newest = UploadEvent.objects.filter(upload_id=upload.pk).select_related("actor").order_by("-id")[:MOST_EVENTS]
    history = [(event, describe(event), basis_in_words(event)) for event in reversed(newest)]
    return render_to_string("uploads/panels/events.html", {"history": history}, request)

"""Actions on ticked files, and emptying a trash."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from django.contrib import messages
from django.db.models import Count, Max, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST

from audiotricks.errors import Invalid
from audiotricks.web.users import sign_in_required, user_of
from quotas.models import parse_uuid
from quotas.workspaces import find_workspace
from uploads.actions import bulk
from uploads.actions.base import NOT_ALLOWED, BulkFileAction, Outcome
from uploads.actions.trash import PURGE
from uploads.models import AudioUpload, AudioUploadQuerySet
from uploads.pages.access import page_actions, roles_in


@require_POST
@sign_in_required(form_on="files")
def selected(request: HttpRequest) -> HttpResponse:
    """Do ``action`` to each ``file``, after asking if it does, and redirect to ``next``."""
    action = _asked_action(request)
    ids = [pk for given in request.POST.getlist("file") if (pk := parse_uuid(given))]
    uploads = list(
        AudioUpload.objects.visible_to(request.user)
        .filter(pk__in=ids)
        .select_related("workspace")
        .order_by("original_filename", "pk")
    )
    back = _way_back(request)
    if not uploads:
        messages.warning(request, _("No file was chosen. Tick at least one in the list."))
        return redirect(back)
    user = user_of(request)
    roles = roles_in(user, [upload.workspace_id for upload in uploads])
    allowed = [upload for upload in uploads if action.is_allowed(user, roles.get(upload.workspace_id))]
    if action.asks_first and allowed and "confirmed" not in request.POST:
        question = action.question % {"count": len(allowed)}
        asked = {"action": action, "question": question, "uploads": allowed, "next": back}
        return render(request, "uploads/confirm_action.html", asked)
    refused = [Outcome.refused(upload, NOT_ALLOWED) for upload in uploads if upload not in allowed]
    tell(request, action, [*(action.apply(upload, actor=user) for upload in allowed), *refused])
    return redirect(back)


def _asked_action(request: HttpRequest) -> BulkFileAction:
    given = request.POST.get("action", "")
    for action in page_actions():
        if action.name == given:
            return action
    raise Invalid(_("There is no such action."))


def _way_back(request: HttpRequest) -> str:
    """Only on this site."""
    given = request.POST.get("next", "")
    if given and url_has_allowed_host_and_scheme(given, allowed_hosts=None) and given.startswith("/"):
        return given
    return reverse("files")


def tell(request: HttpRequest, action: BulkFileAction, outcomes: Iterable[Outcome]) -> None:
    """How many were done, and why others were refused."""
    outcomes = list(outcomes)
    if done := sum(outcome.done for outcome in outcomes):
        messages.success(request, action.done % {"count": done})
    for outcome in outcomes:
        if not outcome.done:
            messages.error(request, _("%(name)s: %(message)s") % {"name": outcome.name, "message": outcome.message})


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def empty_trash(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Later files than the page showed stay."""
    workspace = find_workspace(user_of(request), pk, right=PURGE.right)
    thrown = AudioUpload.objects.in_workspace(workspace).in_trash()
    back = f"{reverse('trash')}?workspace={workspace.slug}"
    if request.method == "POST" and (until := parse_moment(request.POST.get("until", ""))):
        return _emptied(request, thrown.filter(deleted_at__lte=until), back)
    inside = thrown.aggregate(files=Count("pk"), size=Sum("file_size"), until=Max("deleted_at"))
    return render(request, "uploads/empty_trash.html", {"workspace": workspace, "inside": inside, "back": back})


def parse_moment(given: str) -> datetime | None:
    """From ``isoformat``, aware; or None."""
    try:
        moment = parse_datetime(given)
    except ValueError:
        return None
    return moment if moment and moment.tzinfo else None


def _emptied(request: HttpRequest, thrown: AudioUploadQuerySet, back: str) -> HttpResponse:
    """Safe to repeat: leaves files to a running bulk action."""
    chosen = thrown.exclude(pk__in=bulk.waiting_for(PURGE, thrown).values("pk"))
    left = chosen.count()
    done = refused = 0
    if left:
        started = bulk.start(PURGE, chosen.order_by("deleted_at", "pk")[: bulk.MOST_FILES], actor=user_of(request))
        done, refused, left = started.done, started.refused, left - started.total
    if done:
        messages.success(request, PURGE.done % {"count": done})
    if waiting := bulk.waiting_for(PURGE, thrown).count():
        words = ngettext(
            "%(count)d file is being deleted for good. It leaves this list within a few minutes.",
            "%(count)d files are being deleted for good. They leave this list within a few minutes.",
            waiting,
        )
        messages.info(request, words % {"count": waiting})
    if refused:
        words = ngettext(
            "%(count)d file could not be deleted and is still here.",
            "%(count)d files could not be deleted and are still here.",
            refused,
        )
        messages.error(request, words % {"count": refused})
    if left > 0:
        words = ngettext(
            "%(count)d file is left for another time: the trash is emptied in parts.",
            "%(count)d files are left for another time: the trash is emptied in parts.",
            left,
        )
        messages.warning(request, words % {"count": left})
    return redirect(back)

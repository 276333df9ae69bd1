"""File actions in the administration, confirmed on a page."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminTextInputWidget

from audiotricks.web.users import user_of
from uploads.actions.base import BulkFileAction
from uploads.actions.bulk import TooManyFiles, preview, start
from uploads.models import AudioUpload, AudioUploadQuerySet, BulkAction

#: The number of chosen files that the confirmation names.
NAMED = 20


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=1000,
        help_text=gettext_lazy("It is kept in the history of each file."),
        widget=UnfoldAdminTextInputWidget,
    )


def admin_action(action: BulkFileAction) -> Callable[..., HttpResponse | None]:
    @admin.action(description=action.label)
    def run(model_admin: Any, request: HttpRequest, chosen: AudioUploadQuerySet) -> HttpResponse | None:
        return carry_out(model_admin, request, chosen, action)

    run.__name__ = action.name
    return run


def carry_out(
    model_admin: Any, request: HttpRequest, chosen: AudioUploadQuerySet, action: BulkFileAction
) -> HttpResponse | None:
    """Asks; starts when the same files are confirmed."""
    try:
        expected = preview(action, chosen)
        form = ReasonForm(request.POST if "confirmed" in request.POST else None)
        if request.POST.get("confirmed") == expected.mark and form.is_valid():
            return lead_to(request, start(action, chosen, actor=user_of(request), reason=form.cleaned_data["reason"]))
    except TooManyFiles as error:
        messages.error(request, str(error.detail))
        return None
    if not expected.total:
        messages.error(request, _("None of these files is there any more."))
        return None
    return TemplateResponse(
        request,
        "admin/uploads/confirm_action.html",
        {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": action.question % {"count": expected.total},
            "action": action,
            "expected": expected,
            "changed_meanwhile": "confirmed" in request.POST,
            "form": form if action.keeps_reason else None,
            "named": chosen.select_related("workspace")[:NAMED],
            "unnamed": max(0, expected.total - NAMED),
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
        },
    )


def lead_to(request: HttpRequest, bulk: BulkAction) -> HttpResponse:
    """A single finished file, else the bulk action."""
    if bulk.finished_at is None:
        messages.info(request, _("It has begun: this page shows how far it is."))
    elif bulk.refused:
        message = ngettext("%(count)d file was refused.", "%(count)d files were refused.", bulk.refused)
        messages.warning(request, message % {"count": bulk.refused})
    else:
        messages.success(request, BulkFileAction.done % {"count": bulk.done})
        only = bulk.items.first() if bulk.total == 1 else None
        if only and AudioUpload.objects.filter(pk=only.upload_id).exists():
            return redirect("admin:uploads_audioupload_change", only.upload_id)
    return redirect("admin:uploads_bulkaction_change", bulk.pk)

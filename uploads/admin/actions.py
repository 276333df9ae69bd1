"""What staff do to files: chosen in a list or on a file's own page, confirmed on a page that says what will happen."""

from collections.abc import Callable, Mapping
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy
from unfold.widgets import UnfoldAdminTextInputWidget

from audiotricks.web.users import user_of
from uploads.actions.bulk import REASON_IS_KEPT, Action, TooManyFiles, preview, start
from uploads.models import AudioUpload, AudioUploadQuerySet, BulkAction

#: So many of the chosen files are named before it begins.
NAMED = 20

#: What asks, what happens, and the button that says so.
QUESTIONS: Mapping[Action, Any] = {
    Action.DELETE: ngettext_lazy("Move %(count)d file to the trash?", "Move %(count)d files to the trash?", "count"),
    Action.UNDELETE: ngettext_lazy(
        "Take %(count)d file out of the trash?", "Take %(count)d files out of the trash?", "count"
    ),
    Action.PURGE: ngettext_lazy("Delete %(count)d file for good?", "Delete %(count)d files for good?", "count"),
    Action.HOLD: ngettext_lazy("Put %(count)d file on hold?", "Put %(count)d files on hold?", "count"),
    Action.RELEASE: ngettext_lazy("Release %(count)d file from hold?", "Release %(count)d files from hold?", "count"),
    Action.RETRY: ngettext_lazy("Process %(count)d file again?", "Process %(count)d files again?", "count"),
    Action.VERIFY: ngettext_lazy("Verify %(count)d file?", "Verify %(count)d files?", "count"),
}
EFFECTS: Mapping[Action, str | Promise] = {
    Action.DELETE: gettext_lazy(
        "Nobody can listen to what is in the trash, and no quota counts it. It can be taken out again until it is "
        "deleted for good, which happens by itself after a while."
    ),
    Action.UNDELETE: gettext_lazy(
        "Each file goes back to where it was and counts against its workspace's quota again. Where the quota has no "
        "room, the file stays in the trash."
    ),
    Action.PURGE: gettext_lazy(
        "Their bytes are removed from the storage, unless another file shares them. Nobody can bring them back."
    ),
    Action.HOLD: gettext_lazy(
        "What is on hold can be neither deleted nor purged, by anyone or anything, until it is released."
    ),
    Action.RELEASE: gettext_lazy("They can be deleted again, and they expire again where a workspace's files do."),
    Action.RETRY: gettext_lazy("Each starts from the beginning, with all its retries."),
    Action.VERIFY: gettext_lazy(
        "Every stored byte is read once and compared with what arrived. Large files take a while; workers do it, one "
        "file after the other."
    ),
}
DANGEROUS = frozenset({Action.DELETE, Action.PURGE})


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        required=False,
        max_length=1000,
        help_text=gettext_lazy("It is kept in the history of each file."),
        widget=UnfoldAdminTextInputWidget,
    )


def admin_action(action: Action) -> Callable[..., HttpResponse | None]:
    """The action as the administration's lists want it. Who may not delete files may not throw them away either."""

    @admin.action(description=action.label, permissions=["remove" if action in DANGEROUS else "change"])
    def run(model_admin: Any, request: HttpRequest, chosen: AudioUploadQuerySet) -> HttpResponse | None:
        return carry_out(model_admin, request, chosen, action)

    run.__name__ = action.value
    return run


def carry_out(
    model_admin: Any, request: HttpRequest, chosen: AudioUploadQuerySet, action: Action
) -> HttpResponse | None:
    """Ask first; once it is confirmed for the very files that were asked about, begin, and lead to what came of it."""
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
            "title": QUESTIONS[action] % {"count": expected.total},
            "action": action,
            "effect": EFFECTS[action],
            "is_dangerous": action in DANGEROUS,
            "expected": expected,
            "changed_meanwhile": "confirmed" in request.POST,
            "form": form if action in REASON_IS_KEPT else None,
            "named": chosen.select_related("workspace")[:NAMED],
            "unnamed": max(0, expected.total - NAMED),
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
        },
    )


def lead_to(request: HttpRequest, bulk: BulkAction) -> HttpResponse:
    """One file that is done leads back to it; anything else to the page of the bulk action."""
    if bulk.finished_at is None:
        messages.info(request, _("It has begun: this page shows how far it is."))
    elif bulk.refused:
        told = ngettext("%(count)d file was refused.", "%(count)d files were refused.", bulk.refused)
        messages.warning(request, told % {"count": bulk.refused})
    else:
        told = ngettext("Done: %(count)d file.", "Done: %(count)d files.", bulk.done)
        messages.success(request, told % {"count": bulk.done})
        only = bulk.items.first() if bulk.total == 1 else None
        if only and AudioUpload.objects.filter(pk=only.upload_id).exists():
            return redirect("admin:uploads_audioupload_change", only.upload_id)
    return redirect("admin:uploads_bulkaction_change", bulk.pk)

"""Decisions of staff on storages and large removals."""

from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action, display

from audiotricks.admin.base import ReadOnlyAdmin, confirmation, link_to, moment
from audiotricks.errors import DomainError
from audiotricks.web.users import user_of
from uploads.models import HeldRemoval, StorageMark
from uploads.objects.brake import answer
from uploads.objects.marks import adopt, held_storages, vault_id, why_held, words_for


@admin.register(StorageMark)
class StorageMarkAdmin(ReadOnlyAdmin):
    list_display = ("alias", "standing", "since", "checked")
    actions_detail = ("adopt_this",)
    fields = ("alias", "state_in_words", "why", "this_vault", "since", "checked", "grace")

    def has_adopt_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(user_of(request).has_perm("uploads.change_storagemark"))

    @display(description=_("state"), label={"ours": "success", "held": "danger"})
    def standing(self, mark: StorageMark) -> tuple[str, Any]:
        if mark.state == StorageMark.State.OURS and why_held(mark):
            return "held", StorageMark.State.ANOTHER_ALIAS.label
        return "ours" if mark.state == StorageMark.State.OURS else "held", mark.get_state_display()

    @display(description=_("state"))
    def state_in_words(self, mark: StorageMark) -> Any:
        return self.standing(mark)[1]

    @display(description=_("why"))
    def why(self, mark: StorageMark) -> str:
        if why := why_held(mark):
            return gettext(
                "%(why)s Nothing is removed there and no new file goes there; what lies there can be read."
            ) % {"why": why}
        return str(words_for(mark))

    @display(description=_("id of this vault"))
    def this_vault(self, mark: StorageMark) -> str:
        return str(vault_id())

    @display(description=_("in this state since"))
    def since(self, mark: StorageMark) -> Any:
        return moment(mark.state_since)

    @display(description=_("last looked at"))
    def checked(self, mark: StorageMark) -> Any:
        return moment(mark.checked_at)

    @display(description=_("grace periods begin at"))
    def grace(self, mark: StorageMark) -> Any:
        return moment(mark.grace_from)

    @action(description=_("It belongs to this vault"), url_path="adopt", permissions=["adopt"])
    def adopt_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        mark = self.get_object(request, object_id)
        if mark is None:
            raise Http404
        page = reverse("admin:uploads_storagemark_change", args=[mark.pk])
        asked = confirmation(
            self,
            request,
            title=gettext("Does the storage “%(alias)s” belong to this vault?") % {"alias": mark.alias},
            explanation=gettext(
                "%(now)s If you say yes, this database alone removes and stores files there. Another vault that uses "
                "it stops. Every grace period of this storage begins anew: objects that no file of this database needs "
                "are removed when it is over, but never many at once without asking you. If DATABASE_URL leads to the "
                "wrong database, put that right instead."
            )
            % {"now": why_held(mark) or words_for(mark)},
            button=gettext("Yes, it belongs to this vault"),
            back=page,
        )
        if asked is not None:
            return asked
        try:
            mark = adopt(mark.alias, actor=user_of(request))
        except DomainError as error:
            messages.error(request, error.detail)
        else:
            if why := held_storages().get(mark.alias):
                messages.warning(request, str(why))
            else:
                messages.success(request, gettext("The storage “%(alias)s” belongs to this vault.") % {"alias": mark})
        return redirect(page)


@admin.register(HeldRemoval)
class HeldRemovalAdmin(ReadOnlyAdmin):
    list_display = ("what", "where", "count", "total", "standing", "asked", "answered_by")
    list_filter = ("state", "sweep")
    list_select_related = ("workspace", "answered_by")
    actions_detail = ("allow_this", "decline_this")
    fields = (
        "what", "where", "count", "total", "covers", "state_in_words", "asked", "answered_by", "answered",
    )  # fmt: skip

    def has_answer_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(user_of(request).has_perm("uploads.change_heldremoval"))

    @display(description=_("sweep"))
    def what(self, held: HeldRemoval) -> str:
        return held.get_sweep_display()

    @display(description=_("where"))
    def where(self, held: HeldRemoval) -> Any:
        if held.workspace is not None:
            return link_to(held.workspace)
        return gettext("Storage “%(alias)s”") % {"alias": held.storage_provider}

    @display(
        description=_("state"),
        label={"asked": "danger", "allowed": "success", "declined": "warning", "finished": "info"},
    )
    def standing(self, held: HeldRemoval) -> tuple[str, str]:
        return held.state, held.get_state_display()

    @display(description=_("state"))
    def state_in_words(self, held: HeldRemoval) -> str:
        return held.get_state_display()

    @display(description=_("covers until"))
    def covers(self, held: HeldRemoval) -> Any:
        return moment(held.covers_until)

    @display(description=_("asked at"))
    def asked(self, held: HeldRemoval) -> Any:
        return moment(held.asked_at)

    @display(description=_("answered at"))
    def answered(self, held: HeldRemoval) -> Any:
        return moment(held.answered_at)

    @action(description=_("Allow"), url_path="allow", permissions=["answer"])
    def allow_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._answer(request, object_id, allowed=True)

    @action(description=_("Decline"), url_path="decline", permissions=["answer"])
    def decline_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return self._answer(request, object_id, allowed=False)

    def _answer(self, request: HttpRequest, object_id: str, *, allowed: bool) -> HttpResponseBase:
        held = self.get_object(request, object_id)
        if held is None:
            raise Http404
        page = reverse("admin:uploads_heldremoval_change", args=[held.pk])
        shown = f"{held.count} {held.covers_until.isoformat()}"
        words = {"what": held.get_sweep_display(), "count": held.count, "total": held.total}
        if allowed:
            title = gettext("Allow this removal?")
            explanation = gettext(
                "%(what)s: %(count)d of %(total)d. The next run of the sweep does it. Nothing that falls due later is "
                "covered."
            )
        else:
            title = gettext("Decline this removal?")
            explanation = gettext(
                "%(what)s: %(count)d of %(total)d stay. The sweep goes on with what falls due later. You can still "
                "allow it."
            )
        asked = confirmation(
            self,
            request,
            title=title,
            explanation=explanation % words,
            button=gettext("Allow") if allowed else gettext("Decline"),
            back=page,
            shown=shown,
        )
        if asked is not None:
            return asked
        if request.POST.get("shown") != shown:
            messages.error(request, gettext("It has changed since it was shown: look at it again."))
            return redirect(page)
        try:
            answer(held, allowed=allowed, actor=user_of(request))
        except DomainError as error:
            messages.error(request, error.detail)
        return redirect(page)

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext, gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from accounts.templatetags.people import grouped
from audiotricks.errors import NotFound
from audiotricks.keyset import Ordering, page_or_first
from audiotricks.web.users import sign_in_required, user_of
from quotas import workspaces as services
from quotas.errors import AlreadyMember, OwnerNeeded, SlugTaken, TooManyWorkspaces
from quotas.models import LimitUse, Membership, Workspace, month_after, this_month
from quotas.pages.forms import NewMemberForm, NewWorkspaceForm, RoleForm, SettingsForm
from quotas.reservations import change_quota, ensure_quota, fill_quotas
from quotas.rights import Right, Role, basis_by, is_permitted, require_by

WORKSPACES_SHOWN = 50
MEMBERS_SHOWN = 25
NEWEST: Ordering = ("-created_at", "-id")
BY_NAME: Ordering = ("username",)
# Without the limit of a single file, which is no sum and has its own sentence.
LIMITS = {
    "max_storage_bytes": gettext_lazy("Storage"),
    "max_file_count": gettext_lazy("Files"),
    "max_monthly_upload_bytes": gettext_lazy("Uploaded this month"),
    "max_monthly_uploads": gettext_lazy("Files uploaded this month"),
}


@require_safe
@sign_in_required()
def workspaces(request: HttpRequest) -> HttpResponse:
    """One's own, the personal one first; all by permission. ``?q=`` searches."""
    user = user_of(request)
    own = services.personal_workspace(user)
    text = request.GET.get("q", "").strip()
    visible = Workspace.objects.visible_to(user).with_role_of(user).select_related("quota", "personal_of")
    found = visible.filter(Q(name__icontains=text) | Q(slug__icontains=text)) if text else visible.exclude(pk=own.pk)
    page = page_or_first(found, NEWEST, size=WORKSPACES_SHOWN, cursor=request.GET.get("cursor", ""))
    rows = page.rows if text or page.has_previous else [*visible.filter(pk=own.pk), *page.rows]
    fill_quotas(rows)
    return render(
        request,
        "quotas/workspaces.html",
        {
            "workspaces": [(row, role_label(row), grouped(row.quota.current_file_count)) for row in rows],
            "own": own,
            "text": text,
            "page": page,
            "is_searchable": is_permitted(user, Right.VIEW_WORKSPACE) or text or page.has_previous or page.has_next,
        },
    )


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def new_workspace(request: HttpRequest) -> HttpResponse:
    form = NewWorkspaceForm(_sent(request))
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                made = services.create_workspace(user_of(request), **form.values())
                messages.success(request, gettext("The workspace was made. Now let others in, or put files into it."))
                return redirect("workspace", pk=made.pk)
            except SlugTaken as error:
                form.add_error("slug", error.title)
                status = error.status
            except TooManyWorkspaces as error:
                form.add_error(None, error.title)
                status = error.status
            except ValidationError as error:
                form.add_error(None, error)
    return render(request, "quotas/new_workspace.html", {"form": form}, status=status)


@require_safe
@sign_in_required()
def workspace(request: HttpRequest, pk: UUID) -> HttpResponse:
    user = user_of(request)
    shown = services.find_workspace(user, pk)
    quota = ensure_quota(shown)
    month = this_month()
    members = shown.memberships.select_related("user").annotate(username=F("user__username"))

    def allows(right: Right) -> bool:
        return bool(basis_by(user, right, shown.role))

    return render(
        request,
        "quotas/workspace.html",
        {
            "workspace": shown,
            "role": role_label(shown),
            "may_change_settings": allows(Right.RENAME_WORKSPACE) and allows(Right.SET_RETENTION),
            "may_view_quota": allows(Right.VIEW_QUOTA),
            "may_view_files": allows(Right.VIEW_FILES),
            "may_view_members": allows(Right.VIEW_MEMBERS),
            "may_add_members": allows(Right.ADD_MEMBERS),
            "may_change_members": allows(Right.CHANGE_MEMBERS),
            "may_leave": shown.personal_of_id != user.pk and shown.memberships.filter(user=user).exists(),
            "quota": quota,
            "limits": [limit_words(use) for use in quota.limits(month=month) if use.name in LIMITS],
            "next_month": month_after(month),
            "page": page_or_first(members, BY_NAME, size=MEMBERS_SHOWN, cursor=request.GET.get("cursor", "")),
            "trash_days": settings.TRASH_DAYS,
        },
    )


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def workspace_settings(request: HttpRequest, pk: UUID) -> HttpResponse:
    shown = services.find_workspace(user_of(request), pk, right=Right.RENAME_WORKSPACE)
    require_by(user_of(request), Right.SET_RETENTION, Role(shown.role) if shown.role else None)
    form = SettingsForm(_sent(request), name=shown.name, quota=ensure_quota(shown))
    status = 200
    if request.method == "POST":
        if form.is_valid() and not form.needs_a_yes:
            if "name" in form.changed_data:
                services.rename_workspace(shown, name=form.cleaned_data["name"])
            if changes := form.changes():
                change_quota(shown, changes=changes)
            messages.success(request, gettext("Saved."))
            return redirect("workspace", pk=pk)
        status = 400 if form.errors else 409
    context = {"workspace": shown, "form": form, "asks": status == 409}
    return render(request, "quotas/settings.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def add_member(request: HttpRequest, pk: UUID) -> HttpResponse:
    shown = services.find_workspace(user_of(request), pk, right=Right.ADD_MEMBERS)
    form = NewMemberForm(_sent(request), initial={"role": Role.VIEWER})
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            added = form.cleaned_data["username"]
            try:
                services.add_member(shown, user=added, role=form.cleaned_data["role"])
                messages.success(request, gettext("%(name)s is in.") % {"name": added.get_username()})
                return redirect("workspace", pk=pk)
            except (AlreadyMember, TooManyWorkspaces) as error:
                form.add_error("username", error.title)
                status = error.status
    return render(request, "quotas/add_member.html", {"workspace": shown, "form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def member(request: HttpRequest, pk: UUID, user_id: int) -> HttpResponse:
    shown = services.find_workspace(user_of(request), pk, right=Right.CHANGE_MEMBERS)
    membership = _membership(shown, user_id)
    form = RoleForm(_sent(request), initial={"role": membership.role})
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                changed = services.change_role(shown, user_id=user_id, role=form.cleaned_data["role"])
                words = {"name": membership.user.get_username(), "role": Role(changed.role).label}
                messages.success(request, gettext("The role of %(name)s is now: %(role)s.") % words)
                return redirect("workspace", pk=pk)
            except (OwnerNeeded, TooManyWorkspaces) as error:
                form.add_error("role", error.detail)
                status = error.status
    context = {"workspace": shown, "membership": membership, "form": form}
    return render(request, "quotas/member.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def remove_member(request: HttpRequest, pk: UUID, user_id: int) -> HttpResponse:
    """Members may remove themselves, owners anybody."""
    user = user_of(request)
    is_oneself = user_id == user.pk
    shown = services.find_workspace(user, pk, right=Right.VIEW_MEMBERS if is_oneself else Right.REMOVE_MEMBERS)
    membership = _membership(shown, user_id)
    problem: OwnerNeeded | None = None
    if request.method == "POST":
        try:
            services.remove_member(shown, user_id=user_id)
        except OwnerNeeded as error:
            problem = error
        else:
            words = {"name": membership.user.get_username(), "workspace": shown.name}
            if not is_oneself:
                messages.success(request, gettext("%(name)s is no longer a member of %(workspace)s.") % words)
                return redirect("workspace", pk=pk)
            messages.success(request, gettext("You left %(workspace)s.") % words)
            return redirect("workspaces")
    context = {"workspace": shown, "membership": membership, "is_oneself": is_oneself, "problem": problem}
    return render(request, "quotas/remove_member.html", context, status=problem.status if problem else 200)


def _sent(request: HttpRequest) -> QueryDict | None:
    """None before a form is sent."""
    return request.POST if request.method == "POST" else None


def _membership(shown: Workspace, user_id: int) -> Membership:
    membership = shown.memberships.filter(user__pk=user_id).select_related("user").first()
    if membership is None:
        raise NotFound(gettext_lazy("This user is not a member of the workspace."))
    return membership


def role_label(shown: Workspace) -> str:
    return str(Role(shown.role).label) if shown.role else gettext("Not a member")


def limit_words(use: LimitUse) -> dict[str, Any]:
    write = filesizeformat if use.counts_bytes else grouped
    no_limit = gettext("no limit")
    return {
        "use": use,
        "name": LIMITS[use.name],
        "used": write(use.used),
        "reserved": write(use.reserved),
        "left": no_limit if use.left is None else write(use.left),
        "maximum": no_limit if use.maximum is None else write(use.maximum),
    }

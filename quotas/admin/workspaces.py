"""Workspaces with limits and members, changed by services, which may refuse."""

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth.models import User
from django.db.models import Count, F, OuterRef, Prefetch, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import StackedInline, TabularInline
from unfold.decorators import action, display
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminTextInputWidget

from accounts.templatetags.people import grouped
from audiotricks.admin.base import VaultAdmin, link, link_to, rehearse
from audiotricks.web.users import user_of
from quotas import workspaces as services
from quotas.admin.columns import LimitColumns, in_use, meter, recalculate
from quotas.admin.sizes import SizeField
from quotas.models import Membership, StorageQuota, Workspace
from quotas.reservations import change_quota, ensure_quota, fill_quotas

Role = Membership.Role
OWNERS_SHOWN = 3
NEARLY_FULL = 0.9


class NewWorkspaceForm(forms.ModelForm):  # type: ignore[type-arg]
    # Django's slug field would allow underscores; the table's own rules apply.
    slug = forms.CharField(
        label=_("Short name"),
        required=False,
        max_length=60,
        widget=UnfoldAdminTextInputWidget(),
        help_text=_(
            "Stands in addresses: lower-case letters, digits and hyphens. Left empty, it is made from the name."
        ),
    )
    owner = forms.ModelChoiceField(
        User.objects.filter(is_active=True),
        label=_("Owner"),
        help_text=_("Manages the workspace. Add more members once it is there."),
        widget=AutocompleteSelect(Membership._meta.get_field("user"), admin.site),
    )

    class Meta:
        model = Workspace
        fields = ("name", "slug")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            rehearse(self.create)
        return cleaned

    def create(self) -> Workspace:
        given = self.cleaned_data
        return services.create_workspace(given["owner"], name=given["name"], slug=given["slug"] or None)


class QuotaForm(forms.ModelForm):  # type: ignore[type-arg]
    max_storage_bytes = SizeField(label=_("Storage"), required=False, help_text=_("Empty is unlimited, 0 is none."))
    max_file_size = SizeField(label=_("Largest file"), required=False)
    max_monthly_upload_bytes = SizeField(label=_("Storage a month"), required=False)

    class Meta:
        model = StorageQuota
        fields = (
            *("max_storage_bytes", "max_file_count", "max_file_size"),
            *("max_monthly_uploads", "max_monthly_upload_bytes"),
            *("retention_days", "auto_cleanup", "archive_threshold_days", "archive_storage_class"),
            "keep_source_audio",
        )
        labels = {
            "max_file_count": _("Files"),
            "max_monthly_uploads": _("Files a month"),
            "retention_days": _("Days until files expire"),
            "auto_cleanup": _("Move expired files to the trash without being asked"),
            "archive_threshold_days": _("Days until files may be archived"),
            "archive_storage_class": _("Archived files are stored as"),
            "keep_source_audio": _("Keep the audio when what was made from it is finished"),
        }
        help_texts = {"max_file_count": "", "max_monthly_uploads": ""}


class QuotaFormSet(PaginationInlineFormSet):
    def write(self) -> None:
        """Writes only the changed columns, never a counter."""
        for form in self.forms:
            if form.has_changed():
                change_quota(self.instance, changes={name: form.cleaned_data[name] for name in form.changed_data})


class QuotaInline(LimitColumns, StackedInline):
    model = StorageQuota
    form = QuotaForm
    formset = QuotaFormSet
    can_delete = False
    max_num = 1
    hide_title = True
    verbose_name = _("What it may hold")
    readonly_fields = ("storage", "files", "reserved", "month_files", "month_bytes")
    fieldsets = (
        (None, {"fields": (("storage", "files"), ("month_bytes", "month_files"), "reserved")}),
        (
            _("Limits"),
            {
                "fields": (
                    ("max_storage_bytes", "max_file_count"),
                    ("max_monthly_upload_bytes", "max_monthly_uploads"),
                    "max_file_size",
                )
            },
        ),
        (
            _("What becomes of old files"),
            {
                "fields": (
                    ("retention_days", "auto_cleanup"),
                    ("archive_threshold_days", "archive_storage_class"),
                    "keep_source_audio",
                )
            },
        ),
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description=_("Reserved by uploads under way"))
    def reserved(self, quota: StorageQuota) -> str:
        words = ngettext("%(size)s for %(count)d file", "%(size)s for %(count)d files", quota.reserved_files)
        return words % {"size": filesizeformat(quota.reserved_bytes), "count": quota.reserved_files}

    @display(description=_("Files that arrived this month"))
    def month_files(self, quota: StorageQuota) -> SafeString:
        return in_use(quota, "max_monthly_uploads")

    @display(description=_("Storage that arrived this month"))
    def month_bytes(self, quota: StorageQuota) -> SafeString:
        return in_use(quota, "max_monthly_upload_bytes")


class MembersFormSet(PaginationInlineFormSet):
    """New owners first, so that one form can hand over a workspace."""

    def clean(self) -> None:
        super().clean()
        if not any(self.errors):
            rehearse(self.write)

    def write(self) -> None:
        leaving = self.deleted_forms
        staying = [form for form in self.initial_forms if form not in leaving and form.has_changed()]
        for form in sorted(staying, key=lambda form: -Role(form.cleaned_data["role"]).rank):
            services.change_role(self.instance, user_id=form.instance.user_id, role=Role(form.cleaned_data["role"]))
        for form in leaving:
            services.remove_member(self.instance, user_id=form.instance.user_id)


class MembersInline(TabularInline):
    model = Membership
    formset = MembersFormSet
    per_page = 10
    hide_title = True
    fields = ("member", "role", "created_at")
    readonly_fields = ("member", "created_at")
    verbose_name_plural = _("Members")
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        members: QuerySet[Membership] = super().get_queryset(request)
        return members.select_related("user").order_by("user__username")

    @display(description=_("User"))
    def member(self, membership: Membership) -> SafeString | str | None:
        return link_to(membership.user)


class NewMembersFormSet(PaginationInlineFormSet):
    def clean(self) -> None:
        super().clean()
        if not any(self.errors):
            rehearse(self.write)

    def write(self) -> None:
        for form in self.extra_forms:
            if form.has_changed():
                given = form.cleaned_data
                services.add_member(self.instance, user=given["user"], role=Role(given["role"]))


class NewMembersInline(TabularInline):
    model = Membership
    formset = NewMembersFormSet
    fields = ("user", "role")
    autocomplete_fields = ("user",)
    verbose_name = _("new member")
    verbose_name_plural = _("New members")
    extra = 1
    max_num = 5
    hide_title = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(self.has_add_permission(request, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        return Membership.objects.none()

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The default is the role with the fewest rights."""
        return super().formfield_for_choice_field(db_field, request, initial=Role.VIEWER, **kwargs)


class KindFilter(admin.SimpleListFilter):
    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("shared", _("Shared")), ("personal", _("Personal"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> QuerySet[Workspace]:
        return queryset.filter(personal_of__isnull=self.value() == "shared") if self.value() else queryset


class RoomFilter(admin.SimpleListFilter):
    title = _("room")
    parameter_name = "room"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [("little", _("Nearly full")), ("none", _("Full"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Workspace]) -> QuerySet[Workspace]:
        part = {"little": NEARLY_FULL, "none": 1.0}.get(self.value() or "")
        if part is None:
            return queryset
        held = F("quota__current_storage_bytes") + F("quota__reserved_bytes")
        return queryset.annotate(held=held).filter(held__gte=F("quota__max_storage_bytes") * part)


@admin.register(Workspace)
class WorkspaceAdmin(VaultAdmin):
    """Workspaces cannot be deleted: their files would have no owner."""

    list_display = ("name", "slug", "owners", "members", "storage", "files", "created_at")
    list_filter = (KindFilter, RoomFilter)
    list_select_related = ("quota",)
    search_fields = ("name", "slug", "=memberships__user__username")
    search_help_text = _("Part of the name or short name, or the whole name of a member.")
    actions = ("recalculate",)
    actions_detail = ("recalculate_this",)
    inlines = (QuotaInline, MembersInline, NewMembersInline)
    fields = ("name", "slug", "personal_of", "created_at", "its_files")
    readonly_fields = ("slug", "personal_of", "created_at", "its_files")
    add_fieldsets = ((None, {"fields": ("name", "slug", "owner")}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        of_this = Membership.objects.filter(workspace=OuterRef("pk")).order_by()
        count = of_this.values("workspace").annotate(count=Count("pk")).values("count")
        owners = Membership.objects.filter(role=Role.OWNER).select_related("user").order_by("pk")
        first_owners = Prefetch("memberships", owners[: OWNERS_SHOWN + 1], to_attr="first_owners")
        workspaces: QuerySet[Any] = super().get_queryset(request).prefetch_related(first_owners)
        counted: QuerySet[Any] = workspaces.annotate(member_count=Coalesce(Subquery(count), 0))
        return counted

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        fill_quotas(changelist.result_list)
        return changelist

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            ensure_quota(found)
        return found

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change=change, **({} if obj else {"form": NewWorkspaceForm}), **kwargs)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_readonly_fields(request, obj) if obj else ()

    def get_inlines(self, request: HttpRequest, obj: Any = None) -> Any:
        return super().get_inlines(request, obj) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_recalculate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(user_of(request).has_perm("quotas.change_storagequota"))

    def save_model(self, request: HttpRequest, obj: Workspace, form: Any, change: bool) -> None:
        if not change:
            made = form.create()
            obj.pk, obj.slug = made.pk, made.slug
        elif "name" in form.changed_data:
            services.rename_workspace(obj, name=obj.name)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        # Saves nothing, but records the changes for the row's history.
        formset.save(commit=False)
        formset.write()

    @display(description=_("Owners"))
    def owners(self, workspace: Any) -> SafeString:
        names = [link_to(membership.user) for membership in workspace.first_owners[:OWNERS_SHOWN]]
        shown = format_html_join(", ", "{}", ((name,) for name in names))
        return format_html("{}, …", shown) if len(workspace.first_owners) > OWNERS_SHOWN else shown

    @display(description=_("Members"))
    def members(self, workspace: Any) -> int:
        return int(workspace.member_count)

    @display(description=_("Storage used"))
    def storage(self, workspace: Workspace) -> SafeString:
        return meter(workspace.quota.storage)

    @display(description=_("Files"))
    def files(self, workspace: Workspace) -> str:
        return grouped(workspace.quota.current_file_count)

    @display(description=_("Files"))
    def its_files(self, workspace: Workspace) -> SafeString:
        address = reverse("admin:uploads_audioupload_changelist")
        return link(f"{address}?workspace__id__exact={workspace.pk}", gettext("Its files"))

    @admin.action(description=_("Recalculate the counters"), permissions=["recalculate"])
    def recalculate(self, request: HttpRequest, workspaces: QuerySet[Workspace]) -> HttpResponseBase | None:
        ids = Workspace.objects.filter(pk__in=workspaces.order_by().values("pk")).order_by()
        return recalculate(self, request, ids.values_list("pk", flat=True).iterator(), count=ids.count())

    @action(description=_("Recalculate"), url_path="recalculate", permissions=["recalculate"])
    def recalculate_this(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        workspace = self.get_object(request, object_id)
        if workspace is None:
            raise Http404
        page = reverse("admin:quotas_workspace_change", args=[workspace.pk])
        return recalculate(self, request, [workspace.pk], count=1, back=page) or redirect(page)

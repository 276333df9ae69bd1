from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from audiotricks.admin.base import ReadOnlyAdmin, link_to
from audiotricks.web.users import user_of
from quotas.admin.columns import LimitColumns, in_use, recalculate
from quotas.models import Membership, QuotaReservation, StorageQuota


class OfWorkspaceAdmin(ReadOnlyAdmin):
    list_select_related: Any = ("workspace",)
    search_fields: Any = ("workspace__name", "=workspace__slug")
    search_help_text: Any = _("Part of the workspace's name, or its whole short name.")

    @display(description=_("Workspace"))
    def in_workspace(self, row: Any) -> SafeString | str | None:
        return link_to(row.workspace)


@admin.register(Membership)
class MembershipAdmin(OfWorkspaceAdmin):
    list_display = ("__str__", "member", "in_workspace", "role", "created_at")
    list_select_related = ("user", "workspace")
    list_filter = ("role",)
    search_fields = ("=user__username", "=user__email", "workspace__name", "=workspace__slug")
    search_help_text = _("Part of the workspace's name, or the whole name of a user.")
    ordering = ("-pk",)
    fields = ("member", "in_workspace", "role", "created_at")

    @display(description=_("User"))
    def member(self, membership: Membership) -> SafeString | str | None:
        return link_to(membership.user)


@admin.register(StorageQuota)
class StorageQuotaAdmin(LimitColumns, OfWorkspaceAdmin):
    list_display = ("__str__", "storage", "files", "reserved", "this_month", "retention_days", "auto_cleanup")
    list_filter = ("auto_cleanup", "keep_source_audio")
    ordering = ("-pk",)
    actions = ("recalculate",)
    fields = (
        "in_workspace",
        *("storage", "files", "reserved", "this_month", "max_file_size_in_words"),
        *("retention_days", "auto_cleanup", "archive_threshold_days", "archive_storage_class", "keep_source_audio"),
        "updated_at",
    )

    @display(description=_("Reserved"))
    def reserved(self, quota: StorageQuota) -> str:
        return filesizeformat(quota.reserved_bytes)

    @display(description=_("Arrived this month"))
    def this_month(self, quota: StorageQuota) -> SafeString:
        return in_use(quota, "max_monthly_upload_bytes")

    @display(description=_("Largest file"))
    def max_file_size_in_words(self, quota: StorageQuota) -> str | None:
        return None if quota.max_file_size is None else filesizeformat(quota.max_file_size)

    @admin.action(description=_("Recalculate the counters"), permissions=["recalculate"])
    def recalculate(self, request: HttpRequest, quotas: QuerySet[StorageQuota]) -> HttpResponseBase | None:
        ids = quotas.order_by().values_list("workspace_id", flat=True)
        return recalculate(self, request, ids.iterator(), count=ids.count())

    def has_recalculate_permission(self, request: HttpRequest) -> bool:
        """Recalculating changes counters, so it needs the permission to change."""
        return bool(user_of(request).has_perm("quotas.change_storagequota"))


@admin.register(QuotaReservation)
class QuotaReservationAdmin(OfWorkspaceAdmin):
    list_display = ("in_workspace", "size", "files", "month", "created_at", "expires_at", "state")
    list_display_links = ("size",)
    fields = ("in_workspace", "size", "files", "month", "created_at", "expires_at", "state")

    @display(description=_("Size"))
    def size(self, reservation: QuotaReservation) -> str:
        return filesizeformat(reservation.bytes)

    @display(description=_("State"), label={"held": "info", "expired": "warning"})
    def state(self, reservation: QuotaReservation) -> tuple[str, str]:
        """An expired reservation counts until the sweep removes it."""
        if reservation.expires_at <= timezone.now():
            return "expired", gettext("Expired")
        return "held", gettext("Held")

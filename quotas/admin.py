from django.contrib import admin

from audiotricks.modeladmin import ReadOnlyAdmin
from quotas.models import Membership, QuotaReservation, StorageQuota, Workspace


@admin.register(Workspace)
class WorkspaceAdmin(ReadOnlyAdmin):
    list_display = ("name", "slug", "personal_of", "created_at")
    list_select_related = ("personal_of",)
    search_fields = ("name", "slug")


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("user", "workspace", "role", "created_at")
    list_select_related = ("user", "workspace")
    list_filter = ("role",)
    search_fields = ("user__username", "workspace__name")


@admin.register(StorageQuota)
class StorageQuotaAdmin(ReadOnlyAdmin):
    list_display = ("workspace", "current_storage_bytes", "reserved_bytes", "max_storage_bytes", "current_file_count")
    list_select_related = ("workspace",)
    list_filter = ("auto_cleanup",)
    search_fields = ("workspace__name", "workspace__slug")


@admin.register(QuotaReservation)
class QuotaReservationAdmin(ReadOnlyAdmin):
    list_display = ("id", "workspace", "bytes", "files", "expires_at")
    list_select_related = ("workspace",)
    search_fields = ("workspace__name", "workspace__slug")

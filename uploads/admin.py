"""Staff may look; what changes a file goes through the services."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from uploads.models import AudioUpload, UploadEvent


class ReadOnlyAdmin(ModelAdmin):
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(AudioUpload)
class AudioUploadAdmin(ReadOnlyAdmin):
    list_display = ("original_filename", "workspace", "owner", "status", "file_size", "uploaded_at", "legal_hold")
    list_filter = ("status", "file_type", "legal_hold")
    list_select_related = ("workspace", "owner")
    search_fields = ("=id", "=checksum_sha256", "original_filename")


@admin.register(UploadEvent)
class UploadEventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "action", "upload_id", "from_status", "to_status", "actor", "reason")
    list_filter = ("action",)
    list_select_related = ("actor",)
    search_fields = ("=upload_id",)

from django.contrib import admin

from audiotricks.modeladmin import ReadOnlyAdmin
from uploads.models import AudioUpload, UploadEvent


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

from typing import Any
from uuid import UUID

from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from media.formats import UnsupportedFormat
from quotas.models import Membership
from quotas.rights import Right, is_permitted
from uploads.intake.filenames import check_new_name
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.processing.backlog import files_ahead

SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"


#: Fields for everybody who sees the file. A new column is hidden until it is named here or below.
PUBLIC = (
    *("id", "workspace", "owner", "created_at", "original_filename", "file_size", "file_type", "mime_type"),
    *("duration", "sample_rate", "channels", "bitrate", "codec", "metadata", "has_thumbnail"),
    *("checksum_md5", "checksum_sha256", "duplicate_of", "status", "legal_hold", "error_code", "error_message"),
    *("uploaded_at", "validation_started_at", "validation_completed_at", "processing_started_at"),
    *("processing_completed_at", "verified_at", "failed_at", "archiving_started_at", "archived_at"),
    *("restoring_started_at", "restore_expires_at", "deleted_at", "purged_at"),
)
#: Fields about the object and the work on it, for users who may change the file or view every storage.
INSIDE = (
    *("storage_provider", "storage_path", "storage_url", "storage_region", "storage_class", "thumbnail_path"),
    *("encryption_key_id", "compression_type", "original_size", "compressed_size"),
    *("retry_count", "max_retries", "claimable_at"),
)


#: Details of events for everybody who sees the file; others name the place of an object.
PUBLIC_DETAILS = frozenset(
    (
        *("step", "bytes", "sha256", "md5", "codec", "duration", "artwork", "duplicate_of", "error_code"),
        *("what", "expected", "found"),
    )
)
#: Additional details of single actions.
PUBLIC_DETAILS_OF = {"renamed": frozenset({"from", "to"})}


def shows_inside(context: Any, workspace_id: UUID) -> bool:
    """Whether the user gets the ``INSIDE`` fields of this workspace."""
    request = context.get("request")
    if request is None:
        return False
    if any(is_permitted(request.user, right) for right in (Right.VIEW_STORAGE, Right.CHANGE_FILES)):
        return True
    # One query for all rows of a list.
    if "changeable" not in context:
        held = Membership.objects.filter(user=request.user.pk, role__in=Right.CHANGE_FILES.roles)
        context["changeable"] = set(held.values_list("workspace_id", flat=True))
    return workspace_id in context["changeable"]


class AudioUploadSerializer(serializers.ModelSerializer[AudioUpload]):
    """A file. Only its name can be changed. Viewers do not get the fields about its storage and processing."""

    encryption_key_id = serializers.UUIDField(read_only=True, allow_null=True)
    has_thumbnail = serializers.SerializerMethodField(help_text="Whether `thumbnail/` has a picture.")

    class Meta:
        model = AudioUpload
        fields: tuple[str, ...] = (*PUBLIC, *INSIDE)
        read_only_fields = tuple(name for name in (*PUBLIC, *INSIDE) if name != "original_filename")

    def get_has_thumbnail(self, upload: AudioUpload) -> bool:
        return bool(upload.thumbnail_path)

    def to_representation(self, upload: AudioUpload) -> dict[str, Any]:
        row: dict[str, Any] = super().to_representation(upload)
        if not shows_inside(self.context, upload.workspace_id):
            for name in INSIDE:
                row.pop(name, None)
        return row

    def validate_original_filename(self, value: str) -> str:
        assert self.instance is not None
        try:
            return check_new_name(value, extension=self.instance.file_type)
        except UnsupportedFormat as error:
            raise serializers.ValidationError(error.detail) from error


class InsideIsOptional(OpenApiSerializerExtension):  # type: ignore[no-untyped-call]
    """Marks ``INSIDE`` as optional in the OpenAPI document."""

    target_class = AudioUploadSerializer
    match_subclasses = True

    def map_serializer(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        schema: dict[str, Any] = auto_schema._map_serializer(self.target, direction, bypass_extensions=True)
        if "required" in schema:
            schema["required"] = [name for name in schema["required"] if name not in INSIDE]
        return schema


class DetailedUploadSerializer(AudioUploadSerializer):
    """A single file, with its place in the queue."""

    files_ahead = serializers.SerializerMethodField(
        help_text="How many files a worker takes before this one, counted to 1,000; null for one that does not wait."
    )

    class Meta(AudioUploadSerializer.Meta):
        fields = (*AudioUploadSerializer.Meta.fields, "files_ahead")

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_files_ahead(self, upload: AudioUpload) -> int | None:
        return files_ahead(upload)


class ListedUploadSerializer(AudioUploadSerializer):
    """A file in a list, without ``metadata``, which can be larger than all other fields of a page."""

    class Meta(AudioUploadSerializer.Meta):
        fields = tuple(name for name in AudioUploadSerializer.Meta.fields if name != "metadata")
        read_only_fields = tuple(name for name in AudioUploadSerializer.Meta.read_only_fields if name != "metadata")


class UploadFormSerializer(serializers.Serializer[Any]):
    """A file sent as a form. Documentation only: the view reads the form as it arrives."""

    workspace = serializers.CharField(required=False, help_text="Id or slug; in front of the file.")
    thumbnail = serializers.FileField(required=False, help_text="JPEG, PNG or WebP, at most 4096 x 4096.")
    file = serializers.FileField(help_text="The last part.")


class UploadEventSerializer(serializers.ModelSerializer[UploadEvent]):
    actor = serializers.SerializerMethodField(help_text="The user's name; empty for AudioTricks itself.")
    from_status = serializers.ChoiceField(Status.choices, allow_blank=True, read_only=True)
    to_status = serializers.ChoiceField(Status.choices, allow_blank=True, read_only=True)
    details = serializers.SerializerMethodField(help_text="Viewers are not shown where objects lie.")

    class Meta:
        model = UploadEvent
        fields = (
            "id",
            "upload_id",
            "action",
            "from_status",
            "to_status",
            "actor",
            "right",
            "reason",
            "details",
            "created_at",
        )

    def get_details(self, event: UploadEvent) -> dict[str, Any]:
        details: dict[str, Any] = event.details
        if shows_inside(self.context, event.workspace_id):
            return details
        public = PUBLIC_DETAILS | PUBLIC_DETAILS_OF.get(event.action, frozenset())
        return {name: value for name, value in details.items() if name in public}

    @extend_schema_field(serializers.CharField())
    def get_actor(self, event: UploadEvent) -> str:
        return event.actor.get_username() if event.actor else ""


class PreflightFileSerializer(serializers.Serializer[Any]):
    filename = serializers.CharField(max_length=1000, trim_whitespace=False)
    size = serializers.IntegerField(min_value=0, max_value=2**62, help_text="Bytes.")
    sha256 = serializers.RegexField(SHA256_PATTERN, required=False)


class PreflightSerializer(serializers.Serializer[Any]):
    workspace = serializers.CharField(required=False, help_text="Id or slug; yours, if left out.")
    files: serializers.ListSerializer[Any] = serializers.ListSerializer(
        child=PreflightFileSerializer(), allow_empty=False, max_length=1000
    )


class PreflightAnswerSerializer(serializers.Serializer[Any]):
    filename = serializers.CharField()
    verdict = serializers.ChoiceField(choices=["accept", "duplicate", "in_trash", "refused"])
    code = serializers.CharField(required=False, help_text="Why it would be refused: a code of the catalogue.")
    detail = serializers.CharField(required=False)
    upload = serializers.UUIDField(required=False, help_text="The file that is there already.")


class StorageStatsSerializer(serializers.Serializer[Any]):
    class DiskSerializer(serializers.Serializer[Any]):
        total_bytes = serializers.IntegerField()
        used_bytes = serializers.IntegerField()
        free_bytes = serializers.IntegerField()

    storage = serializers.CharField(help_text="The alias that new files go to.")
    disk = DiskSerializer(allow_null=True, help_text="Null where the storage knows no limit.")
    file_count = serializers.IntegerField(help_text="Rows that quotas count.")
    total_bytes = serializers.IntegerField(help_text="Their bytes.")
    object_count = serializers.IntegerField(help_text="Objects behind them: duplicates share one.")
    object_bytes = serializers.IntegerField()
    trash_count = serializers.IntegerField()
    trash_bytes = serializers.IntegerField()

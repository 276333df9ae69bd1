from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from uploads.filenames import check_new_name
from uploads.formats import UnsupportedFormat
from uploads.models import AudioUpload, UploadEvent

SHA256_PATTERN = r"^[0-9a-fA-F]{64}$"


class AudioUploadSerializer(serializers.ModelSerializer[AudioUpload]):
    """Every column of the row. Only the name can be changed; everything else is ours to say."""

    encryption_key_id = serializers.UUIDField(read_only=True, allow_null=True)

    class Meta:
        model = AudioUpload
        exclude: tuple[str, ...] = ("encryption_key", "folded_filename", "reservation")
        read_only_fields = tuple(
            field.name
            for field in AudioUpload._meta.concrete_fields
            if field.name not in ("original_filename", "folded_filename", "encryption_key", "reservation")
        )

    def validate_original_filename(self, value: str) -> str:
        assert self.instance is not None
        try:
            return check_new_name(value, extension=self.instance.file_type)
        except UnsupportedFormat as error:
            raise serializers.ValidationError(error.detail) from error


class ListedUploadSerializer(AudioUploadSerializer):
    """A file in a list: without ``metadata``, which may be as large as everything else of a page together."""

    class Meta(AudioUploadSerializer.Meta):
        exclude = (*AudioUploadSerializer.Meta.exclude, "metadata")
        read_only_fields = tuple(name for name in AudioUploadSerializer.Meta.read_only_fields if name != "metadata")


class UploadFormSerializer(serializers.Serializer[Any]):
    """How a file is sent as a form; the view reads it as it arrives, so this only describes it."""

    workspace = serializers.CharField(required=False, help_text="Id or slug; in front of the file.")
    thumbnail = serializers.FileField(required=False, help_text="JPEG, PNG or WebP, at most 4096 x 4096.")
    file = serializers.FileField(help_text="The last part.")


class UploadEventSerializer(serializers.ModelSerializer[UploadEvent]):
    actor = serializers.SerializerMethodField(help_text="The user's name; empty for AudioTricks itself.")

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

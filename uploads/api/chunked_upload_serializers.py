from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from uploads.api.direct_upload_serializers import MAX_FILE_BYTES
from uploads.api.serializers import SHA256_PATTERN, AudioUploadSerializer
from uploads.intake.sessions.chunks import ChunkProgress, arrived_chunks
from uploads.models import UploadSession


class ChunkedUploadRequestSerializer(serializers.Serializer[Any]):
    filename = serializers.CharField(max_length=1000, trim_whitespace=False)
    file_size = serializers.IntegerField(min_value=0, max_value=MAX_FILE_BYTES, help_text="Bytes.")
    chunk_size = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=MAX_FILE_BYTES,
        help_text="Bytes of each chunk but the last. The answer may name another size: use that one.",
    )
    workspace = serializers.CharField(required=False, help_text="Id or slug; yours, if left out.")
    sha256 = serializers.RegexField(
        SHA256_PATTERN, required=False, help_text="Of the whole file, hexadecimal. Another file is refused at the end."
    )


class ChunkedUploadSerializer(serializers.ModelSerializer[UploadSession]):
    total_chunks = serializers.IntegerField(source="total_parts", read_only=True)
    chunk_size = serializers.IntegerField(
        source="part_bytes", read_only=True, help_text="Bytes; the last has the rest."
    )
    status = serializers.SerializerMethodField()
    chunks = serializers.SerializerMethodField(help_text="The indexes that have arrived; the first one is 0.")
    received = serializers.IntegerField(source="received_bytes", read_only=True, help_text="Bytes.")
    progress = serializers.SerializerMethodField(help_text="From 0 to 1.")
    upload = serializers.UUIDField(source="upload_id", read_only=True, help_text="The id of the file, or `null`.")

    class Meta:
        model = UploadSession
        fields = (
            *("id", "total_chunks", "chunk_size", "status", "chunks", "received", "progress", "upload", "expires_at"),
        )

    @extend_schema_field(serializers.ChoiceField(choices=["initiated", "receiving", "completed"]))
    def get_status(self, session: UploadSession) -> str:
        if session.state == UploadSession.State.COMPLETED:
            return "completed"
        return "receiving" if session.received_bytes else "initiated"

    @extend_schema_field(serializers.ListField(child=serializers.IntegerField()))
    def get_chunks(self, session: UploadSession) -> list[int]:
        return arrived_chunks(session)

    @extend_schema_field(serializers.FloatField())
    def get_progress(self, session: UploadSession) -> float:
        return session.received_bytes / session.size_bytes if session.size_bytes else 1.0


class ChunkProgressSerializer(serializers.Serializer[ChunkProgress]):
    chunk_index = serializers.IntegerField(source="index")
    completed = serializers.IntegerField(help_text="How many chunks have arrived.")
    total = serializers.IntegerField()
    progress = serializers.SerializerMethodField(help_text="From 0 to 1.")
    upload = AudioUploadSerializer(required=False, help_text="The file, with the last chunk.")

    @extend_schema_field(serializers.FloatField())
    def get_progress(self, progress: ChunkProgress) -> float:
        return progress.completed / progress.total

    def to_representation(self, progress: ChunkProgress) -> dict[str, Any]:
        shown = super().to_representation(progress)
        if progress.upload is None:
            del shown["upload"]
        return shown

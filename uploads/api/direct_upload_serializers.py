from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from uploads.api.serializers import SHA256_PATTERN
from uploads.models import Status, UploadSession

MAX_FILE_BYTES = 2**62
MD5_PATTERN = r"^[0-9a-fA-F]{32}$"


class DirectUploadRequestSerializer(serializers.Serializer[Any]):
    """The file that a client will send."""

    filename = serializers.CharField(max_length=1000, trim_whitespace=False)
    file_size = serializers.IntegerField(
        min_value=0, max_value=MAX_FILE_BYTES, help_text="Bytes; exactly so many must come."
    )
    workspace = serializers.CharField(required=False, help_text="Id or slug; yours, if left out.")
    sha256 = serializers.RegexField(
        SHA256_PATTERN, required=False, help_text="Hexadecimal. The file fails later if it is another."
    )
    md5 = serializers.RegexField(
        MD5_PATTERN, required=False, help_text="Hexadecimal. Compared with the provider's, where it has one."
    )


class SentPartSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(min_value=1, max_value=10_000)
    etag = serializers.CharField(max_length=200, help_text="The `ETag` of the answer to this part.")


class CompletionSerializer(serializers.Serializer[Any]):
    """Optional facts about what the client sent."""

    parts = serializers.ListField(
        child=SentPartSerializer(),
        required=False,
        max_length=10_000,
        help_text="Of `parts` only: the file is made of exactly these. Needed where a part was sent twice with "
        "different bytes.",
    )


class SignedRequestSerializer(serializers.Serializer[Any]):
    number = serializers.IntegerField(help_text="From 1 on, in the order of the bytes.")
    method = serializers.CharField()
    url = serializers.CharField(help_text="It is as good as a password until the session ends.")
    headers = serializers.DictField(
        child=serializers.CharField(), help_text="To be sent exactly so; beside them only what HTTP itself needs."
    )
    first_byte = serializers.IntegerField(source="start", help_text="Where in the file the body begins.")
    size = serializers.IntegerField(help_text="How many bytes of the file are the body.")
    content_md5 = serializers.BooleanField(
        source="takes_md5",
        help_text="Whether `Content-MD5` of the body (base64) may be sent too. The storage then compares it; a bucket "
        "that locks new objects refuses a part without.",
    )


class DirectUploadSerializer(serializers.ModelSerializer[UploadSession]):
    """An upload straight to the storage, with the ``requests`` that the client still has to send."""

    upload = serializers.UUIDField(source="upload_id", read_only=True, help_text="The id that the file will have.")
    status = serializers.SerializerMethodField(help_text="`completed` when the file has arrived.")
    method = serializers.ChoiceField(
        choices=UploadSession.Method.values,
        read_only=True,
        help_text="`parts`: each request one part, in any order or at once. `session`: a resumable session of the "
        "provider. `staged`: one place for the whole file.",
    )
    part_size = serializers.SerializerMethodField(help_text="Bytes; the last part has the rest.")
    requests = serializers.SerializerMethodField(help_text="What is still to be sent, to the storage itself.")
    expires_at = serializers.DateTimeField(
        read_only=True, help_text="When it is taken back; of a completed one, until when it can be asked for."
    )

    class Meta:
        model = UploadSession
        fields = ("id", "upload", "status", "method", "part_size", "requests", "expires_at")

    @extend_schema_field(serializers.ChoiceField(choices=["receiving", "completed"]))
    def get_status(self, session: UploadSession) -> str:
        return "receiving" if session.file.status == Status.RECEIVING else "completed"

    @extend_schema_field(serializers.IntegerField())
    def get_part_size(self, session: UploadSession) -> int:
        return session.part_bytes or session.file.file_size

    @extend_schema_field(SignedRequestSerializer(many=True))
    def get_requests(self, session: UploadSession) -> Any:
        return SignedRequestSerializer(self.context["requests"], many=True).data

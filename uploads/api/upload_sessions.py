"""What a user has not finished sending, by whatever protocol."""

import base64
from collections.abc import Sequence
from itertools import groupby

from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers
from rest_framework.mixins import ListModelMixin
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from audiotricks.web.users import user_of
from uploads.intake.sessions.find import not_expired
from uploads.models import UploadPart, UploadSession

#: Where each kind goes on: the name of its URL.
WAYS = {
    UploadSession.Kind.TUS: "tus-upload",
    UploadSession.Kind.CHUNKS: "chunked-upload-detail",
    UploadSession.Kind.DIRECT: "direct-upload-detail",
}


class UploadSessionSerializer(serializers.ModelSerializer[UploadSession]):
    filename = serializers.SerializerMethodField(help_text="Empty for a part of a file that is sent in several.")
    workspace = serializers.UUIDField(source="workspace_id", read_only=True)
    size = serializers.IntegerField(source="size_bytes", read_only=True, help_text="Bytes; `null`: not known yet.")
    received = serializers.SerializerMethodField(help_text="Bytes; `null` where only the storage knows.")
    url = serializers.SerializerMethodField(help_text="Where to go on: HEAD it for `tus`, else GET it.")
    chunk_size = serializers.SerializerMethodField(help_text="Bytes; of `chunks` only.")
    total_chunks = serializers.SerializerMethodField(help_text="Of `chunks` only.")
    chunks_arrived = serializers.SerializerMethodField(help_text="Indexes and their ranges, as `0-4,7`.")
    last_modified = serializers.SerializerMethodField(help_text="Of the file, as its client told it.")

    class Meta:
        model = UploadSession
        fields = (
            *("id", "kind", "filename", "workspace", "size", "received", "is_partial", "created_at", "expires_at"),
            *("url", "chunk_size", "total_chunks", "chunks_arrived", "last_modified"),
        )

    def get_filename(self, session: UploadSession) -> str:
        return session.upload.original_filename if session.upload else ""

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_received(self, session: UploadSession) -> int | None:
        return None if session.kind == UploadSession.Kind.DIRECT else session.received_bytes

    @extend_schema_field(serializers.URLField())
    def get_url(self, session: UploadSession) -> str:
        return reverse(WAYS[UploadSession.Kind(session.kind)], args=[session.pk], request=self.context["request"])

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_chunk_size(self, session: UploadSession) -> int | None:
        return session.part_bytes if session.kind == UploadSession.Kind.CHUNKS else None

    @extend_schema_field(serializers.IntegerField(allow_null=True))
    def get_total_chunks(self, session: UploadSession) -> int | None:
        return session.total_parts if session.kind == UploadSession.Kind.CHUNKS else None

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_chunks_arrived(self, session: UploadSession) -> str | None:
        if session.kind != UploadSession.Kind.CHUNKS:
            return None
        return ranges([part.number - 1 for part in session.parts.all()])

    def get_last_modified(self, session: UploadSession) -> str:
        return base64.b64decode(dict(session.client_metadata).get("lastmodified", "")).decode(errors="replace")


def ranges(indexes: Sequence[int]) -> str:
    """``0-4,7`` for sorted indexes."""
    runs = [[index for _, index in run] for _, run in groupby(enumerate(indexes), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@extend_schema_view(
    list=extend_schema(
        summary="Your unfinished uploads",
        description="Yours alone, by whatever protocol you began them, with what has arrived and where to go on.",
    )
)
class UploadSessionViewSet(ListModelMixin, GenericViewSet[UploadSession]):
    serializer_class = UploadSessionSerializer
    queryset = UploadSession.objects.none()
    filterset_class = None
    cursor_ordering = ("-created_at", "-id")

    def get_queryset(self) -> QuerySet[UploadSession]:
        arrived = Prefetch("parts", UploadPart.objects.stored().only("session_id", "number"))
        unfinished = UploadSession.objects.of(user_of(self.request)).open().filter(not_expired())
        return unfinished.select_related("upload").prefetch_related(arrived)

"""REST: serializer in, one service call, response out."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from audiotricks.api.idempotency import IdempotentPostMixin, answer_once
from audiotricks.web.streaming import streams
from audiotricks.web.users import user_of
from quotas.rights import Right
from quotas.workspaces import workspace_for
from uploads.api.chunked_upload_serializers import (
    ChunkedUploadRequestSerializer,
    ChunkedUploadSerializer,
    ChunkProgressSerializer,
)
from uploads.intake.http.bodies import RequestBody, content_digests, content_length
from uploads.intake.sessions.chunks import begin_chunks, store_chunk
from uploads.intake.sessions.complete import end_session
from uploads.intake.sessions.find import session_for
from uploads.models import UploadSession

Keep = Callable[[Response], None]
KIND = UploadSession.Kind.CHUNKS


@extend_schema_view(
    create=extend_schema(
        summary="Begin to send a file in numbered chunks",
        description="Room for the whole file is reserved until `expires_at`, which each chunk puts off. PUT every "
        "chunk to `chunks/{index}/`, from 0 on, in any order or in parallel. `chunk_size` of the answer counts.",
        request=ChunkedUploadRequestSerializer,
        responses={201: ChunkedUploadSerializer, 404: None, 507: None},
    ),
    retrieve=extend_schema(summary="Which chunks have arrived", responses={200: ChunkedUploadSerializer, 410: None}),
    destroy=extend_schema(
        summary="Give a chunked upload up",
        description="What was sent is removed and its room given back. 409 for a file that has arrived already.",
        responses={204: None, 410: None, 423: None},
    ),
    chunk=extend_schema(
        summary="Send one chunk",
        description="The last one that is missing makes the file and carries it as `upload`. A chunk that has arrived "
        "may be sent again: nothing changes. 409 `chunk_busy` while the same chunk is being sent by somebody else.",
        parameters=[
            OpenApiParameter(
                "Content-Digest",
                str,
                OpenApiParameter.HEADER,
                description="`sha-256=:BASE64:` or `sha-512=:BASE64:` of the chunk, or both; 422 if it has another.",
            )
        ],
        request={"application/octet-stream": {"type": "string", "format": "binary"}},
        responses={200: ChunkProgressSerializer, 410: None, 423: None, 507: None},
    ),
)
class ChunkedUploadViewSet(IdempotentPostMixin, GenericViewSet[UploadSession]):
    serializer_class = ChunkedUploadSerializer
    lookup_value_converter = "uuid"
    # It asks the storage, and no transaction may be open meanwhile.
    actions_with_own_transaction = frozenset({"create"})
    queryset = UploadSession.objects.none()
    pagination_class = None
    filterset_class = None

    def get_object(self) -> UploadSession:
        to_end = self.action == "destroy"
        return session_for(user_of(self.request), KIND, self.kwargs["pk"], to_end=to_end)

    def create(self, request: Request) -> Response:
        serializer = ChunkedUploadRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked: dict[str, Any] = serializer.validated_data
        workspace = workspace_for(request.user, asked.get("workspace"), right=Right.ADD_FILES)
        answers: list[Response] = []

        def begin(keep: Keep) -> Response:
            def on_begun(session: UploadSession) -> None:
                location = reverse("chunked-upload-detail", args=[session.pk], request=request)
                body = self.get_serializer(session).data
                answers.append(Response(body, status=status.HTTP_201_CREATED, headers={"Location": location}))
                keep(answers[0])

            begin_chunks(
                workspace=workspace,
                owner=user_of(request),
                filename=asked["filename"],
                size_bytes=asked["file_size"],
                sha256=asked.get("sha256", "").lower(),
                chunk_size=asked.get("chunk_size"),
                on_begun=on_begun,
            )
            return answers[0]

        return answer_once(request, begin)

    def retrieve(self, request: Request, pk: UUID) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    def destroy(self, request: Request, pk: UUID) -> Response:
        end_session(self.get_object(), "upload_terminated")
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["put"], url_path="chunks/<int:index>", parser_classes=[])
    @streams
    def chunk(self, request: Request, pk: UUID, index: int) -> Response:
        length = content_length(request._request)
        progress = store_chunk(
            self.get_object(),
            index,
            RequestBody(request._request, length),
            length=length,
            digests=content_digests(request.headers.get("Content-Digest")),
            actor=user_of(request),
        )
        return Response(ChunkProgressSerializer(progress, context=self.get_serializer_context()).data)

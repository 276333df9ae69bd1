from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from audiotricks.api.idempotency import REPLAYED_HEADER, IdempotentPostMixin, answer_once
from audiotricks.errors import NotFound
from audiotricks.web.users import user_of
from objectstore.capabilities import SignedRequest
from quotas.rights import Right, require_right
from quotas.workspaces import workspace_for
from uploads.api.direct_upload_serializers import (
    CompletionSerializer,
    DirectUploadRequestSerializer,
    DirectUploadSerializer,
)
from uploads.api.serializers import AudioUploadSerializer
from uploads.intake.sessions.direct import (
    abort_direct_upload,
    begin_direct_upload,
    complete_direct_upload,
    requests_left,
)
from uploads.models import AudioUpload, UploadSession

Keep = Callable[[Response], None]

ASKED = OpenApiExample(
    "A recording of 12 MB", {"filename": "interview.wav", "file_size": 12_000_000}, request_only=True
)
BEGUN = OpenApiExample(
    "In two parts",
    {
        "id": "6b0c2c39-3a5e-4c0f-8d5e-6a1f0f0f7e11",
        "upload": "0d9f7c52-7a53-4a55-9f0a-0d8f3f3f7d11",
        "status": "receiving",
        "method": "parts",
        "part_size": 8_388_608,
        "requests": [
            {
                "number": number,
                "method": "PUT",
                "url": f"https://bucket.example/audio/0d9f7c52/audio.wav?partNumber={number}&X-Amz-Signature=...",
                "headers": {},
                "first_byte": first_byte,
                "size": size,
                "content_md5": True,
            }
            for number, first_byte, size in ((1, 0, 8_388_608), (2, 8_388_608, 3_611_392))
        ],
        "expires_at": "2026-01-02T03:04:05Z",
    },
    response_only=True,
)


@extend_schema_view(
    create=extend_schema(
        summary="Begin to send a file to the bucket itself",
        description="Room for the whole file is reserved until `expires_at`. Send `requests` to the storage as they "
        "are, each with its bytes of the file, then POST `complete/`. 409 `direct_upload_unsupported` where the "
        "storage takes no bytes but through `uploads/`.",
        request=DirectUploadRequestSerializer,
        responses={201: DirectUploadSerializer, 404: None},
        examples=[ASKED, BEGUN],
    ),
    retrieve=extend_schema(
        summary="What is still to be sent, with fresh addresses", responses={200: DirectUploadSerializer, 409: None}
    ),
    destroy=extend_schema(
        summary="Give up",
        description="What was sent is removed and its room given back. 409 for a file that has arrived already.",
        responses={204: None},
    ),
    complete=extend_schema(
        summary="Everything was sent: make it a file",
        description="201 with the file, as `uploads/` answers it; asked again, 200 with the same one. "
        "409 `direct_upload_incomplete`: send what is missing, then ask again. When the content is not what was "
        "announced (415, 422), nothing is left of it.",
        request=CompletionSerializer,
        responses={200: AudioUploadSerializer, 201: AudioUploadSerializer, 413: None, 415: None, 422: None},
    ),
)
class DirectUploadViewSet(IdempotentPostMixin, GenericViewSet[UploadSession]):
    """For users who may add files: the URLs suffice to write."""

    serializer_class = DirectUploadSerializer
    lookup_value_converter = "uuid"
    # Both send requests to the storage, which no transaction may wait for.
    actions_with_own_transaction = frozenset({"create", "complete"})
    queryset = UploadSession.objects.none()
    pagination_class = None
    filterset_class = None

    def get_object(self) -> UploadSession:
        sessions = UploadSession.objects.select_related(
            "workspace", "upload__workspace", "upload__reservation"
        ).direct()
        session = sessions.visible_to(self.request.user).filter(pk=self.kwargs["pk"]).first()
        if session is None:
            raise NotFound
        require_right(self.request.user, Right.ADD_FILES, session.workspace_id)
        return session

    def described(self, session: UploadSession, requests: Sequence[SignedRequest]) -> Any:
        return DirectUploadSerializer(session, context={"requests": requests}).data

    def create(self, request: Request) -> Response:
        serializer = DirectUploadRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = serializer.validated_data
        workspace = workspace_for(request.user, asked.get("workspace"), right=Right.ADD_FILES)

        answers: list[Response] = []

        def begin(keep: Keep) -> Response:
            def on_begun(session: UploadSession, requests: Sequence[SignedRequest]) -> None:
                location = reverse("direct-upload-detail", args=[session.pk], request=request)
                # A signed URL is a secret: it is not stored, but signed again.
                for shown in ([], requests):
                    body = self.described(session, shown)
                    answers.append(Response(body, status=status.HTTP_201_CREATED, headers={"Location": location}))
                keep(answers[0])

            begin_direct_upload(
                asked["filename"],
                size_bytes=asked["file_size"],
                workspace=workspace,
                owner=user_of(request),
                sha256=asked.get("sha256", "").lower(),
                md5=asked.get("md5", "").lower(),
                origin=request.headers.get("Origin", ""),
                on_begun=on_begun,
            )
            return answers[1]

        answer = answer_once(request, begin)
        if REPLAYED_HEADER in answer.headers:
            answer.data = self.signed_anew(answer.data)
        return answer

    def signed_anew(self, stored: Any) -> Any:
        """Raises NotFound for an upload that has ended."""
        self.kwargs["pk"] = stored["id"]
        session = self.get_object()
        return self.described(session, requests_left(session))

    def retrieve(self, request: Request, pk: UUID) -> Response:
        session = self.get_object()
        return Response(self.described(session, requests_left(session)))

    def destroy(self, request: Request, pk: UUID) -> Response:
        abort_direct_upload(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @action(detail=True, methods=["post"])
    def complete(self, request: Request, pk: UUID) -> Response:
        session = self.get_object()
        serializer = CompletionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        etags = {part["number"]: part["etag"] for part in serializer.validated_data.get("parts", ())}

        answers: list[Response] = []

        def finish(keep: Keep) -> Response:
            def answer(upload: AudioUpload, code: int) -> None:
                location = reverse("upload-detail", args=[upload.pk], request=request)
                headers = {"Location": location, "Content-Location": location}
                body = AudioUploadSerializer(upload, context=self.get_serializer_context()).data
                answers.append(Response(body, status=code, headers=headers))
                keep(answers[-1])

            upload, is_new = complete_direct_upload(
                session,
                actor=user_of(request),
                etags=etags,
                on_stored=lambda stored: answer(stored, status.HTTP_201_CREATED),
            )
            if not is_new:
                answer(upload, status.HTTP_200_OK)
            return answers[-1]

        return answer_once(request, finish)

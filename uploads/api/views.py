from collections.abc import Callable
from typing import Any
from uuid import UUID

import django_filters
from django.db.models import QuerySet
from django.http.response import HttpResponseBase
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet, ViewSet

from accounts.authentication import TokenAuthentication
from audiotricks.api.idempotency import IdempotentPostMixin
from audiotricks.api.views import CursorPagination
from audiotricks.errors import NotFound
from audiotricks.web.streaming import streams
from audiotricks.web.users import user_of
from media.inspection import reencode_image
from quotas.reservations import ensure_quota
from quotas.rights import Right, require_permission, require_right
from quotas.workspaces import workspace_for
from uploads.actions.base import BulkFileAction, FileAction
from uploads.actions.edits import REMOVE_THUMBNAIL, RENAME, SET_THUMBNAIL
from uploads.actions.trash import DELETE, PURGE
from uploads.api.negotiation import OneTypeOnly
from uploads.api.posting import StreamSessionAuthentication, post_upload
from uploads.api.serializers import (
    AudioUploadSerializer,
    DetailedUploadSerializer,
    ListedUploadSerializer,
    PreflightAnswerSerializer,
    PreflightSerializer,
    StorageStatsSerializer,
    UploadEventSerializer,
    UploadFormSerializer,
)
from uploads.intake.http.bodies import MAX_THUMBNAIL_BYTES, FieldTooLarge, content_length, size_in_words
from uploads.intake.preflight import preflight
from uploads.lifecycle.transitions import TransitionRefused
from uploads.models import AudioUpload, AudioUploadQuerySet, Status, UploadEvent
from uploads.models.states import WITHOUT_OBJECT
from uploads.serving.content import content_response, thumbnail_response
from uploads.upkeep.usage import storage_stats

BINARY = OpenApiResponse(OpenApiTypes.BINARY)


class UploadFilter(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(
        choices=[(state.value, state.label) for state in Status if state not in WITHOUT_OBJECT],
        help_text="`deleted` lists the trash, which is left out otherwise.",
    )
    workspace = django_filters.CharFilter(method="in_workspace", help_text="Id or slug.")
    file_type = django_filters.CharFilter()
    checksum_sha256 = django_filters.CharFilter(method="with_sha256")
    q = django_filters.CharFilter(method="with_name", label="Part of the name")

    class Meta:
        model = AudioUpload
        fields: list[str] = []

    def in_workspace(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.in_workspace(workspace_for(self.request.user, value, right=Right.VIEW_FILES))

    def with_name(self, queryset: Any, name: str, value: str) -> Any:
        return queryset.named(value)

    def with_sha256(self, queryset: Any, name: str, value: str) -> Any:
        # Stored in lower case; an index finds only the same text.
        return queryset.filter(checksum_sha256=value.lower())


class UploadPagination(CursorPagination):
    def first_rows(self, queryset: Any, count: int, request: Request) -> Any:
        return queryset.first_for(request.user, count)


@extend_schema_view(
    list=extend_schema(
        summary="The files you can see, newest first",
        description="Without `metadata`: ask for one file to see its tags.",
        responses={200: ListedUploadSerializer(many=True), 404: None},
    ),
    retrieve=extend_schema(summary="One file, in the trash too"),
    partial_update=extend_schema(summary="Rename"),
)
class UploadViewSet(
    IdempotentPostMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    GenericViewSet[AudioUpload],
):
    serializer_class = AudioUploadSerializer
    filterset_class = UploadFilter
    pagination_class = UploadPagination
    cursor_ordering = ("-uploaded_at", "-id")
    lookup_value_converter = "uuid"
    actions_with_own_transaction = frozenset({"create"})
    actions_that_only_ask = frozenset({"preflight"})
    queryset = AudioUpload.objects.none()

    def get_authenticators(self) -> list[BaseAuthentication]:
        # Called before the router has set the action.
        if self.request is not None and self.action_map.get(str(self.request.method).lower()) == "create":
            return [TokenAuthentication(), StreamSessionAuthentication()]
        return super().get_authenticators()

    def get_serializer_class(self) -> type[AudioUploadSerializer]:
        special: dict[str, type[AudioUploadSerializer]] = {
            "list": ListedUploadSerializer,
            "retrieve": DetailedUploadSerializer,
            "partial_update": DetailedUploadSerializer,
        }
        return special.get(self.action, AudioUploadSerializer)

    def get_queryset(self) -> AudioUploadQuerySet:
        uploads = AudioUpload.objects.visible_to(self.request.user)
        if self.action != "list":
            return uploads
        uploads = uploads.defer("metadata")
        return uploads if self.request.query_params.get("status") else uploads.listed()

    def get_object(self) -> AudioUpload:
        try:
            return self.get_queryset().select_related("workspace").get(pk=self.kwargs["pk"])
        except AudioUpload.DoesNotExist:
            raise NotFound from None

    def upload_for(self, action: FileAction) -> AudioUpload:
        """Raises NotFound, PermissionDenied."""
        upload = self.get_object()
        require_right(self.request.user, action.right, upload.workspace_id)
        return upload

    def upload_at_hand(self, action: FileAction) -> AudioUpload:
        """Also raises TransitionRefused for a file in the trash."""
        upload = self.upload_for(action)
        if upload.status == Status.DELETED:
            raise TransitionRefused(_("The file is in the trash: take it out first."), state=upload.status, allowed=[])
        return upload

    def answer(self, upload: AudioUpload, **kwargs: Any) -> Response:
        return Response(self.get_serializer(upload).data, **kwargs)

    @extend_schema(
        summary="Upload a file",
        description="As a form, or as the raw body with its name in Content-Disposition. `Repr-Digest: sha-256=:…:` "
        "is compared with what arrived.",
        request={"multipart/form-data": UploadFormSerializer, "application/octet-stream": OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter("Content-Disposition", str, OpenApiParameter.HEADER),
            OpenApiParameter("Repr-Digest", str, OpenApiParameter.HEADER),
            OpenApiParameter("workspace", str, description="Id or slug, for a raw body; yours, if left out."),
        ],
        responses={201: AudioUploadSerializer, 404: None, 507: None},
    )
    @streams
    def create(self, request: Request) -> Response:
        return post_upload(request, describe=lambda upload: self.get_serializer(upload).data)

    def partial_update(self, request: Request, pk: UUID) -> Response:
        upload = self.upload_for(RENAME)
        serializer = self.get_serializer(upload, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        if name := serializer.validated_data.get("original_filename"):
            RENAME.run(upload, actor=user_of(request), name=name)
        return self.answer(upload)

    @extend_schema(
        summary="Move to the trash, or, from the trash, remove for good",
        parameters=[OpenApiParameter("permanently", bool, description="Owners only, and only from the trash.")],
        responses={204: None},
    )
    def destroy(self, request: Request, pk: UUID) -> Response:
        if request.query_params.get("permanently", "").lower() in ("true", "1", "yes"):
            PURGE.run(self.upload_for(PURGE), actor=user_of(request))
        else:
            DELETE.run(self.upload_at_hand(DELETE), actor=user_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="The bytes",
        parameters=[
            OpenApiParameter("Range", str, OpenApiParameter.HEADER, description="One range: bytes=first-last"),
            OpenApiParameter("If-Range", str, OpenApiParameter.HEADER, description="The ETag that the range is of."),
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER),
            OpenApiParameter("If-Match", str, OpenApiParameter.HEADER),
            OpenApiParameter("download", bool, description="Save, rather than play."),
            OpenApiParameter(
                "redirect",
                bool,
                description="`false`: the bytes come from here, never by a redirect to the bucket. For clients that "
                "send their token along, for which a bucket refuses them.",
            ),
        ],
        responses={
            **{(code, "audio/*"): BINARY for code in (200, 206)},
            302: OpenApiResponse(description="Where the storage itself gives the bytes, for a while."),
            304: OpenApiResponse(description="What you have is the file."),
            412: None,
            416: None,
            409: None,
        },
    )
    @action(detail=True, methods=["get", "head"], content_negotiation_class=OneTypeOnly)
    def content(self, request: Request, pk: UUID) -> HttpResponseBase:
        return content_response(request._request, self.get_object())

    @extend_schema(summary="The picture", responses={(200, "image/*"): BINARY})
    @action(detail=True, methods=["get"], content_negotiation_class=OneTypeOnly)
    def thumbnail(self, request: Request, pk: UUID) -> HttpResponseBase:
        return thumbnail_response(request._request, self.get_object())

    @extend_schema(summary="Set the picture", request={"image/*": OpenApiTypes.BINARY}, responses=AudioUploadSerializer)
    @thumbnail.mapping.put
    @streams
    def put_thumbnail(self, request: Request, pk: UUID) -> Response:
        upload = self.upload_at_hand(SET_THUMBNAIL)
        size = content_length(request._request)
        if size > MAX_THUMBNAIL_BYTES:
            detail = format_lazy(_("A picture may have {size} at most."), size=size_in_words(MAX_THUMBNAIL_BYTES))
            raise FieldTooLarge(detail, maximum=MAX_THUMBNAIL_BYTES)
        image = reencode_image(request._request.read(size))
        SET_THUMBNAIL.run(upload, actor=user_of(request), image=image)
        return self.answer(upload)

    @extend_schema(summary="Remove the picture", responses={204: None})
    @thumbnail.mapping.delete
    def delete_thumbnail(self, request: Request, pk: UUID) -> Response:
        upload = self.upload_at_hand(REMOVE_THUMBNAIL)
        REMOVE_THUMBNAIL.run(upload, actor=user_of(request))
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(
        summary="What would happen to these files",
        request=PreflightSerializer,
        responses={200: PreflightAnswerSerializer(many=True), 404: None},
    )
    @action(detail=False, methods=["post"], pagination_class=None, filterset_class=None)
    def preflight(self, request: Request) -> Response:
        serializer = PreflightSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = serializer.validated_data.get("workspace")
        workspace = workspace_for(request.user, asked, right=Right.ADD_FILES)
        answers = preflight(workspace, ensure_quota(workspace), serializer.validated_data["files"])
        return Response(PreflightAnswerSerializer(answers, many=True).data)


def endpoint_of(file_action: BulkFileAction) -> Callable[..., Response]:
    """``POST uploads/{id}/{name}/``."""

    def act(self: UploadViewSet, request: Request, pk: UUID) -> Response:
        upload = self.upload_for(file_action)
        file_action.run(upload, actor=user_of(request))
        return self.answer(upload)

    # The router names an endpoint after its function.
    act.__name__ = file_action.name
    responses = {200: AudioUploadSerializer, **dict.fromkeys(file_action.api_errors)}
    documented = extend_schema(summary=file_action.api_summary, request=None, responses=responses)
    return documented(action(detail=True, methods=["post"])(act))


@extend_schema_view(list=extend_schema(summary="What happened to the file, oldest first"))
class UploadEventViewSet(mixins.ListModelMixin, GenericViewSet[UploadEvent]):
    serializer_class = UploadEventSerializer
    cursor_ordering = ("id",)
    queryset = UploadEvent.objects.none()

    def get_queryset(self) -> QuerySet[UploadEvent]:
        if not AudioUpload.objects.visible_to(self.request.user).filter(pk=self.kwargs["pk"]).exists():
            raise NotFound
        return UploadEvent.objects.filter(upload_id=self.kwargs["pk"]).select_related("actor")


class StorageStatsViewSet(ViewSet):
    """Requires the permission to view every file."""

    @extend_schema(summary="What the storage holds", responses=StorageStatsSerializer)
    def retrieve(self, request: Request) -> Response:
        require_permission(user_of(request), Right.VIEW_STORAGE)
        return Response(StorageStatsSerializer(storage_stats()).data)

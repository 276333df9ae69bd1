"""Workspaces, their members and quotas over the API. Another's workspace is a 404 on every path and verb."""

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from audiotricks.api.idempotency import IdempotentPostMixin
from audiotricks.errors import Invalid, NotFound
from quotas import workspaces
from quotas.api.serializers import (
    MembershipSerializer,
    NewMembershipSerializer,
    NewWorkspaceSerializer,
    QuotaChangesSerializer,
    QuotaSerializer,
    RoleSerializer,
    WorkspaceChangesSerializer,
    WorkspaceSerializer,
)
from quotas.models import Membership, Workspace
from quotas.reservations import change_quota, ensure_quota
from quotas.rights import Right, Role, require_right
from quotas.workspaces import find_workspace


def checked(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values


class WorkspaceViewSet(IdempotentPostMixin, ListModelMixin, GenericViewSet[Workspace]):
    serializer_class = WorkspaceSerializer
    lookup_value_converter = "uuid"

    def get_queryset(self) -> QuerySet[Workspace]:
        user = self.request.user
        return Workspace.objects.visible_to(user).with_role_of(user).select_related("quota")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Your workspaces, the personal one among them; all workspaces with the permission."""
        workspaces.personal_workspace(request.user)
        return super().list(request, *args, **kwargs)

    @extend_schema(request=NewWorkspaceSerializer, responses={201: WorkspaceSerializer})
    def create(self, request: Request) -> Response:
        """Create a shared workspace, which you own."""
        made = workspaces.create_workspace(request.user, **checked(NewWorkspaceSerializer(data=request.data)))
        location = reverse("api-workspace-detail", kwargs={"pk": made.pk}, request=request)
        answer = WorkspaceSerializer(find_workspace(request.user, made.pk)).data
        return Response(answer, status=201, headers={"Location": location})

    def retrieve(self, request: Request, pk: UUID) -> Response:
        """One workspace and its retention."""
        return Response(WorkspaceSerializer(find_workspace(request.user, pk)).data)

    @extend_schema(request=WorkspaceChangesSerializer)
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Rename it or change its retention; for owners, or by permission."""
        workspace = find_workspace(request.user, pk)
        asked = set(request.data) if isinstance(request.data, dict) else set()
        if "name" in asked:
            require_right(request.user, Right.RENAME_WORKSPACE, workspace.pk)
        if asked != {"name"}:
            require_right(request.user, Right.SET_RETENTION, workspace.pk)
        changes = checked(WorkspaceChangesSerializer(data=request.data, partial=True))
        if name := changes.pop("name", None):
            workspaces.rename_workspace(workspace, name=name)
        if changes:
            change_quota(workspace, changes=changes)
        return Response(WorkspaceSerializer(find_workspace(request.user, pk)).data)

    @extend_schema(responses=QuotaSerializer)
    @action(detail=True, methods=["get"], pagination_class=None)
    def quota(self, request: Request, pk: UUID) -> Response:
        """The limits of the workspace, what counts against them, and what is left."""
        return Response(QuotaSerializer(ensure_quota(find_workspace(request.user, pk, right=Right.VIEW_QUOTA))).data)

    @extend_schema(request=QuotaChangesSerializer, responses=QuotaSerializer)
    @quota.mapping.patch
    def set_limits(self, request: Request, pk: UUID) -> Response:
        """Set limits; by permission only. A limit below the use refuses more."""
        workspace = find_workspace(request.user, pk, right=Right.SET_LIMITS)
        changes = checked(QuotaChangesSerializer(data=request.data, partial=True))
        return Response(QuotaSerializer(change_quota(workspace, changes=changes)).data)


class MemberViewSet(IdempotentPostMixin, ListModelMixin, GenericViewSet[Membership]):
    serializer_class = MembershipSerializer
    queryset = Membership.objects.all()
    lookup_field = "user_id"
    lookup_value_converter = "int"
    cursor_ordering = ("created_at", "id")

    def get_queryset(self) -> QuerySet[Membership]:
        workspace = find_workspace(self.request.user, self.kwargs["pk"], right=Right.VIEW_MEMBERS)
        return Membership.objects.filter(workspace=workspace).select_related("user")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The members of the workspace and their roles, for members and by permission."""
        return super().list(request, *args, **kwargs)

    @extend_schema(request=NewMembershipSerializer, responses={201: MembershipSerializer})
    def create(self, request: Request, pk: UUID) -> Response:
        """Add a member; for owners, or by permission."""
        workspace = find_workspace(request.user, pk, right=Right.ADD_MEMBERS)
        wanted = checked(NewMembershipSerializer(data=request.data))
        user = get_user_model().objects.filter(username=wanted["username"], is_active=True).first()
        if user is None:
            raise Invalid(_("There is no such user."), errors={"username": [_("There is no user of this name.")]})
        membership = workspaces.add_member(workspace, user=user, role=Role(wanted["role"]))
        location = reverse("api-member-detail", kwargs={"pk": pk, "user_id": user.pk}, request=request)
        return Response(MembershipSerializer(membership).data, status=201, headers={"Location": location})

    def retrieve(self, request: Request, pk: UUID, user_id: int) -> Response:
        """One member."""
        membership = self.get_queryset().filter(user__pk=user_id).first()
        if membership is None:
            raise NotFound(_("This user is not a member of the workspace."))
        return Response(MembershipSerializer(membership).data)

    @extend_schema(request=RoleSerializer)
    def partial_update(self, request: Request, pk: UUID, user_id: int) -> Response:
        """Change a member's role; for owners, or by permission."""
        workspace = find_workspace(request.user, pk, right=Right.CHANGE_MEMBERS)
        role = Role(checked(RoleSerializer(data=request.data))["role"])
        return Response(MembershipSerializer(workspaces.change_role(workspace, user_id=user_id, role=role)).data)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: UUID, user_id: int) -> Response:
        """Remove a member; for owners, or by permission. Every member may leave."""
        right = Right.VIEW_MEMBERS if user_id == request.user.pk else Right.REMOVE_MEMBERS
        workspaces.remove_member(find_workspace(request.user, pk, right=right), user_id=user_id)
        return Response(status=204)

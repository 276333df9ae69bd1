"""Workspaces, their members and quotas over the API. Another's workspace is a 404 on every path and verb."""

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView, ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

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
from quotas.models import Membership, StorageQuota, Workspace
from quotas.reservations import change_quota, ensure_quota
from quotas.rights import Right, Role, require_right
from quotas.workspaces import find_workspace


def checked(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    values: dict[str, Any] = serializer.validated_data
    return values


class WorkspaceList(IdempotentPostMixin, ListAPIView[Workspace]):
    """Your workspaces, the personal one among them; all workspaces with the permission."""

    serializer_class = WorkspaceSerializer

    def get_queryset(self) -> QuerySet[Workspace]:
        user = self.request.user
        return Workspace.objects.visible_to(user).with_role_of(user).select_related("quota")

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        workspaces.personal_workspace(request.user)
        return super().get(request, *args, **kwargs)

    @extend_schema(request=NewWorkspaceSerializer, responses={201: WorkspaceSerializer})
    def post(self, request: Request) -> Response:
        """Create a shared workspace, which you own."""
        made = workspaces.create_workspace(request.user, **checked(NewWorkspaceSerializer(data=request.data)))
        location = reverse("api-workspace", kwargs={"pk": made.pk}, request=request)
        answer = WorkspaceSerializer(find_workspace(request.user, made.pk)).data
        return Response(answer, status=201, headers={"Location": location})


class WorkspaceDetail(GenericAPIView[Workspace]):
    """One workspace and its retention."""

    queryset = Workspace.objects.all()
    serializer_class = WorkspaceSerializer

    def get(self, request: Request, pk: UUID) -> Response:
        return Response(WorkspaceSerializer(find_workspace(request.user, pk)).data)

    @extend_schema(request=WorkspaceChangesSerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
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


class MemberList(IdempotentPostMixin, ListAPIView[Membership]):
    """The members of the workspace and their roles, for members and by permission."""

    serializer_class = MembershipSerializer
    queryset = Membership.objects.all()
    cursor_ordering = ("created_at", "id")

    def get_queryset(self) -> QuerySet[Membership]:
        workspace = find_workspace(self.request.user, self.kwargs["pk"], right=Right.VIEW_MEMBERS)
        return Membership.objects.filter(workspace=workspace).select_related("user")

    @extend_schema(request=NewMembershipSerializer, responses={201: MembershipSerializer})
    def post(self, request: Request, pk: UUID) -> Response:
        """Add a member; for owners, or by permission."""
        workspace = find_workspace(request.user, pk, right=Right.ADD_MEMBERS)
        wanted = checked(NewMembershipSerializer(data=request.data))
        user = get_user_model().objects.filter(username=wanted["username"], is_active=True).first()
        if user is None:
            raise Invalid(_("There is no such user."), errors={"username": [_("There is no user of this name.")]})
        membership = workspaces.add_member(workspace, user=user, role=Role(wanted["role"]))
        location = reverse("api-member", kwargs={"pk": pk, "user_id": user.pk}, request=request)
        return Response(MembershipSerializer(membership).data, status=201, headers={"Location": location})


class MemberDetail(GenericAPIView[Membership]):
    """One member. Owners change and remove members; every member may leave."""

    serializer_class = MembershipSerializer
    queryset = Membership.objects.all()

    def get(self, request: Request, pk: UUID, user_id: int) -> Response:
        workspace = find_workspace(request.user, pk, right=Right.VIEW_MEMBERS)
        membership = Membership.objects.filter(workspace=workspace, user__pk=user_id).select_related("user").first()
        if membership is None:
            raise NotFound(_("This user is not a member of the workspace."))
        return Response(MembershipSerializer(membership).data)

    @extend_schema(request=RoleSerializer)
    def patch(self, request: Request, pk: UUID, user_id: int) -> Response:
        workspace = find_workspace(request.user, pk, right=Right.CHANGE_MEMBERS)
        role = Role(checked(RoleSerializer(data=request.data))["role"])
        return Response(MembershipSerializer(workspaces.change_role(workspace, user_id=user_id, role=role)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: UUID, user_id: int) -> Response:
        # Every member may leave.
        right = Right.VIEW_MEMBERS if user_id == request.user.pk else Right.REMOVE_MEMBERS
        workspaces.remove_member(find_workspace(request.user, pk, right=right), user_id=user_id)
        return Response(status=204)


class QuotaDetail(GenericAPIView[StorageQuota]):
    """The limits of the workspace, what counts against them, and what is left."""

    serializer_class = QuotaSerializer
    queryset = StorageQuota.objects.all()

    def get(self, request: Request, pk: UUID) -> Response:
        return Response(QuotaSerializer(ensure_quota(find_workspace(request.user, pk, right=Right.VIEW_QUOTA))).data)

    @extend_schema(request=QuotaChangesSerializer)
    def patch(self, request: Request, pk: UUID) -> Response:
        """Set limits; by permission only. A limit below the use refuses more."""
        workspace = find_workspace(request.user, pk, right=Right.SET_LIMITS)
        changes = checked(QuotaChangesSerializer(data=request.data, partial=True))
        return Response(QuotaSerializer(change_quota(workspace, changes=changes)).data)

from typing import Any

from rest_framework import serializers

from quotas.models import LimitUse, Membership, StorageQuota, Workspace, this_month
from quotas.reservations import ensure_quota


class WorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    """Expects rows of ``Workspace.objects.with_role_of(user).select_related("quota")``."""

    personal = serializers.SerializerMethodField(help_text="Whether it is one user's own.")
    role = serializers.ChoiceField(
        Membership.Role.choices, read_only=True, allow_null=True, help_text="Yours; null where you are no member."
    )
    retention_days = serializers.IntegerField(source="quota.retention_days", read_only=True, allow_null=True)
    auto_cleanup = serializers.BooleanField(source="quota.auto_cleanup", read_only=True)
    archive_threshold_days = serializers.IntegerField(
        source="quota.archive_threshold_days", read_only=True, allow_null=True
    )
    keep_source_audio = serializers.BooleanField(source="quota.keep_source_audio", read_only=True)

    class Meta:
        model = Workspace
        fields = (
            "id",
            "name",
            "slug",
            "personal",
            "role",
            "retention_days",
            "auto_cleanup",
            "archive_threshold_days",
            "keep_source_audio",
            "created_at",
        )
        read_only_fields = fields

    def get_personal(self, workspace: Workspace) -> bool:
        return workspace.personal_of_id is not None

    def to_representation(self, workspace: Workspace) -> dict[str, Any]:
        if not hasattr(workspace, "quota"):
            workspace.quota = ensure_quota(workspace)
        return super().to_representation(workspace)


class NewWorkspaceSerializer(serializers.ModelSerializer[Workspace]):
    class Meta:
        model = Workspace
        fields = ("name", "slug")
        # The database finds a taken slug, which is a conflict.
        extra_kwargs = {
            "slug": {
                "required": False,
                "validators": [],
                "help_text": "Lower-case letters, digits and single hyphens; made from the name when left out.",
            }
        }


class WorkspaceChangesSerializer(serializers.ModelSerializer[StorageQuota]):
    name = serializers.CharField(max_length=200, required=False)

    class Meta:
        model = StorageQuota
        fields = ("name", "retention_days", "auto_cleanup", "archive_threshold_days", "keep_source_audio")


class MembershipSerializer(serializers.ModelSerializer[Membership]):
    username = serializers.CharField(source="user.username", read_only=True)

    class Meta:
        model = Membership
        fields = ("user_id", "username", "role", "created_at")
        read_only_fields = fields


class NewMembershipSerializer(serializers.Serializer[Membership]):
    username = serializers.CharField(max_length=150)
    role = serializers.ChoiceField(Membership.Role.choices)


class RoleSerializer(serializers.Serializer[Membership]):
    role = serializers.ChoiceField(Membership.Role.choices)


#: The columns of a quota that staff set.
LIMITS = ("max_storage_bytes", "max_file_count", "max_file_size", "max_monthly_uploads", "max_monthly_upload_bytes")


class LimitUseSerializer(serializers.Serializer[LimitUse]):
    limit = serializers.CharField(source="name", read_only=True)
    maximum = serializers.IntegerField(read_only=True, allow_null=True, help_text="null is unlimited, 0 is none.")
    used = serializers.IntegerField(read_only=True)
    reserved = serializers.IntegerField(read_only=True, help_text="Promised to uploads under way.")
    left = serializers.IntegerField(read_only=True, allow_null=True, help_text="null when unlimited.")


class QuotaSerializer(serializers.ModelSerializer[StorageQuota]):
    """The row with its monthly counters of today, and each limit with its use."""

    limits = serializers.SerializerMethodField(help_text="In the order in which they are checked.")
    max_trash_bytes = serializers.IntegerField(
        read_only=True,
        allow_null=True,
        help_text="What the trash may hold: beyond it, the files that were thrown away first go for good. null is "
        "unlimited.",
    )
    max_trash_files = serializers.IntegerField(read_only=True, allow_null=True, help_text="The same, in files.")

    class Meta:
        model = StorageQuota
        fields = (
            *("limits", "max_trash_bytes", "max_trash_files"),
            *LIMITS,
            *("current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files"),
            *("monthly_uploads", "monthly_upload_bytes", "month"),
            *("retention_days", "auto_cleanup", "archive_threshold_days", "archive_storage_class", "keep_source_audio"),
            "updated_at",
        )

    def get_limits(self, quota: StorageQuota) -> list[dict[str, Any]]:
        return [dict(LimitUseSerializer(use).data) for use in quota.limits(month=this_month())]

    def to_representation(self, quota: StorageQuota) -> dict[str, Any]:
        return super().to_representation(quota.as_of(this_month()))


class QuotaChangesSerializer(serializers.ModelSerializer[StorageQuota]):
    class Meta:
        model = StorageQuota
        fields = LIMITS

"""Workspaces, members, quotas and reservations. Lock order: reservation, quota, object, upload, event."""

import copy
import math
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from quotas.rights import Right, Role, is_permitted

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

# "Unlimited": 4 EiB, or as many files. No sum of two exceeds a BIGINT.
LARGEST = 2**62 - 1


def parse_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


SLUG_PATTERN = re.compile(r"\A[a-z0-9]+(?:-[a-z0-9]+)*\Z")


def refuse_uuid(slug: str) -> None:
    """A slug that looks like an id could be mistaken for another workspace."""
    if parse_uuid(slug):
        raise ValidationError(_("A short name must not look like an id."))


def month_of(moment: datetime) -> date:
    """The first day of the UTC month of an aware time."""
    return moment.astimezone(UTC).date().replace(day=1)


def month_after(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def latest_month(month: date, moment: datetime) -> date:
    """The latest month that a row may have at ``moment`` in ``month``: on its last day, the next one, which a statement
    that waited for the row must keep.
    """
    return max(month, month_of(moment + timedelta(days=1)))


def this_month() -> date:
    return month_of(timezone.now())


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def where(self, user: AbstractBaseUser | AnonymousUser, right: Right) -> "WorkspaceQuerySet":
        """By role or permission."""
        return self.all() if is_permitted(user, right) else self.where_by_role(user, right)

    def where_by_role(self, user: AbstractBaseUser | AnonymousUser, right: Right) -> "WorkspaceQuerySet":
        if not user.is_active:
            return self.none()
        return self.filter(memberships__user=user.pk, memberships__role__in=right.roles)

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "WorkspaceQuerySet":
        return self.where(user, Right.VIEW_WORKSPACE)

    def called(self, ref: str) -> "WorkspaceQuerySet":
        """By id or slug."""
        if pk := parse_uuid(ref):
            return self.filter(pk=pk)
        return self.filter(slug=ref) if SLUG_PATTERN.match(ref) else self.none()

    def with_role_of(self, user: AbstractBaseUser | AnonymousUser) -> "WorkspaceQuerySet":
        """Adds ``role``, or None."""
        mine = Membership.objects.filter(workspace=OuterRef("pk"), user=user.pk)
        return self.annotate(role=Subquery(mine.values("role")[:1]))  # type: ignore[no-redef]


class Workspace(models.Model):
    """Owns files and their quota. Each user gets a personal one at first need, and can then only be deactivated."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=200)
    slug = models.SlugField(
        _("slug"),
        max_length=60,
        unique=True,
        help_text=_("The short name used in addresses and requests: lower-case letters, digits and single hyphens."),
        validators=[
            RegexValidator(SLUG_PATTERN, _("Use lower-case letters, digits and single hyphens.")),
            refuse_uuid,
        ],
    )
    personal_of = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("personal of"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="personal_workspace",
        help_text=_("The user whose own workspace this is; empty for a shared one."),
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    objects = WorkspaceQuerySet.as_manager()
    # Filled by with_role_of().
    role: str | None

    class Meta:
        db_table = "workspaces"
        verbose_name = _("workspace")
        verbose_name_plural = _("workspaces")
        ordering = ["-created_at", "-id"]
        indexes = [models.Index(fields=["created_at", "id"], name="workspaces_by_age")]

    def __str__(self) -> str:
        return self.name

    @property
    def label(self) -> str:
        """Distinguishes demo's personal workspace from a shared one called Demo."""
        return gettext("%(name)s (personal)") % {"name": self.name} if self.personal_of_id else self.name


class Membership(models.Model):
    """``viewer`` reads, ``editor`` also writes files, ``owner`` also manages."""

    Role = Role

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="memberships"
    )
    workspace = models.ForeignKey(
        Workspace, verbose_name=_("workspace"), on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(_("role"), max_length=10, choices=Role)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        db_table = "memberships"
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        ordering = ["created_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="memberships_one_per_user"),
            models.CheckConstraint(
                condition=Q(role__in=["owner", "editor", "viewer"]), name="memberships_role_is_known"
            ),
        ]

    def __str__(self) -> str:
        words = {"user": self.user, "role": self.get_role_display(), "workspace": self.workspace}
        return gettext("%(user)s in %(workspace)s: %(role)s") % words


@dataclass(frozen=True)
class LimitUse:
    name: str
    maximum: int | None
    used: int
    reserved: int

    @property
    def left(self) -> int | None:
        """None when unlimited; never negative."""
        return None if self.maximum is None else max(0, self.maximum - self.used - self.reserved)

    @property
    def counts_bytes(self) -> bool:
        return self.name not in ("max_file_count", "max_monthly_uploads")

    @property
    def is_full(self) -> bool:
        return self.left == 0

    @property
    def used_percent(self) -> int:
        """0 to 100, rounded up; 0 when unlimited."""
        return self._percent(self.used)

    @property
    def reserved_percent(self) -> int:
        return self._percent(self.used + self.reserved) - self.used_percent

    def _percent(self, amount: int) -> int:
        if self.maximum is None:
            return 0
        return 100 if amount >= self.maximum else math.ceil(100 * amount / self.maximum)

    def allows(self, asked: int) -> bool:
        """Asking for nothing is always allowed."""
        maximum = LARGEST if self.maximum is None else self.maximum
        return asked == 0 or self.used + self.reserved + asked <= maximum


def limit_field(name: "_StrPromise", help_text: "_StrPromise") -> "models.PositiveBigIntegerField[Any, Any]":
    return models.PositiveBigIntegerField(
        name, null=True, blank=True, validators=[MaxValueValidator(LARGEST)], help_text=help_text
    )


def counter_field(name: "_StrPromise") -> "models.PositiveBigIntegerField[Any, Any]":
    return models.PositiveBigIntegerField(name, default=0, editable=False)


def days_field(name: "_StrPromise", help_text: "_StrPromise") -> "models.PositiveIntegerField[Any, Any]":
    return models.PositiveIntegerField(
        name, null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(36_500)], help_text=help_text
    )


class StorageQuota(models.Model):
    """Limits, counters and retention of a workspace.

    Used: files that arrived and are neither deleted nor purged. Reserved: uploads in progress. Only ``quotas.counters``
    changes counters.
    """

    workspace = models.OneToOneField(
        Workspace, verbose_name=_("workspace"), on_delete=models.CASCADE, related_name="quota"
    )

    max_storage_bytes = limit_field(
        _("max storage bytes"), _("How many bytes the workspace may hold. Empty is unlimited, 0 is none.")
    )
    max_file_count = limit_field(
        _("max file count"), _("How many files the workspace may hold. Empty is unlimited, 0 is none.")
    )
    max_file_size = limit_field(
        _("max file size"), _("How many bytes one file may have. Empty is unlimited, 0 is none.")
    )
    max_monthly_uploads = limit_field(
        _("max monthly uploads"), _("How many files may arrive within one month (UTC). Empty is unlimited, 0 is none.")
    )
    max_monthly_upload_bytes = limit_field(
        _("max monthly upload bytes"),
        _("How many bytes may arrive within one month (UTC). Empty is unlimited, 0 is none."),
    )

    current_storage_bytes = counter_field(_("current storage bytes"))
    current_file_count = counter_field(_("current file count"))
    reserved_bytes = counter_field(_("reserved bytes"))
    reserved_files = counter_field(_("reserved files"))
    monthly_uploads = counter_field(_("monthly uploads"))
    monthly_upload_bytes = counter_field(_("monthly upload bytes"))
    month = models.DateField(
        _("month"),
        default=this_month,
        editable=False,
        help_text=_("The first day of the month that the monthly counters belong to. It never goes back."),
    )

    retention_days = days_field(
        _("retention days"), _("Files older than this many days expire, if automatic clean-up is on. Empty is never.")
    )
    auto_cleanup = models.BooleanField(
        _("auto cleanup"), default=False, help_text=_("Whether expired files move to the trash without being asked.")
    )
    archive_threshold_days = days_field(
        _("archive threshold days"), _("Files older than this many days may be archived. Empty is never.")
    )
    archive_storage_class = models.CharField(
        _("archive storage class"),
        max_length=50,
        blank=True,
        help_text=_("What archived files are stored as: cold, glacier and the like."),
    )
    keep_source_audio = models.BooleanField(
        _("keep source audio"),
        default=True,
        help_text=_("Whether the audio stays when what was made from it is finished."),
    )
    updated_at = models.DateTimeField(_("updated at"), default=timezone.now, editable=False)

    class Meta:
        db_table = "storage_quotas"
        verbose_name = _("storage quota")
        verbose_name_plural = _("storage quotas")
        ordering = ["id"]
        constraints = [
            # NULL passes a CHECK.
            models.CheckConstraint(
                condition=Q(
                    max_storage_bytes__lte=LARGEST,
                    max_file_count__lte=LARGEST,
                    max_file_size__lte=LARGEST,
                    max_monthly_uploads__lte=LARGEST,
                    max_monthly_upload_bytes__lte=LARGEST,
                ),
                name="storage_quotas_limits_can_be_added",
            ),
            models.CheckConstraint(
                condition=Q(retention_days__gte=1, archive_threshold_days__gte=1),
                name="storage_quotas_days_are_one_or_more",
            ),
        ]

    def __str__(self) -> str:
        return gettext("Quota of %(workspace)s") % {"workspace": self.workspace}

    def as_of(self, month: date, *, latest: date | None = None) -> "StorageQuota":
        """An unsaved copy with the monthly counters of ``month``: 0 for an earlier one, kept up to ``latest``
        (:func:`latest_month`).
        """
        if month <= self.month <= (latest or month):
            return self
        rolled = copy.copy(self)
        rolled.month, rolled.monthly_uploads, rolled.monthly_upload_bytes = month, 0, 0
        return rolled

    @property
    def storage(self) -> LimitUse:
        return LimitUse("max_storage_bytes", self.max_storage_bytes, self.current_storage_bytes, self.reserved_bytes)

    @property
    def max_trash_bytes(self) -> int | None:
        return None if self.max_storage_bytes is None else int(self.max_storage_bytes * settings.TRASH_MAX_FRACTION)

    @property
    def max_trash_files(self) -> int | None:
        return None if self.max_file_count is None else int(self.max_file_count * settings.TRASH_MAX_FRACTION)

    def limits(self, *, month: date, latest: date | None = None) -> Sequence[LimitUse]:
        """In the order of the checks. A reservation counts against the month while it lives."""
        now = self.as_of(month, latest=latest)
        bytes_held, files_held = self.reserved_bytes, self.reserved_files
        return (
            LimitUse("max_file_size", self.max_file_size, used=0, reserved=0),
            self.storage,
            LimitUse("max_file_count", self.max_file_count, self.current_file_count, files_held),
            LimitUse("max_monthly_uploads", self.max_monthly_uploads, now.monthly_uploads, files_held),
            LimitUse("max_monthly_upload_bytes", self.max_monthly_upload_bytes, now.monthly_upload_bytes, bytes_held),
        )


class QuotaReservation(models.Model):
    """Goes exactly once: settled, released or swept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        Workspace, verbose_name=_("workspace"), on_delete=models.CASCADE, related_name="reservations"
    )
    bytes = models.PositiveBigIntegerField(_("bytes"))
    files = models.PositiveIntegerField(_("files"), default=1)
    month = models.DateField(_("month"), help_text=_("The first day of the month that its files are charged to."))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)

    class Meta:
        db_table = "quota_reservations"
        verbose_name = _("reservation")
        verbose_name_plural = _("reservations")
        ordering = ["expires_at"]

    def __str__(self) -> str:
        return f"{self.bytes} bytes for {self.workspace} until {self.expires_at:%Y-%m-%d %H:%M:%S}"

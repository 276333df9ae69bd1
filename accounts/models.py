import uuid
from typing import Any, ClassVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _
from knox.models import AbstractAuthToken

#: The app that these tables began in: permissions, content types, admin addresses and migrations have its label.
APP_LABEL = "audiotricks"


class ApiToken(AbstractAuthToken):
    """A user's token, stored as a SHA-512 digest with its first characters (``token_key``). ``expiry`` None: never. One
    created with another (``parent``) never outlives or outranks it.
    """

    class Scope(models.TextChoices):
        FULL = "full", _("Read and write")
        READ = "read", _("Read only")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    digest = models.CharField(_("digest"), max_length=128, unique=True, editable=False)
    name = models.CharField(
        _("name"), max_length=100, help_text=_("What the token is for, so that you know which one to remove.")
    )

    scope = models.CharField(
        _("scope"),
        max_length=10,
        choices=Scope,
        default=Scope.FULL,
        help_text=_("One that only reads is refused for everything that changes something."),
    )
    parent = models.ForeignKey(
        "self",
        verbose_name=_("made with"),
        null=True,
        editable=False,
        on_delete=models.CASCADE,
        related_name="children",
        help_text=_("The token that it was made with, and goes with."),
    )

    class Meta:
        app_label = APP_LABEL
        db_table = "api_tokens"
        ordering: ClassVar[list[str]] = ["-created", "-id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["-created", "-id"], name="api_tokens_newest")]

    def __str__(self) -> str:
        return self.name


class SignInCounter(models.Model):
    """In the database, so that all processes share it."""

    key = models.CharField(_("key"), max_length=100, unique=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    began_at = models.DateTimeField(_("began at"), db_index=True)
    blocked_until = models.DateTimeField(_("blocked until"), null=True)

    class Meta:
        app_label = APP_LABEL
        db_table = "sign_in_counters"
        verbose_name = _("sign-in counter")
        verbose_name_plural = _("sign-in counters")

    def __str__(self) -> str:
        return self.key


class AppendOnly(TypeError): ...


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def update(self, **values: Any) -> int:
        raise AppendOnly("events of the audit log are never changed")

    def delete(self) -> Any:
        raise AppendOnly("events of the audit log go by their age alone")

    def forget(self) -> int:
        """Only for the retention, which keeps at least a day."""
        return super().delete()[0]


class AuditEvent(models.Model):
    """Who did what, when, from where and by which right; written by ``accounts.audit``. Names and ids are copied. Model
    and database refuse changes.
    """

    class Kind(models.TextChoices):
        SIGNED_IN = "signed_in", _("Signed in")
        SIGN_IN_FAILED = "sign_in_failed", _("Failed to sign in")
        SIGNED_OUT = "signed_out", _("Signed out")
        PASSWORD_CHANGED = "password_changed", _("Password changed")
        PASSWORD_LINK_ASKED = "password_link_asked", _("Link for a new password asked for")
        ACCESS_ENDED = "access_ended", _("Sessions and tokens ended")
        TOKEN_MADE = "token_made", _("Token made")
        TOKEN_REVOKED = "token_revoked", _("Token revoked")
        TOKEN_REFUSED = "token_refused", _("Token refused")
        USER_MADE = "user_made", _("Account made")
        USER_CHANGED = "user_changed", _("Account changed")
        USER_REMOVED = "user_removed", _("Account removed")
        RIGHTS_CHANGED = "rights_changed", _("Groups or permissions changed")
        GROUP_MADE = "group_made", _("Group made")
        GROUP_REMOVED = "group_removed", _("Group removed")
        WORKSPACE_MADE = "workspace_made", _("Workspace made")
        WORKSPACE_CHANGED = "workspace_changed", _("Workspace changed")
        WORKSPACE_REMOVED = "workspace_removed", _("Workspace removed")
        MEMBER_ADDED = "member_added", _("Member added")
        ROLE_CHANGED = "role_changed", _("Role changed")
        MEMBER_REMOVED = "member_removed", _("Member removed")
        QUOTA_CHANGED = "quota_changed", _("Quota changed")
        HOLD_CHANGED = "hold_changed", _("Legal hold changed")
        LINK_MADE = "link_made", _("Link made")
        EXPORTED = "exported", _("List exported")

    created_at = models.DateTimeField(_("when"), editable=False)
    kind = models.CharField(_("kind"), max_length=50, choices=Kind, editable=False)
    actor_id = models.BigIntegerField(_("actor id"), null=True, editable=False)
    actor_name = models.CharField(_("by"), max_length=150, blank=True, editable=False)
    subject_kind = models.CharField(_("kind of subject"), max_length=50, blank=True, editable=False)
    subject_id = models.CharField(_("subject id"), max_length=64, blank=True, editable=False)
    subject_name = models.CharField(_("subject"), max_length=200, blank=True, editable=False)
    address = models.GenericIPAddressField(_("address"), null=True, editable=False)
    user_agent = models.CharField(_("program"), max_length=200, blank=True, editable=False)
    right = models.CharField(_("right"), max_length=100, blank=True, editable=False)
    details = models.JSONField(_("details"), default=dict, encoder=DjangoJSONEncoder, editable=False)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        app_label = APP_LABEL
        db_table = "audit_events"
        ordering: ClassVar[list[str]] = ["-id"]
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["kind", "-id"], name="audit_events_by_kind"),
            models.Index(fields=["actor_name", "-id"], name="audit_events_by_actor"),
            models.Index(fields=["subject_name", "-id"], name="audit_events_by_subject"),
            models.Index(fields=["address", "-id"], name="audit_events_by_address"),
            models.Index(fields=["created_at"], name="audit_events_by_time"),
        ]

    def __str__(self) -> str:
        return self.get_kind_display()

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnly("events of the audit log are never changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        raise AppendOnly("events of the audit log go by their age alone")

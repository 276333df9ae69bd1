"""The tables of the ground floor: tokens, idempotency keys, encryption keys, workers, and what the clock runs."""

import uuid
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.models import AbstractAuthToken

MAX_KEY_LENGTH = 255


class ApiToken(AbstractAuthToken):
    """One token of one user. Its secret is stored as a SHA-512 digest only; ``token_key`` is its first characters.

    Made by :func:`accounts.tokens.create_token`. A token whose ``expiry`` is None never expires. One that was made
    with another token (``parent``) goes with it, and never outlives or outranks it.
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
        db_table = "api_tokens"
        ordering: ClassVar[list[str]] = ["-created", "-id"]
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["-created", "-id"], name="api_tokens_newest")]

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A request that a client may send again under the same key.

    ::

        (no row) --claim--> running --complete--> done --expiry--> (no row)
                               |
                               +--abandon, or expiry--> (no row, or claimed again)

    ``claim_id`` changes with each claim, so that a request that was thought dead cannot complete a later one's.
    """

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, verbose_name=_("user"), on_delete=models.CASCADE, related_name="+"
    )
    key = models.CharField(_("key"), max_length=MAX_KEY_LENGTH)
    method = models.CharField(_("method"), max_length=10)
    path = models.TextField(_("path"))
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.RUNNING)
    claim_id = models.UUIDField(_("claim id"), default=uuid.uuid4)
    fingerprint = models.CharField(
        _("fingerprint"), max_length=64, blank=True, help_text=_("SHA-256 of the request; empty while it runs.")
    )
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_body = models.JSONField(_("response body"), null=True)
    response_headers = models.JSONField(_("response headers"), default=dict)
    claimed_at = models.DateTimeField(_("claimed at"))
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    class Meta:
        db_table = "idempotency_keys"
        verbose_name = _("idempotency key")
        verbose_name_plural = _("idempotency keys")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_per_user"),
            models.CheckConstraint(
                condition=models.Q(state="running", response_status__isnull=True)
                | models.Q(state="done", response_status__gte=200, response_status__lte=299),
                name="idempotency_done_has_answer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path}: {self.state}"


class EncryptionKey(models.Model):
    """A reference to a key that a KMS keeps (or a CMEK); the key itself is never here."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.CharField(
        _("provider"), max_length=50, help_text=_("Who keeps the key: aws-kms, gcp-kms, azure-key-vault.")
    )
    key_reference = models.CharField(
        _("reference"), max_length=1024, help_text=_("The provider's name of the key: an ARN or a path.")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        db_table = "encryption_keys"
        ordering: ClassVar[list[str]] = ["provider", "key_reference"]
        verbose_name = _("encryption key")
        verbose_name_plural = _("encryption keys")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["provider", "key_reference"], name="encryption_key_once"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.key_reference}"


class WorkerHeartbeat(models.Model):
    """When a Celery worker last said that it lives, by the database's clock."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    seen_at = models.DateTimeField(_("seen at"), db_index=True)

    class Meta:
        db_table = "worker_heartbeats"
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.name


class SeededTask(models.Model):
    """A periodic task that was put into the schedule once; what staff do with it from then on stays."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    seeded_at = models.DateTimeField(_("seeded at"), auto_now_add=True)

    class Meta:
        db_table = "seeded_tasks"

    def __str__(self) -> str:
        return self.name


class TaskLease(models.Model):
    """Which run of a periodic task may work now, and when its last message was sent, all by the database's clock.

    ``audiotricks.leases`` writes it.
    """

    task = models.CharField(_("task"), max_length=200, primary_key=True)
    holder = models.UUIDField(_("holder"), null=True)
    held_until = models.DateTimeField(_("held until"), null=True)
    sent_at = models.DateTimeField(_("sent at"), null=True)
    begun_at = models.DateTimeField(_("begun at"), null=True)

    class Meta:
        db_table = "task_leases"

    def __str__(self) -> str:
        return self.task


class TaskRun(models.Model):
    """One run of a periodic task, as its worker told it; ``id`` is that of Celery's message, which may come twice.

    ``audiotricks.running.runs`` writes it; ``audiotricks.tasks.forget_expired`` keeps the newest of each task.
    """

    class Outcome(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        FAILED = "failed", _("Failed")
        LOST = "lost", _("Did not end")

    id = models.UUIDField(primary_key=True, editable=False)
    task = models.CharField(_("task"), max_length=200)
    started_at = models.DateTimeField(_("started"))
    finished_at = models.DateTimeField(_("ended"), null=True)
    succeeded = models.BooleanField(_("succeeded"), null=True, help_text=_("Empty until it has ended."))
    result = models.JSONField(_("result"), null=True, encoder=DjangoJSONEncoder)
    error = models.TextField(_("error"), blank=True)

    class Meta:
        db_table = "task_runs"
        ordering: ClassVar[list[str]] = ["-started_at", "-id"]
        verbose_name = _("task run")
        verbose_name_plural = _("task runs")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["-started_at", "-id"], name="task_runs_newest"),
            models.Index(fields=["task", "-started_at", "-id"], name="task_runs_by_task"),
            models.Index(fields=["succeeded", "-started_at", "-id"], name="task_runs_by_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.started_at:%Y-%m-%d %H:%M:%S}"

    @property
    def outcome(self) -> Outcome:
        """A run whose worker was killed never tells its end: after the longest time that a task may take it is lost."""
        if self.succeeded is not None:
            return self.Outcome.DONE if self.succeeded else self.Outcome.FAILED
        longest = timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT)
        return self.Outcome.RUNNING if timezone.now() - self.started_at < longest else self.Outcome.LOST

    @property
    def seconds(self) -> float | None:
        """How long it took; None until it has ended."""
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None


class SignInCounter(models.Model):
    """Attempts to sign in that are counted together: those of an address, of an account, or with unknown tokens.

    In the database, since a cache of one process would let each process be tried anew. ``accounts.attempts``
    counts.
    """

    key = models.CharField(_("key"), max_length=100, unique=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    began_at = models.DateTimeField(_("began at"), db_index=True)
    blocked_until = models.DateTimeField(_("blocked until"), null=True)

    class Meta:
        db_table = "sign_in_counters"
        verbose_name = _("sign-in counter")
        verbose_name_plural = _("sign-in counters")

    def __str__(self) -> str:
        return self.key


class AppendOnly(TypeError):
    """A row of the audit log was to be changed or deleted."""


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    def update(self, **values: Any) -> int:
        raise AppendOnly("events of the audit log are never changed")

    def delete(self) -> Any:
        raise AppendOnly("events of the audit log go by their age alone")

    def forget(self) -> int:
        """Delete these rows; for the retention, which gives nothing younger than a day."""
        return super().delete()[0]


class AuditEvent(models.Model):
    """Who did what to whom or what, when, from where and by which right. Written by ``accounts.audit``.

    Names and ids are copied, so that an event outlives what it tells of. A row is never changed: the model refuses it,
    and so does a trigger in the database.
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

"""Tables of no single app."""

import uuid
from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

MAX_KEY_LENGTH = 255


class IdempotencyKey(models.Model):
    """A request that a client may send again under the same key.

    ::

        (no row) --take---> running --complete--> done --expiry--> (no row)
                               |
                               +--abandon, or expiry--> (no row, or taken again)

    ``claim_id`` identifies the holder of the lease.
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
    """A reference to a key of a KMS, never the key itself."""

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
    """By the database's clock."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    seen_at = models.DateTimeField(_("seen at"), db_index=True)

    class Meta:
        db_table = "worker_heartbeats"
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return self.name


class SeededTask(models.Model):
    """A periodic task that was seeded once."""

    name = models.CharField(_("name"), max_length=200, unique=True)
    seeded_at = models.DateTimeField(_("seeded at"), auto_now_add=True)

    class Meta:
        db_table = "seeded_tasks"

    def __str__(self) -> str:
        return self.name


class TaskLease(models.Model):
    """A periodic task's lease and last message, by the database's clock."""

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
    """A run of a periodic task; ``id`` is that of Celery's message, which may come twice."""

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
        """Lost, if without an end after the longest time of a task."""
        if self.succeeded is not None:
            return self.Outcome.DONE if self.succeeded else self.Outcome.FAILED
        longest = timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT)
        return self.Outcome.RUNNING if timezone.now() - self.started_at < longest else self.Outcome.LOST

    @property
    def seconds(self) -> float | None:
        return (self.finished_at - self.started_at).total_seconds() if self.finished_at else None

from django.db import models
from django.utils.translation import gettext_lazy as _

from quotas.models import Workspace


class StorageCondition(models.Model):
    """Failures in a row, shared by all processes; the write columns are about uploads. Written by
    ``uploads.objects.conditions``.
    """

    storage = models.CharField(_("storage"), max_length=50, primary_key=True)
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True)
    left_alone_until = models.DateTimeField(_("left alone until"), null=True)
    error = models.TextField(_("error"), blank=True)
    failed_writes = models.PositiveIntegerField(_("failed writes in a row"), default=0)
    write_failed_at = models.DateTimeField(_("last failed write"), null=True)
    write_error = models.TextField(_("error of the last write"), blank=True)

    class Meta:
        db_table = "storage_conditions"
        verbose_name = _("condition of a storage")
        verbose_name_plural = _("conditions of storages")

    def __str__(self) -> str:
        return self.storage


class ProcessingTurn(models.Model):
    """When a worker last took a file; written by ``uploads.processing.backlog``."""

    workspace = models.OneToOneField(
        Workspace, primary_key=True, on_delete=models.CASCADE, related_name="processing_turn"
    )
    taken_at = models.DateTimeField()

    class Meta:
        db_table = "processing_turns"

    def __str__(self) -> str:
        return f"{self.workspace_id} {self.taken_at}"

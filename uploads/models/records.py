from django.conf import settings
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quotas.models import Workspace
from uploads.models.states import Status


class UploadEvent(models.Model):
    """Who did what to which file, when and why. Outlives the file's row."""

    upload_id = models.UUIDField(_("upload id"), editable=False)
    workspace = models.ForeignKey(
        Workspace,
        verbose_name=_("workspace"),
        on_delete=models.PROTECT,
        related_name="+",
        editable=False,
        db_index=False,
    )
    action = models.CharField(_("action"), max_length=50, editable=False)
    from_status = models.CharField(_("from status"), max_length=50, choices=Status, blank=True, editable=False)
    to_status = models.CharField(_("to status"), max_length=50, choices=Status, blank=True, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("actor"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
        db_index=False,
        help_text=_("Empty: AudioTricks itself."),
    )
    right = models.CharField(
        _("right"),
        max_length=100,
        blank=True,
        editable=False,
        help_text=_("By what the actor was allowed to: a role in the workspace, a permission, or superuser."),
    )
    reason = models.TextField(_("reason"), blank=True, editable=False)
    details = models.JSONField(_("details"), default=dict, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        db_table = "upload_events"
        ordering = ["id"]
        verbose_name = _("upload event")
        verbose_name_plural = _("upload events")
        indexes = [
            models.Index(fields=["upload_id", "id"], name="upload_events_by_upload"),
            models.Index(fields=["workspace", "-id"], name="upload_events_by_workspace"),
            models.Index(fields=["action", "-id"], name="upload_events_by_action"),
            models.Index(fields=["actor", "-id"], name="upload_events_by_actor", condition=Q(actor__isnull=False)),
            # Events are written in order of time, for which this index is tiny.
            BrinIndex(fields=["created_at"], name="upload_events_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.upload_id}"

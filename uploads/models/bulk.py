import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from audiotricks.plug import declared


def action_choices() -> list[tuple[str, Any]]:
    actions = map(import_string, declared(lambda app: app.file_actions))
    return [(action.name, action.label) for action in actions]


class BulkAction(models.Model):
    """Run by ``uploads.actions.bulk``."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    action = models.CharField(_("action"), max_length=20, choices=action_choices, editable=False)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("actor"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )
    reason = models.TextField(_("reason"), blank=True, editable=False)
    language = models.CharField(
        _("language"),
        max_length=20,
        editable=False,
        help_text=_("That of the person who asked: the outcomes are written in it."),
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    started_at = models.DateTimeField(_("started at"), null=True, editable=False)
    active_at = models.DateTimeField(
        _("active at"),
        default=timezone.now,
        editable=False,
        help_text=_("The last sign of life of whoever works on it."),
    )
    finished_at = models.DateTimeField(_("finished at"), null=True, editable=False)
    total = models.PositiveIntegerField(_("total"), editable=False)
    done = models.PositiveIntegerField(_("done"), default=0, editable=False)
    refused = models.PositiveIntegerField(_("refused"), default=0, editable=False)

    class Meta:
        db_table = "bulk_actions"
        ordering = ["-created_at", "-id"]
        verbose_name = _("bulk action")
        verbose_name_plural = _("bulk actions")
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="bulk_actions_newest"),
            models.Index(fields=["active_at"], name="bulk_actions_open", condition=Q(finished_at=None)),
        ]

    def __str__(self) -> str:
        return self.get_action_display()

    @property
    def waiting(self) -> int:
        return max(0, self.total - self.done - self.refused)


class BulkActionItem(models.Model):
    """Name and id outlive the file's row."""

    class Outcome(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DONE = "done", _("Done")
        REFUSED = "refused", _("Refused")

    bulk_action = models.ForeignKey(
        BulkAction, verbose_name=_("bulk action"), on_delete=models.CASCADE, related_name="items", editable=False
    )
    upload_id = models.UUIDField(_("upload id"), editable=False)
    name = models.CharField(_("name"), max_length=500, editable=False)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome, default=Outcome.WAITING, editable=False)
    message = models.TextField(_("message"), blank=True, editable=False, help_text=_("Why it was refused."))
    claimable_at = models.DateTimeField(
        _("claimable at"),
        default=timezone.now,
        editable=False,
        help_text=_("Whoever has it in hand is left alone until this time."),
    )

    class Meta:
        db_table = "bulk_action_items"
        ordering = ["id"]
        verbose_name = _("file of a bulk action")
        verbose_name_plural = _("files of bulk actions")
        indexes = [
            models.Index(fields=["bulk_action", "outcome", "id"], name="bulk_action_items_outcome"),
            models.Index(fields=["upload_id"], name="bulk_action_items_by_upload"),
        ]

    def __str__(self) -> str:
        return self.name

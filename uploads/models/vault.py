"""The identity of this database, and decisions of staff."""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quotas.models import Workspace


class Vault(models.Model):
    """One row, made at first use, in every backup and copy."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    number = models.PositiveSmallIntegerField(default=1, unique=True, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        db_table = "vaults"
        verbose_name = _("vault")
        verbose_name_plural = _("vaults")
        constraints = [models.CheckConstraint(condition=Q(number=1), name="vaults_only_one")]

    def __str__(self) -> str:
        return str(self.pk)


class StorageMark(models.Model):
    """The last look at a storage's mark (``uploads.objects.marks``). ``number`` is the newest that this database wrote
    or was about to write. In states other than ``OURS``, nothing is removed or stored there.
    """

    class State(models.TextChoices):
        OURS = "ours", _("Belongs to this vault")
        ANOTHER_VAULT = "another_vault", _("Belongs to another vault")
        ANOTHER_ALIAS = "another_alias", _("Is the same place as another storage")
        UNKNOWN_OBJECTS = "unknown_objects", _("Holds files that this database does not know")
        EMPTIED = "emptied", _("Is empty, though files should lie there")
        UNREADABLE = "unreadable", _("Has a mark that cannot be read")

    alias = models.CharField(_("storage"), max_length=50, unique=True, editable=False)
    state = models.CharField(_("state"), max_length=20, choices=State, editable=False)
    number = models.PositiveBigIntegerField(_("number of the mark"), default=0, editable=False)
    details = models.JSONField(_("details"), default=dict, editable=False)
    state_since = models.DateTimeField(_("in this state since"), editable=False)
    checked_at = models.DateTimeField(_("last looked at"), null=True, editable=False)
    renewed_at = models.DateTimeField(_("mark renewed at"), null=True, editable=False)
    grace_from = models.DateTimeField(
        _("grace periods begin at"),
        null=True,
        editable=False,
        help_text=_("No grace period in this storage began before this time. Empty: no such limit."),
    )

    class Meta:
        db_table = "storage_marks"
        ordering = ["alias"]
        verbose_name = _("mark of a storage")
        verbose_name_plural = _("marks of storages")
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=[
                        "ours", "another_vault", "another_alias", "unknown_objects", "emptied", "unreadable",
                    ]
                ),
                name="storage_marks_state_known",
            )
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.alias


class HeldRemoval(models.Model):
    """A sweep's removal that was too large for a storage or workspace, and the decision of staff.

    ::

        asked -> allowed -> finished        asked or declined -> finished, when nothing of it is due any more
              -> declined -> allowed

    It covers at most ``count`` objects, which were due by ``covers_until`` in the sweep's own measure (in the trash
    since, uploaded, first seen as an orphan).
    """

    class Sweep(models.TextChoices):
        EXPIRY = "expiry", _("Expired files to the trash")
        TRASH = "trash", _("Purge of the trash")
        ORPHANS = "orphans", _("Removal of orphaned objects")

    class State(models.TextChoices):
        ASKED = "asked", _("Waits for an answer")
        ALLOWED = "allowed", _("Allowed")
        DECLINED = "declined", _("Declined")
        FINISHED = "finished", _("Finished")

    sweep = models.CharField(_("sweep"), max_length=20, choices=Sweep, editable=False)
    storage_provider = models.CharField(_("storage"), max_length=50, blank=True, editable=False)
    workspace = models.ForeignKey(
        Workspace,
        verbose_name=_("workspace"),
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        editable=False,
    )
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.ASKED, editable=False)
    count = models.PositiveBigIntegerField(_("would remove"), editable=False)
    total = models.PositiveBigIntegerField(_("out of"), editable=False)
    covers_until = models.DateTimeField(_("covers until"), editable=False)
    asked_at = models.DateTimeField(_("asked at"), default=timezone.now, editable=False)
    answered_at = models.DateTimeField(_("answered at"), null=True, editable=False)
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("answered by"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        editable=False,
    )

    class Meta:
        db_table = "held_removals"
        ordering = ["-asked_at", "-id"]
        verbose_name = _("held removal")
        verbose_name_plural = _("held removals")
        constraints = [
            models.UniqueConstraint(
                fields=["sweep", "storage_provider"],
                condition=Q(workspace=None) & ~Q(state="finished"),
                name="held_removals_one_of_a_storage",
            ),
            models.UniqueConstraint(
                fields=["sweep", "storage_provider", "workspace"],
                condition=Q(workspace__isnull=False) & ~Q(state="finished"),
                name="held_removals_one_of_a_workspace",
            ),
        ]
        indexes = [models.Index(fields=["-asked_at", "-id"], name="held_removals_newest")]

    def __str__(self) -> str:
        return f"{self.get_sweep_display()}: {self.count}"

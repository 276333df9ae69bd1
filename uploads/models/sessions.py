"""Uploads over several requests, or at another address."""

import uuid

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from objectstore.capabilities import DirectUpload
from quotas.models import Workspace
from quotas.rights import Right
from uploads.models.files import AudioUpload
from uploads.models.states import Status


class UploadSessionQuerySet(models.QuerySet["UploadSession"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "UploadSessionQuerySet":
        workspaces = Workspace.objects.where(user, Right.VIEW_FILES)
        return self.filter(upload__workspace__in=workspaces).exclude(upload__status=Status.PURGED)

    def direct(self) -> "UploadSessionQuerySet":
        return self.filter(kind=UploadSession.Kind.DIRECT)

    def under_way(self) -> "UploadSessionQuerySet":
        return self.filter(upload__status=Status.RECEIVING)

    def ended(self) -> "UploadSessionQuerySet":
        """Kept so that a lost response can be requested again."""
        return self.exclude(upload__status=Status.RECEIVING)


class UploadSession(models.Model):
    """An upload in progress, beside its ``receiving`` row.

    ``handle`` may suffice to write the object: never shown, and removed on arrival. Deleted with the row, or at
    ``expires_at`` after the arrival.
    """

    class Kind(models.TextChoices):
        DIRECT = "direct", _("Direct to the bucket")

    class Method(models.TextChoices):
        PARTS = "parts", _("Parts")
        SESSION = "session", _("Resumable session")
        STAGED = "staged", _("Staged object")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind, editable=False)
    upload = models.OneToOneField(
        AudioUpload, verbose_name=_("upload"), on_delete=models.CASCADE, related_name="session", editable=False
    )
    method = models.CharField(_("method"), max_length=20, choices=Method, editable=False)
    handle = models.TextField(_("reference at the provider"), blank=True, editable=False)
    part_bytes = models.PositiveBigIntegerField(
        _("part size"), editable=False, help_text=_("Bytes; 0 where the file is sent in one piece.")
    )
    sha256 = models.CharField(
        _("announced SHA-256"), max_length=64, blank=True, editable=False, help_text=_("As the client says.")
    )
    md5 = models.CharField(
        _("announced MD5"), max_length=32, blank=True, editable=False, help_text=_("As the client says.")
    )
    part_md5s = models.JSONField(
        _("MD5 of its parts"),
        default=list,
        blank=True,
        editable=False,
        help_text=_("As the storage told them when it was completed; compared with the content when that is checked."),
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), editable=False)
    claimable_at = models.DateTimeField(
        _("claimable at"),
        null=True,
        editable=False,
        help_text=_("Until then somebody is completing it; empty where nobody is."),
    )

    objects = UploadSessionQuerySet.as_manager()

    class Meta:
        db_table = "upload_sessions"
        ordering = ["-created_at", "-id"]
        verbose_name = _("upload under way")
        verbose_name_plural = _("uploads under way")
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="upload_sessions_newest"),
            models.Index(fields=["expires_at"], name="upload_sessions_by_expiry"),
        ]

    def __str__(self) -> str:
        return self.upload.original_filename

    @property
    def direct_upload(self) -> DirectUpload:
        return DirectUpload(
            method=self.method,  # type: ignore[arg-type]  # Method has the same three
            handle=self.handle,
            part_bytes=self.part_bytes,
        )

"""Uploads over several requests, or at another address."""

import uuid
from datetime import datetime

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from objectstore.capabilities import DirectUpload
from quotas.models import QuotaReservation, Workspace
from quotas.rights import Right
from uploads.models.files import AudioUpload
from uploads.models.states import Status


class UploadSessionQuerySet(models.QuerySet["UploadSession"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "UploadSessionQuerySet":
        workspaces = Workspace.objects.where(user, Right.VIEW_FILES)
        return self.filter(workspace__in=workspaces).exclude(upload__status=Status.PURGED)

    def of(self, user: AbstractBaseUser | AnonymousUser) -> "UploadSessionQuerySet":
        return self.filter(owner=user.pk)

    def direct(self) -> "UploadSessionQuerySet":
        ended = UploadSession.State.ENDED
        return self.filter(kind=UploadSession.Kind.DIRECT, upload__isnull=False).exclude(state=ended)

    def open(self) -> "UploadSessionQuerySet":
        return self.filter(state=UploadSession.State.OPEN)

    def arrived(self) -> "UploadSessionQuerySet":
        """Open sessions that have all their bytes and wait for their completion."""
        return self.open().filter(is_partial=False, received_bytes=F("size_bytes"))

    def uncleaned(self) -> "UploadSessionQuerySet":
        """Ended sessions whose bytes may still lie in the storage."""
        return self.filter(state=UploadSession.State.ENDED).exclude(handle="")

    def forgettable(self, now: datetime) -> "UploadSessionQuerySet":
        return self.exclude(state=UploadSession.State.OPEN).filter(handle="", expires_at__lt=now)


class UploadSession(models.Model):
    """An upload over several requests, of any protocol.

    ``handle`` is the storage's own reference and may be a secret. ``received_bytes`` moves only by an UPDATE that names
    the present ``writer``. Rows stay until ``expires_at``, also those that are completed or ended.
    """

    class Kind(models.TextChoices):
        DIRECT = "direct", _("Direct to the bucket")
        TUS = "tus", _("Resumable (tus)")
        CHUNKS = "chunks", _("Numbered chunks")

    class Method(models.TextChoices):
        PARTS = "parts", _("Parts")
        SESSION = "session", _("Resumable session")
        STAGED = "staged", _("Staged object")

    class State(models.TextChoices):
        OPEN = "open", _("Open")
        COMPLETED = "completed", _("Completed")
        ENDED = "ended", _("Ended")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind, editable=False)
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.OPEN, editable=False)
    error_code = models.CharField(
        _("error code"), max_length=50, blank=True, editable=False, help_text=_("Why it ended without a file.")
    )
    workspace = models.ForeignKey(
        Workspace,
        verbose_name=_("workspace"),
        on_delete=models.CASCADE,
        related_name="upload_sessions",
        editable=False,
        db_index=False,
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="upload_sessions",
        editable=False,
    )
    upload = models.OneToOneField(
        AudioUpload,
        verbose_name=_("upload"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="session",
        editable=False,
    )
    reservation = models.OneToOneField(
        QuotaReservation,
        verbose_name=_("reservation"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="session",
        editable=False,
        help_text=_("Of a partial upload; others have that of their file."),
    )
    is_partial = models.BooleanField(
        _("partial"), default=False, editable=False, help_text=_("Its bytes become a part of another upload.")
    )
    final = models.ForeignKey(
        "self",
        verbose_name=_("joined into"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="partials",
        editable=False,
        db_index=False,
    )
    final_place = models.PositiveSmallIntegerField(_("place"), null=True, editable=False)
    storage_provider = models.CharField(_("storage provider"), max_length=50, editable=False)
    storage_path = models.TextField(_("storage path"), editable=False)
    method = models.CharField(_("method"), max_length=20, choices=Method, blank=True, editable=False)
    handle = models.TextField(_("reference at the provider"), blank=True, editable=False)
    part_bytes = models.PositiveBigIntegerField(
        _("part size"), editable=False, help_text=_("Bytes; 0 where the file is sent in one piece.")
    )
    size_bytes = models.BigIntegerField(
        _("size"), null=True, editable=False, help_text=_("Bytes; empty while the client has not declared it.")
    )
    received_bytes = models.BigIntegerField(_("received"), default=0, editable=False, help_text=_("Bytes."))
    tail = models.TextField(
        _("object of the last bytes"),
        blank=True,
        editable=False,
        help_text=_("Where the bytes lie that are too few for a part."),
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
    client_metadata = models.JSONField(
        _("metadata of the client"),
        default=list,
        blank=True,
        editable=False,
        help_text=_("Pairs of a key and its value in base64."),
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    expires_at = models.DateTimeField(_("expires at"), editable=False)
    writer = models.UUIDField(_("writer"), null=True, editable=False)
    claimable_at = models.DateTimeField(
        _("claimable at"),
        null=True,
        editable=False,
        help_text=_("Until then somebody writes to it or completes it; empty where nobody does."),
    )

    objects = UploadSessionQuerySet.as_manager()

    class Meta:
        db_table = "upload_sessions"
        ordering = ["-created_at", "-id"]
        verbose_name = _("upload under way")
        verbose_name_plural = _("uploads under way")
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["open", "completed", "ended"]), name="upload_sessions_state_known"
            ),
            models.CheckConstraint(condition=Q(received_bytes__gte=0), name="upload_sessions_received_not_negative"),
            models.CheckConstraint(
                condition=Q(size_bytes__isnull=True) | Q(received_bytes__lte=F("size_bytes")),
                name="upload_sessions_received_within_size",
            ),
            models.CheckConstraint(
                condition=Q(is_partial=False) | Q(upload__isnull=True), name="upload_sessions_partial_has_no_file"
            ),
            models.CheckConstraint(
                condition=Q(is_partial=True) | ~Q(state="open") | Q(upload__isnull=False),
                name="upload_sessions_open_has_file",
            ),
            models.CheckConstraint(
                condition=~Q(state="completed") | Q(handle=""), name="upload_sessions_completed_has_no_handle"
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="upload_sessions_newest"),
            models.Index(fields=["expires_at"], name="upload_sessions_by_expiry"),
            models.Index(
                fields=["owner", "-created_at", "-id"], name="upload_sessions_open_of_owner", condition=Q(state="open")
            ),
            models.Index(fields=["workspace", "-created_at"], name="upload_sessions_of_workspace"),
            models.Index(fields=["final"], name="upload_sessions_of_final", condition=Q(final__isnull=False)),
        ]

    def __str__(self) -> str:
        return self.upload.original_filename if self.upload is not None else str(self.pk)

    @property
    def direct_upload(self) -> DirectUpload:
        return DirectUpload(
            method=self.method,  # type: ignore[arg-type]  # Method has the same three
            handle=self.handle,
            part_bytes=self.part_bytes,
        )

    @property
    def file(self) -> AudioUpload:
        """The upload of a session that has one: every open or completed session that is not partial."""
        assert self.upload is not None
        return self.upload

    @property
    def is_open(self) -> bool:
        return self.state == self.State.OPEN

    @property
    def is_whole(self) -> bool:
        """Whether all bytes arrived."""
        return self.received_bytes == self.size_bytes

    @property
    def held_reservation(self) -> QuotaReservation | None:
        return self.reservation if self.upload is None else self.upload.reservation

    @property
    def total_parts(self) -> int:
        """How many parts of ``part_bytes`` a declared size has."""
        return -(-(self.size_bytes or 0) // self.part_bytes)


class UploadPartQuerySet(models.QuerySet["UploadPart"]):
    def stored(self) -> "UploadPartQuerySet":
        return self.filter(is_stored=True).order_by("number")

    def being_written(self) -> "UploadPartQuerySet":
        return self.filter(is_stored=False, claimable_at__gt=Now())


class UploadPart(models.Model):
    """A part of a session, stored or being written: numbered from 1, all but the last of the session's part size."""

    session = models.ForeignKey(
        UploadSession, verbose_name=_("session"), on_delete=models.CASCADE, related_name="parts", db_index=False
    )
    number = models.PositiveIntegerField(_("number"))
    size_bytes = models.BigIntegerField(_("size"), help_text=_("Bytes."))
    tag = models.TextField(_("tag"), blank=True, help_text=_("The storage's name for exactly these bytes."))
    is_stored = models.BooleanField(_("stored"), default=False)
    writer = models.UUIDField(_("writer"), null=True)
    claimable_at = models.DateTimeField(_("claimable at"), null=True)

    objects = UploadPartQuerySet.as_manager()

    class Meta:
        db_table = "upload_session_parts"
        ordering = ["session", "number"]
        verbose_name = _("part of an upload")
        verbose_name_plural = _("parts of uploads")
        constraints = [
            models.UniqueConstraint(fields=["session", "number"], name="upload_session_parts_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="upload_session_parts_from_one"),
        ]

    def __str__(self) -> str:
        return f"{self.number} of {self.session_id}"

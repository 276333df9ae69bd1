"""The registry of audio files."""

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MinValueValidator
from django.db import connection, models
from django.db.models import Func, OuterRef, Q, Value
from django.db.models.functions import StrIndex
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from quotas.models import QuotaReservation, Workspace
from quotas.rights import Right, is_permitted
from uploads.models.folding import fold
from uploads.models.names import FoldedNameField
from uploads.models.objects import StoredObject
from uploads.models.states import DISCARDED, UNLISTED, WITHOUT_OBJECT, Status

#: True for each row not in UNLISTED, in a form that both databases match with an index's condition.
IN_LISTS = Q(uploaded_at__isnull=False, deleted_at__isnull=True)


class Trigrams(Func):
    """By a function from a migration."""

    function = "name_trigrams"
    output_field = ArrayField(models.TextField())


class AudioUploadQuerySet(models.QuerySet["AudioUpload"]):
    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> "AudioUploadQuerySet":
        """By role or permission."""
        shown = self.exclude(status__in=WITHOUT_OBJECT)
        if is_permitted(user, Right.VIEW_FILES):
            return shown
        return shown.filter(workspace__in=Workspace.objects.where_by_role(user, Right.VIEW_FILES))

    def first_for(self, user: AbstractBaseUser | AnonymousUser, count: int) -> "AudioUploadQuerySet":
        """The first ``count`` rows, after :meth:`visible_to`.

        PostgreSQL is asked for the first of each workspace, which an index has; otherwise it would walk through
        everybody's files by time.
        """
        if is_permitted(user, Right.VIEW_FILES) or connection.vendor != "postgresql":
            return self[:count]
        of_each = self.filter(workspace=OuterRef("pk")).values("pk")[:count]
        each = Func(ArraySubquery(of_each), function="unnest", set_returning=True)
        return self.filter(pk__in=Workspace.objects.where_by_role(user, Right.VIEW_FILES).order_by().values_list(each))[
            :count
        ]

    def in_workspace(self, workspace: Workspace) -> "AudioUploadQuerySet":
        return self.filter(workspace=workspace)

    def listed(self) -> "AudioUploadQuerySet":
        """Arrived, neither deleted nor purged."""
        return self.filter(IN_LISTS).exclude(status__in=UNLISTED)

    def named(self, part: str) -> "AudioUploadQuerySet":
        """By part of the folded name. PostgreSQL uses trigrams; SQLite, and a search for fewer than three characters,
        reads names from the newest on.
        """
        wanted = Value(fold(part))
        found = self.alias(place=StrIndex("folded_filename", wanted)).filter(place__gt=0)
        if connection.vendor != "postgresql" or len(wanted.value) < 3:
            return found
        # Only trigrams, since with a LIKE the planner would expect too few matches.
        return found.alias(trigrams=Trigrams("folded_filename")).filter(trigrams__contains=Trigrams(wanted))

    def update(self, **columns: Any) -> int:
        if "original_filename" in columns:
            columns["folded_filename"] = fold(columns["original_filename"])
        return super().update(**columns)

    update.alters_data = True  # type: ignore[attr-defined]

    def in_trash(self) -> "AudioUploadQuerySet":
        return self.filter(status=Status.DELETED)


class AudioUpload(models.Model):
    """An audio file of a workspace.

    ::

        receiving -> uploaded -> validating -> processing -> completed <-> archiving -> archived <-> restoring
                        ^            |             |
                        +---- failed +-------------+          any of them -> deleted (trash) -> purged -> no row

    ``uploads.lifecycle.transitions.TRANSITIONS`` has the details. A ``receiving`` row holds a reservation and is never
    shown. Rows of a workspace may share a stored object (``duplicate_of``); each counts in full.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Without own indexes where one that begins with them serves.
    workspace = models.ForeignKey(
        Workspace, verbose_name=_("workspace"), on_delete=models.PROTECT, related_name="uploads", db_index=False
    )
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("owner"),
        on_delete=models.SET_NULL,
        null=True,
        related_name="audio_uploads",
        db_index=False,
    )
    reservation = models.OneToOneField(
        QuotaReservation,
        verbose_name=_("reservation"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="upload",
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    # The file
    original_filename = models.CharField(
        _("original filename"), max_length=500, help_text=_("The name as the user gave it.")
    )
    folded_filename = FoldedNameField(_("name as it is searched"), default="", editable=False)
    file_size = models.BigIntegerField(
        _("file size"), editable=False, validators=[MinValueValidator(0)], help_text=_("Bytes.")
    )
    file_type = models.CharField(
        _("file type"), max_length=50, editable=False, help_text=_("The extension: mp3, wav, ...")
    )
    mime_type = models.CharField(_("mime type"), max_length=100, editable=False)
    duration = models.DecimalField(
        _("duration"), max_digits=10, decimal_places=3, null=True, editable=False, help_text=_("Seconds.")
    )
    sample_rate = models.PositiveIntegerField(_("sample rate"), null=True, editable=False, help_text=_("Hz."))
    channels = models.PositiveIntegerField(_("channels"), null=True, editable=False)
    bitrate = models.PositiveIntegerField(_("bitrate"), null=True, editable=False, help_text=_("kbit/s."))
    codec = models.CharField(_("codec"), max_length=50, blank=True, editable=False)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True, editable=False)

    # Its place: facts from the ledger, repeated here (``OBJECT_COLUMNS``)
    stored_object = models.ForeignKey(
        StoredObject,
        verbose_name=_("stored object"),
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="uploads",
        db_index=False,
    )
    thumbnail_object = models.ForeignKey(
        StoredObject,
        verbose_name=_("stored picture"),
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="pictured_uploads",
        db_index=False,
    )
    storage_provider = models.CharField(
        _("storage provider"),
        max_length=50,
        editable=False,
        help_text=_("The alias in STORAGES that holds the object."),
    )
    storage_path = models.TextField(_("storage path"), editable=False)
    storage_url = models.TextField(_("storage url"), blank=True, editable=False, help_text=_("An unsigned location."))
    storage_region = models.CharField(_("storage region"), max_length=50, blank=True, editable=False)
    storage_class = models.CharField(_("storage class"), max_length=50, blank=True, editable=False)
    thumbnail_path = models.TextField(_("thumbnail path"), blank=True, editable=False)
    checksum_md5 = models.CharField(_("checksum md5"), max_length=32, blank=True, editable=False)
    checksum_sha256 = models.CharField(_("checksum sha256"), max_length=64, blank=True, editable=False)
    encryption_key = models.ForeignKey(
        "audiotricks.EncryptionKey",
        verbose_name=_("encryption key"),
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="+",
        db_index=False,
    )
    compression_type = models.CharField(_("compression type"), max_length=20, default="none", editable=False)
    original_size = models.BigIntegerField(_("original size"), null=True, editable=False)
    compressed_size = models.BigIntegerField(_("compressed size"), null=True, editable=False)
    duplicate_of = models.ForeignKey(
        "self",
        verbose_name=_("duplicate of"),
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="duplicates",
        db_index=False,
    )

    # Its state
    status = models.CharField(_("status"), max_length=50, choices=Status, default=Status.RECEIVING, editable=False)
    legal_hold = models.BooleanField(
        _("legal hold"),
        default=False,
        help_text=_("A file on hold can be neither deleted nor purged, by anyone or anything."),
    )
    error_code = models.CharField(_("error code"), max_length=50, blank=True, editable=False)
    error_message = models.TextField(_("error message"), blank=True, editable=False)
    retry_count = models.PositiveIntegerField(_("retry count"), default=0, editable=False)
    max_retries = models.PositiveIntegerField(_("max retries"), default=3, editable=False)
    claimable_at = models.DateTimeField(
        _("claimable at"),
        default=timezone.now,
        editable=False,
        help_text=_("No worker takes the row before this time: a running one keeps moving it ahead."),
    )
    uploaded_at = models.DateTimeField(_("uploaded at"), null=True, editable=False)
    validation_started_at = models.DateTimeField(_("validation started at"), null=True, editable=False)
    validation_completed_at = models.DateTimeField(_("validation completed at"), null=True, editable=False)
    processing_started_at = models.DateTimeField(_("processing started at"), null=True, editable=False)
    processing_completed_at = models.DateTimeField(_("processing completed at"), null=True, editable=False)
    verified_at = models.DateTimeField(
        _("verified at"),
        null=True,
        editable=False,
        help_text=_("When the stored bytes were last read again, and found whole."),
    )
    failed_at = models.DateTimeField(_("failed at"), null=True, editable=False)
    archiving_started_at = models.DateTimeField(_("archiving started at"), null=True, editable=False)
    archived_at = models.DateTimeField(_("archived at"), null=True, editable=False)
    restoring_started_at = models.DateTimeField(_("restoring started at"), null=True, editable=False)
    restore_expires_at = models.DateTimeField(_("restore expires at"), null=True, editable=False)
    deleted_at = models.DateTimeField(_("deleted at"), null=True, editable=False)
    purged_at = models.DateTimeField(_("purged at"), null=True, editable=False)

    objects = AudioUploadQuerySet.as_manager()

    #: Columns that repeat facts from the ledger, for each foreign key.
    OBJECT_COLUMNS: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "stored_object": {
            column: column
            for column in (
                *("storage_provider", "storage_path", "storage_url", "storage_region", "storage_class"),
                *("checksum_md5", "checksum_sha256", "encryption_key"),
                *("compression_type", "original_size", "compressed_size"),
            )
        },
        "thumbnail_object": {"thumbnail_path": "storage_path"},
    }

    class Meta:
        db_table = "audio_uploads"
        ordering = ["-uploaded_at", "-id"]
        verbose_name = _("audio upload")
        verbose_name_plural = _("audio uploads")
        constraints = [
            models.CheckConstraint(condition=Q(file_size__gte=0), name="audio_uploads_file_size_not_negative"),
            models.CheckConstraint(
                condition=Q(duration__isnull=True) | Q(duration__gte=0), name="audio_uploads_duration_not_negative"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="audio_uploads_status_known"),
            models.CheckConstraint(
                condition=Q(status=Status.RECEIVING) | Q(uploaded_at__isnull=False),
                name="audio_uploads_arrived_has_time",
            ),
            models.CheckConstraint(
                condition=Q(legal_hold=False) | ~Q(status__in=DISCARDED),
                name="audio_uploads_hold_is_kept",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.PURGED) | Q(stored_object__isnull=False), name="audio_uploads_owns_object"
            ),
        ]
        # A transition writes to each index, since some contain ``status``, so rare filters have none. No index contains
        # ``claimable_at``, so that PostgreSQL renews a lease without new entries (HOT). SQLite's planner uses a
        # condition only in the same form, and never one with a negation or a list of values.
        indexes = [
            models.Index(fields=["-uploaded_at", "-id"], name="audio_uploads_all"),
            models.Index(fields=["owner", "-uploaded_at", "-id"], name="audio_uploads_by_owner"),
            models.Index(fields=["workspace", "status", "-uploaded_at", "-id"], name="audio_uploads_by_status"),
            models.Index(fields=["status", "-uploaded_at", "-id"], name="audio_uploads_in_state"),
            # Orders of a workspace's list.
            models.Index(fields=["workspace", "-uploaded_at", "-id"], name="audio_uploads_listed", condition=IN_LISTS),
            models.Index(
                fields=["workspace", "original_filename", "id"], name="audio_uploads_by_name", condition=IN_LISTS
            ),
            models.Index(
                # Includes the state, so that a sum over a workspace reads only the index.
                fields=["workspace", "file_size", "id", "status"],
                name="audio_uploads_by_size",
                condition=IN_LISTS,
            ),
            models.Index(fields=["checksum_sha256", "workspace"], name="audio_uploads_by_sha256"),
            models.Index(fields=["checksum_md5"], name="audio_uploads_by_md5"),
            # Foreign keys: the owners of an object.
            models.Index(
                fields=["stored_object", "uploaded_at", "id"],
                name="audio_uploads_by_object",
                condition=Q(stored_object__isnull=False),
            ),
            models.Index(
                fields=["thumbnail_object"],
                name="audio_uploads_by_thumbnail",
                condition=Q(thumbnail_object__isnull=False),
            ),
            # Few files each.
            models.Index(fields=["deleted_at"], name="audio_uploads_trash", condition=Q(status=Status.DELETED)),
            models.Index(
                fields=["workspace", "-deleted_at", "-id"],
                name="audio_uploads_trash_of",
                condition=Q(status=Status.DELETED),
            ),
            models.Index(
                fields=["error_code", "-uploaded_at", "-id"],
                name="audio_uploads_by_error",
                condition=Q(status=Status.FAILED),
            ),
            models.Index(fields=["-uploaded_at", "-id"], name="audio_uploads_held", condition=Q(legal_hold=True)),
            models.Index(
                fields=["-uploaded_at", "-id"],
                name="audio_uploads_duplicates",
                condition=Q(duplicate_of__isnull=False),
            ),
            models.Index(
                fields=["duplicate_of"], name="audio_uploads_by_original", condition=Q(duplicate_of__isnull=False)
            ),
            models.Index(
                fields=["encryption_key"], name="audio_uploads_by_key", condition=Q(encryption_key__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.original_filename

    @property
    def facts(self) -> dict[str, int | str]:
        return {"size": self.file_size, "sha256": self.checksum_sha256, "md5": self.checksum_md5}

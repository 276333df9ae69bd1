"""The ledger: a row for each object written or found."""

from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, When
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from objectstore import get_storage


def foreign_keys_to_objects() -> Iterator[Any]:
    """Of all installed apps: their rows are owners."""
    for relation in StoredObject._meta.get_fields(include_hidden=True):
        if relation.auto_created and not relation.concrete and isinstance(relation, models.ManyToOneRel):
            yield relation.field


def has_owner() -> Q:
    """The definition of "needed"."""
    rows = (
        Exists(field.model._base_manager.filter(**{field.name: OuterRef("pk")})) for field in foreign_keys_to_objects()
    )
    return reduce(or_, map(Q, rows))


class StoredObjectQuerySet(models.QuerySet["StoredObject"]):
    def owned(self) -> "StoredObjectQuerySet":
        return self.filter(has_owner())

    def without_owner(self) -> "StoredObjectQuerySet":
        return self.filter(~has_owner())

    def unneeded(self) -> "StoredObjectQuerySet":
        """In their grace period."""
        return self.filter(unneeded_since__isnull=False)

    def begin_grace_anew(self) -> int:
        """After a restore, since lost rows may have needed them."""
        removing = When(state=StoredObject.State.REMOVING, then=models.Value(StoredObject.State.STORED))
        return self.unneeded().update(unneeded_since=Now(), state=Case(removing, default=F("state")))

    begin_grace_anew.alters_data = True  # type: ignore[attr-defined]


class StoredObject(models.Model):
    """An object in a storage. Its row exists before its bytes and goes after them.

    Owners have a foreign key with ``PROTECT``. ``unneeded_since``, from which the grace period counts, is empty exactly
    when there is an owner. Owners change only under the row's lock (``uploads.objects.ledger``). Size and checksums are
    those of the stored bytes; ``original_size`` is before compression.
    """

    class State(models.TextChoices):
        WRITING = "writing", _("Being written")
        STORED = "stored", _("Stored")
        REMOVING = "removing", _("Being removed")

    class Kind(models.TextChoices):
        AUDIO = "audio", _("Audio")
        THUMBNAIL = "thumbnail", _("Picture")

    storage_provider = models.CharField(_("storage provider"), max_length=50, editable=False)
    storage_path = models.TextField(_("storage path"), editable=False)
    kind = models.CharField(_("kind"), max_length=20, choices=Kind, editable=False)
    state = models.CharField(_("state"), max_length=20, choices=State, default=State.WRITING, editable=False)
    size_bytes = models.BigIntegerField(_("size"), editable=False, help_text=_("Bytes."))
    checksum_sha256 = models.CharField(_("checksum sha256"), max_length=64, blank=True, editable=False)
    checksum_md5 = models.CharField(_("checksum md5"), max_length=32, blank=True, editable=False)
    storage_class = models.CharField(_("storage class"), max_length=50, blank=True, editable=False)
    storage_region = models.CharField(_("storage region"), max_length=50, blank=True, editable=False)
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
    written_at = models.DateTimeField(_("written at"), null=True, editable=False)
    verified_at = models.DateTimeField(
        _("verified at"),
        null=True,
        editable=False,
        help_text=_("When the stored bytes were last read again, and found whole."),
    )
    unneeded_since = models.DateTimeField(
        _("unneeded since"), null=True, editable=False, help_text=_("Empty while a file needs it.")
    )

    objects = StoredObjectQuerySet.as_manager()

    class Meta:
        db_table = "stored_objects"
        ordering = ["-id"]
        verbose_name = _("stored object")
        verbose_name_plural = _("stored objects")
        constraints = [
            models.UniqueConstraint(fields=["storage_provider", "storage_path"], name="stored_objects_once"),
            models.CheckConstraint(
                condition=Q(state__in=["writing", "stored", "removing"]), name="stored_objects_state_known"
            ),
            models.CheckConstraint(condition=Q(size_bytes__gte=0), name="stored_objects_size_not_negative"),
            models.CheckConstraint(
                condition=~Q(state="removing") | Q(unneeded_since__isnull=False),
                name="stored_objects_removing_unneeded",
            ),
        ]
        indexes = [
            models.Index(
                fields=["-unneeded_since", "-id"],
                name="stored_objects_unneeded",
                condition=Q(unneeded_since__isnull=False),
            ),
            models.Index(fields=["checksum_sha256"], name="stored_objects_by_sha256", condition=~Q(checksum_sha256="")),
        ]

    def __str__(self) -> str:
        return self.storage_path

    @property
    def storage_url(self) -> str:
        return get_storage(self.storage_provider).location_of(self.storage_path)

    @property
    def compressed_size(self) -> int | None:
        return None if self.compression_type == "none" else self.size_bytes

    @property
    def facts(self) -> dict[str, int | str]:
        return {"size": self.size_bytes, "sha256": self.checksum_sha256, "md5": self.checksum_md5}

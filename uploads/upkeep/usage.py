"""Sums over rows, and repair of quota counters."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce

from audiotricks.batches import batched
from audiotricks.database import let_others_write
from objectstore import default_alias, get_storage
from quotas.models import QuotaReservation, StorageQuota
from uploads.models import AudioUpload, StoredObject

log = structlog.get_logger(__name__)

BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class Drift:
    """Each pair is (counted, actual)."""

    workspace_id: str
    current_storage_bytes: tuple[int, int]
    current_file_count: tuple[int, int]
    reserved_bytes: tuple[int, int]
    reserved_files: tuple[int, int]


def recalculate(workspaces: QuerySet[StorageQuota] | None = None) -> list[Drift]:
    """Set quota counters to the sums over the files, and report each drift.

    Locks a batch of quota rows, by id, as changes of counters do, so the sums are exact. Monthly counters are left
    alone.
    """
    quotas = StorageQuota.objects.all() if workspaces is None else workspaces
    drifts: list[Drift] = []
    for ids in _batches(quotas):
        drifts += _recalculate_batch(ids)
        let_others_write()
    for drift in drifts:
        log.warning("quota_drift_repaired", **asdict(drift))
    return drifts


def _batches(quotas: QuerySet[StorageQuota]) -> Iterator[list[int]]:
    return batched(quotas.order_by("pk").values_list("pk", flat=True).iterator(chunk_size=BATCH_SIZE), BATCH_SIZE)


def _recalculate_batch(ids: list[int]) -> list[Drift]:
    with transaction.atomic():
        quotas = list(StorageQuota.objects.select_for_update().filter(pk__in=ids).order_by("pk"))
        owners = [quota.workspace_id for quota in quotas]
        stored = _sums(AudioUpload.objects.listed().filter(workspace__in=owners), "file_size", Count("pk"))
        reserved = _sums(QuotaReservation.objects.filter(workspace__in=owners), "bytes", Sum("files"))
        drifts = []
        for quota in quotas:
            actual = {}
            actual["current_storage_bytes"], actual["current_file_count"] = stored.get(quota.workspace_id, (0, 0))
            actual["reserved_bytes"], actual["reserved_files"] = reserved.get(quota.workspace_id, (0, 0))
            counted = {name: getattr(quota, name) for name in actual}
            if counted != actual:
                StorageQuota.objects.filter(pk=quota.pk).update(**actual)
                drifts.append(
                    Drift(str(quota.workspace_id), **{name: (counted[name], actual[name]) for name in actual})
                )
    return drifts


def _sums(rows: QuerySet, column: str, files: Count | Sum) -> dict[UUID, tuple[int, int]]:  # type: ignore[type-arg]
    totals = rows.order_by().values("workspace_id").annotate(bytes_sum=Coalesce(Sum(column), 0), files_sum=files)
    return {row["workspace_id"]: (row["bytes_sum"], row["files_sum"]) for row in totals}


def storage_stats() -> dict[str, Any]:
    """With the space on the default storage's disk."""
    alias = default_alias()
    space = get_storage(alias).space()
    counted = AudioUpload.objects.listed().aggregate(files=Count("pk"), size=Coalesce(Sum("file_size"), 0))
    trash = AudioUpload.objects.in_trash().aggregate(files=Count("pk"), size=Coalesce(Sum("file_size"), 0))
    needed = StoredObject.objects.filter(kind=StoredObject.Kind.AUDIO, state=StoredObject.State.STORED)
    objects = needed.filter(unneeded_since=None).aggregate(files=Count("pk"), total=Coalesce(Sum("size_bytes"), 0))
    return {
        "storage": alias,
        "disk": asdict(space) if space else None,
        "file_count": counted["files"],
        "total_bytes": counted["size"],
        "object_count": objects["files"],
        "object_bytes": objects["total"],
        "trash_count": trash["files"],
        "trash_bytes": trash["size"],
    }

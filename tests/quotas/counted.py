"""Quotas and what they count, for tests of their arithmetic."""

from typing import Any

from django.db import transaction

from quotas.models import QuotaReservation, StorageQuota, Workspace
from quotas.reservations import settle_reservation
from tests.factories import StorageQuotaFactory


def workspace_with(**columns: Any) -> Workspace:
    return StorageQuotaFactory(**columns).workspace


def counters(workspace: Workspace) -> dict[str, int]:
    names = ("current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files")
    names += ("monthly_uploads", "monthly_upload_bytes")
    row = StorageQuota.objects.values(*names).get(workspace=workspace)
    return {name: value for name, value in row.items() if value}


def settle(reservation: QuotaReservation, *, size_bytes: int) -> bool:
    with transaction.atomic():
        return settle_reservation(reservation, size_bytes=size_bytes)

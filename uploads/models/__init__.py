"""The tables, and reads that chain."""

from uploads.models.bulk import Action, BulkAction, BulkActionItem
from uploads.models.conditions import ProcessingTurn, StorageCondition
from uploads.models.files import HIDDEN, IN_WORK, UNLISTED, AudioUpload, AudioUploadQuerySet, Status
from uploads.models.records import OrphanedObject, UploadEvent
from uploads.models.sessions import UploadSession
from uploads.models.vault import HeldRemoval, StorageMark, Vault

__all__ = [
    "HIDDEN",
    "IN_WORK",
    "UNLISTED",
    "Action",
    "AudioUpload",
    "AudioUploadQuerySet",
    "BulkAction",
    "BulkActionItem",
    "HeldRemoval",
    "OrphanedObject",
    "ProcessingTurn",
    "Status",
    "StorageCondition",
    "StorageMark",
    "UploadEvent",
    "UploadSession",
    "Vault",
]

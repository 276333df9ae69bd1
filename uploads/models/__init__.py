from uploads.models.bulk import BulkAction, BulkActionItem
from uploads.models.conditions import ProcessingTurn, StorageCondition
from uploads.models.files import AudioUpload, AudioUploadQuerySet
from uploads.models.records import OrphanedObject, UploadEvent
from uploads.models.sessions import UploadSession
from uploads.models.states import Status
from uploads.models.vault import HeldRemoval, StorageMark, Vault

__all__ = [
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

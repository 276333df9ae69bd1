from uploads.models.bulk import BulkAction, BulkActionItem
from uploads.models.conditions import ProcessingTurn, StorageCondition
from uploads.models.files import AudioUpload, AudioUploadQuerySet
from uploads.models.objects import StoredObject
from uploads.models.records import UploadEvent
from uploads.models.sessions import UploadPart, UploadSession
from uploads.models.states import Status
from uploads.models.vault import HeldRemoval, StorageMark, Vault

__all__ = [
    "AudioUpload",
    "AudioUploadQuerySet",
    "BulkAction",
    "BulkActionItem",
    "HeldRemoval",
    "ProcessingTurn",
    "Status",
    "StorageCondition",
    "StorageMark",
    "StoredObject",
    "UploadEvent",
    "UploadPart",
    "UploadSession",
    "Vault",
]

from typing import TYPE_CHECKING, Any

from ..base import Availability
from ..capabilities import StorageClasses
from ..errors import PermanentStorageError
from .errors import code_of

if TYPE_CHECKING:
    from . import S3Storage


class S3Classes(StorageClasses):
    def __init__(self, storage: "S3Storage") -> None:
        super().__init__(storage)
        self._bucket = storage.requests

    def restore(self, name: str, *, days: int) -> None:
        """See StorageClasses. From intelligent tiering, an object returns for good."""
        stat = self._storage.stat(name)
        if stat.availability is not Availability.ARCHIVED:
            return
        request: dict[str, Any] = {"GlacierJobParameters": {"Tier": "Standard"}}
        if stat.storage_class != "INTELLIGENT_TIERING":
            request["Days"] = days
        try:
            self._bucket.ask("restore_object", name, RestoreRequest=request)
        except PermanentStorageError as error:
            if code_of(error.__cause__) != "RestoreAlreadyInProgress":
                raise

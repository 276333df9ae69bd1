from typing import TYPE_CHECKING

from azure.storage.blob import StandardBlobTier

from ..base import Availability
from ..capabilities import StorageClasses
from ..retry import call_with_retry
from .client import azure_errors

if TYPE_CHECKING:
    from .container import AzureContainer


class AzureClasses(StorageClasses):
    """A restore is permanent: ``restored_until`` is None, and ``days`` is ignored."""

    def __init__(self, container: "AzureContainer") -> None:
        super().__init__(container)
        self._container = container

    def restore(self, name: str, *, days: int) -> None:
        """See StorageClasses. Moves the object to Hot, within hours."""
        if self._storage.stat(name).availability is Availability.ARCHIVED:
            call_with_retry(self._set_tier, name, StandardBlobTier.HOT)

    def _set_tier(self, name: str, tier: StandardBlobTier) -> None:
        with azure_errors("restore", name):
            self._container.blob_client(name).set_standard_blob_tier(tier)

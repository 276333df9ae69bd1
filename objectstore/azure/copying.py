import time
from contextlib import suppress
from typing import TYPE_CHECKING

from azure.storage.blob import BlobProperties, StandardBlobTier
from django.utils.translation import gettext_lazy as _

from ..base import ObjectStat
from ..errors import ObjectNotFound, PermanentStorageError, StorageError, TransientStorageError
from ..metadata import WRITE_ID, write_id_of
from .client import azure_errors
from .container import COPY_SECONDS, stat_of

if TYPE_CHECKING:
    from . import AzureStorage

#: The limit of Copy Blob From URL: https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url
SYNCHRONOUS_COPY_BYTES = 256 * 1024**2
COPY_POLL_SECONDS = (0.1, 5.0)
UNFINISHED = ("pending", "aborted", "failed")


class Copies:
    def __init__(self, storage: "AzureStorage") -> None:
        self._storage = storage
        #: The longest wait for a copy.
        self.most_seconds = COPY_SECONDS

    def copy(
        self,
        source: str,
        target: str,
        properties: BlobProperties,
        metadata: dict[str, str],
        tier: StandardBlobTier | None,
        *,
        only_ours: bool = True,
    ) -> ObjectStat:
        """Copy this version of a blob. ``only_ours``: no other call has this write id; else a failure removes only an
        unfinished copy.
        """
        blob, write_id = self._storage.blob_client(target), metadata[WRITE_ID]
        options = {"metadata": metadata, "standard_blob_tier": tier}
        self._storage.make(target, write_id, self._storage.start_copy, source, blob, str(properties.etag), **options)
        try:
            copied = stat_of(target, self.finished(target))
            if copied.size != properties.size:
                raise PermanentStorageError(_("The copy is not as large as the original."))
        except BaseException:
            with suppress(StorageError):
                self.discard(target, write_id, only_unfinished=not only_ours)
            raise
        return copied

    def finished(self, target: str) -> BlobProperties:
        """Raises TransientStorageError if the copy fails or takes too long."""
        deadline = time.monotonic() + self.most_seconds
        pause, longest = COPY_POLL_SECONDS
        while (properties := self._storage.properties(target)).copy.status == "pending" and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, longest)
        if properties.copy.status not in (None, "success"):
            raise TransientStorageError(_("The storage did not finish a copy."))
        return properties

    def discard(self, name: str, write_id: str, *, only_unfinished: bool = False) -> None:
        """Remove the blob of this write. ``only_unfinished`` leaves a finished copy, which a row may own by now."""
        try:
            properties = self._storage.properties(name)
        except ObjectNotFound:
            return
        if write_id_of(properties.metadata or {}) != write_id:
            return
        if only_unfinished and properties.copy.status not in UNFINISHED:
            return
        if properties.copy.status == "pending":
            # A copy that has finished meanwhile cannot be aborted, but can be removed.
            with suppress(StorageError), azure_errors("copy", name):
                self._storage.blob_client(name).abort_copy(str(properties.copy.id))
            self._storage.delete(name)
        else:
            self._storage.delete(name, seen=stat_of(name, properties))

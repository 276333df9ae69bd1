"""Blobs of Azure that are written over several requests, as blocks.

https://learn.microsoft.com/rest/api/storageservices/put-block. Blocks of a blob that is never made are dropped by Azure
after seven days.
"""

import math
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from azure.storage.blob import BlobBlock
from django.conf import settings

from ..base import ObjectStat
from ..capabilities import IsMine, Parts, StoredPart
from ..content import Metadata
from ..errors import NotMine, PartsDiffer, TransientStorageError
from ..metadata import encode_metadata
from ..retry import call_with_retry
from .client import BlocksGone
from .container import METADATA_BYTES

if TYPE_CHECKING:
    from . import AzureStorage

MOST_BLOCKS = 50_000
MOST_BLOCK_BYTES = 4000 * 1024**2


class AzureParts(Parts):
    """The handle is the write id of the blob; the tag of a part is the id of its block, new for each attempt."""

    most_parts = MOST_BLOCKS
    most_bytes = MOST_BLOCKS * MOST_BLOCK_BYTES

    def __init__(self, storage: "AzureStorage") -> None:
        super().__init__(storage)
        self._azure = storage

    def part_bytes(self, size_bytes: int | None) -> int:
        return max(settings.STORAGE_PART_BYTES, math.ceil((size_bytes or 0) / MOST_BLOCKS))

    def begin(
        self, name: str, *, size_bytes: int | None, part_bytes: int, content_type: str, metadata: Metadata
    ) -> str:
        self._azure.check_name(name)
        return secrets.token_hex(8)

    def write(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        if not is_mine():
            raise NotMine
        # All ids of a blob have one length, of 64 bytes at most.
        tag = f"{handle}-{number:05}-{secrets.token_hex(8)}"
        call_with_retry(self._azure.put_block, self._azure.blob_client(name), tag, bytearray(data))
        return tag

    def complete(
        self,
        name: str,
        handle: str,
        parts: Sequence[StoredPart],
        *,
        size_bytes: int,
        part_bytes: int,
        content_type: str,
        metadata: Metadata,
    ) -> ObjectStat:
        options = {
            "content_settings": self._azure.content_settings(content_type),
            "metadata": encode_metadata(metadata(), handle, most_bytes=METADATA_BYTES),
            "standard_blob_tier": self._azure.tier_named(""),
            **self._azure.scope_options(),
        }
        blocks = [BlobBlock(part.tag) for part in parts]
        blob = self._azure.blob_client(name)
        try:
            self._azure.make(name, handle, self._azure.put_block_list, blob, blocks, **options)
        except TransientStorageError as error:
            if isinstance(error.__cause__, BlocksGone):
                raise PartsDiffer from error
            raise
        return self._azure.stat(name)

    def abort(self, name: str, handle: str) -> None:
        if self._azure.is_ours(name, handle):
            self._azure.delete(name)

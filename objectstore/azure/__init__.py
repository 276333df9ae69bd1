"""Objects as block blobs of Azure Blob Storage.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api. A larger object is sent as blocks with
random ids, and Put Block List makes the blob with ``If-None-Match: *``. All writers of a name share its uncommitted
blocks, which Azure drops when one of them makes the blob, or after a week.
"""

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from azure.storage.blob import BlobBlock
from django.conf import settings
from django.core.files.base import File

from ..base import Availability, ObjectStat
from ..content import NewObject, Piece, StreamedContent, expected_bytes_of
from ..errors import ObjectArchived, ObjectExists, ObjectNotFound, TransientStorageError
from ..metadata import decode_metadata, encode_metadata, write_id_of
from ..names import is_valid_name
from ..parts import PartReader, send_parts
from ..remote import Body, checked_body
from ..retry import call_with_retry
from .classes import AzureClasses
from .client import BlocksGone, azure_errors
from .container import METADATA_BYTES, AzureContainer, availability_of, stat_of
from .control import AzureContainerControl
from .copying import SYNCHRONOUS_COPY_BYTES, Copies
from .direct_uploads import STAGED, STAGING, AzureDirectUploads
from .parts import MOST_BLOCKS, AzureParts
from .rules import AzureRules
from .signing import AzureSigner

#: An object of at most this size is one request, during which its bytes are in memory twice.
PUT_BLOB_BYTES = 8 * 1024**2


class AzureStorage(AzureContainer):
    """A container of a storage account.

    Options are those of django-storages (``account_name``, ``account_key``, ``azure_container``, ``token_credential``,
    ``connection_string``, ``endpoint_suffix``, ``azure_ssl``, ``cache_control``, ``object_parameters``,
    ``client_options``, ``api_version``) and ``region``, ``endpoint_url`` (the account's; for an emulator with the
    account in its path), ``public_endpoint_url`` (the same for clients), ``encryption_scope``, ``access_tier``
    (default: the account's), ``subscription_id`` and ``resource_group``. Without a key, azure-identity looks for
    credentials, and URLs are signed with a user delegation key.
    """

    direct: AzureDirectUploads
    bucket: AzureContainerControl

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.copies = Copies(self)
        self.parts = AzureParts(self)
        self.direct = AzureDirectUploads(self)
        # A shared access signature cannot sign.
        self.signer = AzureSigner(self) if self.can_sign else None
        self.classes = AzureClasses(self)
        self.rules = AzureRules(self)
        self.bucket = AzureContainerControl(self)

    def _write(self, name: str, content: "File[Any]", wanted: NewObject) -> None:
        """See AudioStorage. The service compares the MD5 of each request."""
        blob = self.blob_client(name)
        tier = self.tier_named(wanted.storage_class)
        write_id = secrets.token_hex(16)
        expected_bytes = expected_bytes_of(content)
        part_bytes = max(settings.STORAGE_PART_BYTES, math.ceil(expected_bytes / MOST_BLOCKS))
        parallel = settings.STORAGE_PARALLEL_PARTS
        md5 = hashlib.md5(usedforsecurity=False)
        grows_after = 0 if expected_bytes else MOST_BLOCKS // 10
        pieces = StreamedContent(digested(content.chunks(), md5))
        with PartReader(pieces, part_bytes, parallel, grows_after=grows_after) as reader:
            first = reader.next_part()
            send: Callable[..., None]
            body: bytes | list[BlobBlock]
            if reader.ended and len(first) <= PUT_BLOB_BYTES:
                send, body = self.put_blob, bytes(first)
            else:

                def put_block(number: int, part: bytearray) -> BlobBlock:
                    return call_with_retry(self.put_block, blob, f"{write_id}-{number:05}", part)

                send, body = self.put_block_list, send_parts(reader, first, put_block, parallel=parallel)
        options = {
            "content_settings": self.content_settings(wanted.content_type, md5.digest()),
            "metadata": encode_metadata(wanted.metadata(), write_id, most_bytes=METADATA_BYTES),
            "standard_blob_tier": tier,
            **self.scope_options(),
        }
        self.make(name, write_id, send, blob, body, **options)

    def stat(self, name: str) -> ObjectStat:
        return stat_of(name, self.properties(name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        blob = self.blob_client(stat.name)
        with azure_errors("read", stat.name):
            # download_blob would read blocks of many MiB before it returns any bytes.
            stream: Any = blob._client.blob.download(
                range=f"bytes={start}-{start + length - 1}",
                headers={"If-Match": stat.version},
                decompress=False,
            )
        response = stream.response.internal_response
        take = partial(response.raw.read, decode_content=False)
        return checked_body(
            Body(take, response.close, partial(azure_errors, "read", stat.name)),
            stat,
            start,
            length,
            version=response.headers.get("ETag", stat.version),
            status=response.status_code,
            content_range=response.headers.get("Content-Range", ""),
        )

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        """See AudioStorage. Azure copies within the account, except a large object with an encryption scope."""
        self.check_name(target)
        properties = self.properties(source)
        if availability_of(properties) is not Availability.READABLE:
            raise ObjectArchived
        if self.encryption_scope and properties.size > SYNCHRONOUS_COPY_BYTES:
            return self._copy_through_here(stat_of(source, properties), target, storage_class)
        kept = decode_metadata(properties.metadata or {})
        metadata = encode_metadata(kept, secrets.token_hex(16), most_bytes=METADATA_BYTES)
        return self.copies.copy(source, target, properties, metadata, self.tier_named(storage_class))

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        with suppress(ObjectNotFound):
            call_with_retry(self.delete_blob, self.blob_client(name), name, version=(seen or self.stat(name)).version)
        self._purge(name)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """See AudioStorage. Includes access tiers."""
        return (stat for stat in super().list(prefix) if not stat.name.startswith(STAGING))

    def location_of(self, name: str) -> str:
        self.check_name(name)
        return f"{self.endpoint}/{self.azure_container}/{self.folder}{name}"

    def remove_partials(self, older_than: datetime, *, sessions_older_than: datetime | None = None) -> int:
        """See AudioStorage: what clients sent to the staging folder and did not complete, and tails. Azure itself drops
        uncommitted blocks after a week.
        """
        before = sessions_older_than or older_than
        removed = 0
        for stat in self._list(STAGING):
            if STAGED.fullmatch(stat.name) and stat.modified_at < before:
                # A blob that was sent anew since the listing stays.
                with suppress(ObjectNotFound):
                    self.direct.remove_staged(stat.name, version=stat.version)
                    removed += 1
        return removed + self._remove_session_objects(before)

    # Operations of several requests

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        token: str | None = None
        while True:
            page, token = call_with_retry(self._page, prefix, token)
            named = ((blob.name.removeprefix(self.folder), blob) for blob in page)
            yield from (stat_of(name, blob) for name, blob in named if is_valid_name(name))
            if not token:
                return

    def make(self, name: str, write_id: str, send: Callable[..., None], *args: Any, **options: Any) -> None:
        """Call ``send`` by the retry policy. The write id shows an object of ours whose response was lost."""
        try:
            call_with_retry(send, *args, **options)
        except (ObjectExists, BlocksGone, TransientStorageError) as error:
            try:
                there = self.properties(name)
            except ObjectNotFound:
                if isinstance(error, TransientStorageError):
                    raise error from error.__cause__
                # The sources were refused: blocks are gone, or the source of a copy has changed.
                raise TransientStorageError from error
            if write_id_of(there.metadata or {}) != write_id:
                raise ObjectExists from error

    def is_ours(self, name: str, write_id: str) -> bool:
        try:
            return write_id_of(self.properties(name).metadata or {}) == write_id
        except ObjectNotFound:
            return False

    def _copy_through_here(self, stat: ObjectStat, target: str, storage_class: str) -> ObjectStat:
        self.save(
            target,
            StreamedContent(self._pieces_of([stat.name]), expected_bytes=stat.size),
            content_type=stat.content_type,
            metadata=lambda: stat.metadata,
            storage_class=storage_class,
        )
        return self._stat_of_new(target, size_bytes=stat.size)


def digested(pieces: Iterable[Piece], digest: "hashlib._Hash") -> Iterator[Piece]:
    for piece in pieces:
        digest.update(piece)
        yield piece

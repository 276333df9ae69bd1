"""Clients send blobs to a staging folder; completing copies them from there."""

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from azure.storage.blob import BlobClient, BlobLeaseClient, BlobSasPermissions, ContentSettings
from django.utils.translation import gettext_lazy as _

from ..base import ObjectStat
from ..capabilities import DirectUpload, DirectUploads, OnParts, SignedRequest
from ..content import Metadata
from ..errors import DirectUploadIncomplete, DirectUploadUnsupported, ObjectNotFound, TransientStorageError
from ..metadata import encode_metadata
from ..retry import call_with_retry
from .client import BlobLeased, azure_errors
from .container import METADATA_BYTES
from .copying import SYNCHRONOUS_COPY_BYTES

if TYPE_CHECKING:
    from . import AzureStorage

#: Contains only what clients sent; a blob here is not an object yet.
STAGING = "staging/"
STAGED = re.compile(r"staging/[0-9a-f]{32}/[^/]+")


class AzureDirectUploads(DirectUploads):
    def __init__(self, storage: "AzureStorage") -> None:
        self._storage = storage

    def begin(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """See DirectUploads. An empty staging blob distinguishes a new upload from an aborted one."""
        self._storage.check_name(name)
        if not self._storage.can_sign:
            raise DirectUploadUnsupported(
                _("AudioTricks has a shared access signature for this storage, and can sign nothing for clients.")
            )
        self._storage.bucket.refuse_lock()
        if self._storage.encryption_scope and size_bytes > SYNCHRONOUS_COPY_BYTES:
            # It could not be copied out of the staging folder.
            raise DirectUploadUnsupported(_("This file is larger than the storage takes from a client."))
        staging = f"{STAGING}{secrets.token_hex(16)}/{name.rpartition('/')[2]}"
        call_with_retry(
            partial(
                self._storage.put_blob,
                self._storage.blob_client(staging),
                b"",
                overwrite=True,
                **self._storage.scope_options(),
            )
        )
        handle = {"staging": staging, "write_id": secrets.token_hex(16), "content_type": content_type}
        return DirectUpload("staged", json.dumps(handle), max(size_bytes, 1))

    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> Sequence[SignedRequest]:
        """See DirectUploads. One Put Blob; above 5000 MiB, clients must use blocks at the same URL."""
        handle = json.loads(direct.handle)
        if (
            self._storage.is_ours(name, handle["write_id"])
            or self._storage.properties(handle["staging"]).size == size_bytes
        ):
            return []
        url = self._storage.sign_for_clients(
            handle["staging"], BlobSasPermissions(create=True, write=True), seconds, **self._storage.scope_options()
        )
        headers = {"x-ms-blob-type": "BlockBlob"}
        if handle["content_type"]:
            headers["Content-Type"] = handle["content_type"]
        return [SignedRequest(1, "PUT", url, headers, 0, size_bytes)]

    def complete(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> ObjectStat:
        self._storage.check_name(name)
        handle = json.loads(direct.handle)
        write_id = handle["write_id"]
        if not self._is_complete(name, write_id):
            own_metadata = encode_metadata(metadata(), write_id, most_bytes=METADATA_BYTES)
            try:
                self._take(handle["staging"], name, size_bytes, own_metadata)
            except ObjectNotFound:
                # Another call may have completed it meanwhile.
                if not self._storage.is_ours(name, write_id):
                    raise
        # The copy took over the client's own properties, including an MD5 that was never compared.
        content_settings = self._storage.content_settings(handle["content_type"])
        if self._storage.properties(name).content_settings != content_settings:
            call_with_retry(self._set_content_settings, name, content_settings)
        with suppress(ObjectNotFound):
            self.remove_staged(handle["staging"])
        return self._storage.stat(name)

    def abort(self, name: str, direct: DirectUpload) -> None:
        handle = json.loads(direct.handle)
        with suppress(ObjectNotFound):
            self.remove_staged(handle["staging"])
        self._storage.copies.discard(name, handle["write_id"])

    def remove_staged(self, name: str, **options: Any) -> None:
        """Also breaks a client's lease. Raises ObjectNotFound."""
        delete = partial(call_with_retry, self._storage.delete_blob, self._storage.blob_client(name), name, **options)
        try:
            delete()
        except BlobLeased:
            call_with_retry(self._break_lease, self._storage.blob_client(name))
            delete()

    def _is_complete(self, name: str, write_id: str) -> bool:
        """Waits for a copy of an earlier call, and removes it if it failed."""
        if not self._storage.is_ours(name, write_id):
            return False
        try:
            self._storage.copies.finished(name)
        except TransientStorageError:
            self._storage.copies.discard(name, write_id, only_unfinished=True)
            raise
        return True

    def _take(self, staging: str, name: str, size_bytes: int, metadata: dict[str, str]) -> None:
        properties = self._storage.properties(staging)
        if properties.size != size_bytes:
            raise DirectUploadIncomplete(expected=size_bytes, received=properties.size)
        self._storage.copies.copy(staging, name, properties, metadata, self._storage.tier_named(""), only_ours=False)

    def _set_content_settings(self, name: str, content_settings: ContentSettings) -> None:
        with azure_errors("write", name):
            self._storage.blob_client(name).set_http_headers(content_settings)

    def _break_lease(self, blob: BlobClient) -> None:
        with azure_errors("delete", blob.blob_name):
            BlobLeaseClient(blob).break_lease(lease_break_period=0)

"""Objects as block blobs of Azure Blob Storage.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api. A small object is one Put Blob; a larger one
is blocks, sent in parallel, and the Put Block List that makes a blob of them: until then nobody sees them, and Azure
drops them after a week. All writers of a name share its blocks. Ours have random ids, so that they disturb nobody; the
writer who is first makes the blob, which drops the blocks of the others, and ``If-None-Match: *`` refuses theirs.
"""

import hashlib
import json
import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Literal

from azure.storage.blob import BlobBlock, BlobProperties, BlobSasPermissions, StandardBlobTier
from django.conf import settings
from django.core.files.base import File
from django.utils.translation import gettext_lazy as _

from ..base import Availability, DirectUpload, Metadata, ObjectStat, OnParts, Piece, SignedRequest, StreamedContent
from ..errors import (
    DirectUploadIncomplete,
    DirectUploadUnsupported,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from ..metadata import WRITE_ID, decode_metadata, encode_metadata, write_id_of
from ..names import is_valid_name
from ..parts import PartReader, send_parts
from ..remote import Body, check_range
from ..retry import call_with_retry
from ..rules import LifecyclePlan
from . import rules
from .client import BlobLeased, BlocksGone, azure_errors
from .container import COPY_SECONDS, METADATA_BYTES, AzureContainer, availability_of, stat_of

#: Up to here an object is one request; its bytes are there twice while it runs.
PUT_BLOB_BYTES = 8 * 1024**2
MOST_BLOCKS = 50_000
#: What Copy Blob From URL takes: https://learn.microsoft.com/rest/api/storageservices/copy-blob-from-url
SYNCHRONOUS_COPY_BYTES = 256 * 1024**2
COPY_POLL_SECONDS = (0.1, 5.0)
UNFINISHED = ("pending", "aborted", "failed")
#: Where clients send bytes to; nothing else is there, and nothing there is an object yet.
STAGING = "staging/"
STAGED = re.compile(r"staging/[0-9a-f]{32}/[^/]+")


class AzureStorage(AzureContainer):
    """A container of a storage account.

    Options are those of django-storages (``account_name``, ``account_key``, ``azure_container``, ``token_credential``,
    ``connection_string``, ``endpoint_suffix``, ``azure_ssl``, ``cache_control``, ``object_parameters``,
    ``client_options``, ``api_version``) and ``region``, ``endpoint_url`` (the account's, with the account in its path
    for an emulator), ``public_endpoint_url`` (the same for clients), ``encryption_scope``, ``access_tier`` (the
    account's own if empty), ``subscription_id`` and ``resource_group``. Without a key, azure-identity looks for
    credentials, and URLs are signed with a key that it is given for some days (Storage Blob Delegator).

    A restored object stays so: ``restored_until`` is None, and the days that were asked for do not count.
    """

    def save(  # type: ignore[override]
        self,
        name: str,
        content: "File[Any]",
        max_length: int | None = None,
        *,
        content_type: str = "",
        metadata: Metadata | None = None,
        storage_class: str = "",
    ) -> str:
        """See AudioStorage. What is known at the end counts as metadata.

        The service compares each request with its MD5; that of the whole is kept, computed on the way.
        """
        self.check_name(name, max_length)
        blob = self._blob(name)
        tier = self._tier(storage_class)
        write_id = secrets.token_hex(16)
        expected_bytes = getattr(content, "expected_bytes", None) or getattr(content, "size", None) or 0
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
                send, body = self._put_blob, bytes(first)
            else:
                put_block = partial(call_with_retry, self._put_block, blob, write_id)
                send, body = self._put_block_list, send_parts(reader, first, put_block, parallel=parallel)
        options = {
            "content_settings": self._content_settings(name, content_type, md5.digest()),
            "metadata": encode_metadata(metadata() if metadata else {}, write_id, most_bytes=METADATA_BYTES),
            "standard_blob_tier": tier,
            **self._scope(),
        }
        self._make(name, write_id, send, blob, body, **options)
        return name

    def stat(self, name: str) -> ObjectStat:
        return stat_of(name, self._properties(name))

    def fetch(self, stat: ObjectStat, start: int, length: int) -> Body:
        blob = self._blob(stat.name)
        with azure_errors("read", stat.name):
            # Not download_blob: it reads whole blocks of many MiB before it gives any of them.
            stream: Any = blob._client.blob.download(
                range=f"bytes={start}-{start + length - 1}",
                headers={"If-Match": stat.version},
                decompress=False,
            )
        response = stream.response.internal_response
        try:
            if response.headers.get("ETag", stat.version) != stat.version:
                raise ObjectNotFound
            check_range(
                stat,
                start,
                length,
                status=response.status_code,
                content_range=response.headers.get("Content-Range", ""),
            )
        except StorageError:
            response.close()
            raise
        take = partial(response.raw.read, decode_content=False)
        return Body(take, response.close, partial(azure_errors, "read", stat.name))

    def copy(self, source: str, target: str, *, storage_class: str = "") -> ObjectStat:
        """See AudioStorage. Within the account, without the bytes passing here; not so a large one with a scope."""
        self.check_name(target)
        properties = self._properties(source)
        if availability_of(properties) is not Availability.READABLE:
            raise ObjectArchived
        if self.encryption_scope and properties.size > SYNCHRONOUS_COPY_BYTES:
            return self._copy_through_here(stat_of(source, properties), target, storage_class)
        kept = decode_metadata(properties.metadata or {})
        metadata = encode_metadata(kept, secrets.token_hex(16), most_bytes=METADATA_BYTES)
        return self._copy_blob(source, target, properties, metadata, self._tier(storage_class))

    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        with suppress(ObjectNotFound):
            call_with_retry(self._delete, self._blob(name), name, version=(seen or self.stat(name)).version)
        self._purge(name)

    def versions_of(self, name: str) -> int:
        self.check_name(name)
        return len(call_with_retry(self._remains, name))

    def remove_versions(self, name: str) -> None:
        """See AudioStorage. What is soft-deleted then, Azure keeps until its time is over."""
        for remains in call_with_retry(self._remains, name):
            is_present = remains.is_current_version or not (remains.version_id or remains.snapshot)
            if not (remains.deleted or is_present):
                call_with_retry(self._delete_version, name, remains)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """See AudioStorage; with their tiers."""
        return (stat for stat in self._list(prefix) if not stat.name.startswith(STAGING))

    def location_of(self, name: str) -> str:
        self.check_name(name)
        return f"{self.endpoint}/{self.azure_container}/{self.folder}{name}"

    def remove_partials(self, older_than: datetime) -> int:
        """Remove what clients sent to a staging place, before ``older_than``, and did not complete.

        A write that was killed leaves blocks, which nobody sees or can remove; Azure drops them after a week.
        """
        removed = 0
        for stat in self._list(STAGING):
            if STAGED.fullmatch(stat.name) and stat.modified_at < older_than:
                # What was sent anew since it was listed stays.
                with suppress(ObjectNotFound):
                    self._remove_staged(stat.name, version=stat.version)
                    removed += 1
        return removed

    def signed_url(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str | None:
        """See AudioStorage. A PUT must also send ``x-ms-blob-type: BlockBlob``, and cannot overwrite; Azure does not
        hold it to a content type. None where all we have is a shared access signature."""
        if not self.can_sign:
            self.check_name(name)
            return None
        if method == "GET":
            answer = {"content_type": content_type or None, "content_disposition": disposition or None}
            return self._sign(name, BlobSasPermissions(read=True), seconds, **answer)
        return self._sign(name, BlobSasPermissions(create=True), seconds, **self._scope())

    def restore(self, name: str, *, days: int) -> None:
        """See AudioStorage. It becomes Hot for good, which takes hours; Azure has no term for it."""
        if self.stat(name).availability is Availability.ARCHIVED:
            call_with_retry(self._set_tier, name, StandardBlobTier.HOT)

    def begin_direct(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        """See AudioStorage. An empty blob keeps the place, so that one that was given up can be told from a new one."""
        self.check_name(name)
        if not self.can_sign:
            raise DirectUploadUnsupported(
                _("AudioTricks has a shared access signature for this storage, and can sign nothing for clients.")
            )
        self._refuse_lock()
        if self.encryption_scope and size_bytes > SYNCHRONOUS_COPY_BYTES:
            # It could never be copied out of the staging place.
            raise DirectUploadUnsupported(_("This file is larger than the storage takes from a client."))
        staging = f"{STAGING}{secrets.token_hex(16)}/{name.rpartition('/')[2]}"
        call_with_retry(partial(self._put_blob, self._blob(staging), b"", overwrite=True, **self._scope()))
        handle = {"staging": staging, "write_id": secrets.token_hex(16), "content_type": content_type}
        return DirectUpload("staged", json.dumps(handle), max(size_bytes, 1))

    def direct_requests(
        self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int
    ) -> Sequence[SignedRequest]:
        """See AudioStorage. One Put Blob; a client may as well use Put Block and Put Block List at the same URL, and
        has to above 5000 MiB."""
        handle = json.loads(direct.handle)
        if self._is_ours(name, handle["write_id"]) or self._properties(handle["staging"]).size == size_bytes:
            return []
        url = self._sign(handle["staging"], BlobSasPermissions(create=True, write=True), seconds, **self._scope())
        headers = {"x-ms-blob-type": "BlockBlob"}
        if handle["content_type"]:
            headers["Content-Type"] = handle["content_type"]
        return [SignedRequest(1, "PUT", url, headers, 0, size_bytes)]

    def complete_direct(
        self,
        name: str,
        direct: DirectUpload,
        *,
        size_bytes: int,
        metadata: Metadata,
        etags: Mapping[int, str] | None = None,
        on_parts: OnParts | None = None,
    ) -> ObjectStat:
        self.check_name(name)
        handle = json.loads(direct.handle)
        write_id = handle["write_id"]
        if not self._is_complete(name, write_id):
            own_metadata = encode_metadata(metadata(), write_id, most_bytes=METADATA_BYTES)
            try:
                self._take(handle["staging"], name, size_bytes, own_metadata)
            except ObjectNotFound:
                # Unless somebody else completed it in the meantime.
                if not self._is_ours(name, write_id):
                    raise
        # What the client said of its content, an MD5 that nobody compared among it, came along with the copy.
        content_settings = self._content_settings(name, handle["content_type"])
        if self._properties(name).content_settings != content_settings:
            call_with_retry(self._set_content_settings, name, content_settings)
        with suppress(ObjectNotFound):
            self._remove_staged(handle["staging"])
        return self.stat(name)

    def abort_direct(self, name: str, direct: DirectUpload) -> None:
        handle = json.loads(direct.handle)
        with suppress(ObjectNotFound):
            self._remove_staged(handle["staging"])
        self._discard(name, handle["write_id"])

    def plan_lifecycle(self) -> LifecyclePlan:
        with azure_errors("read_rules"):
            return rules.plan(self)

    def apply_lifecycle(self, plan: LifecyclePlan) -> None:
        with azure_errors("write_rules"):
            rules.apply(self, plan)

    def create_bucket(self) -> bool:
        try:
            call_with_retry(self._create_container)
        except ObjectExists:
            return False
        return True

    # Of several requests

    def _list(self, prefix: str) -> Iterator[ObjectStat]:
        token: str | None = None
        while True:
            page, token = call_with_retry(self._page, prefix, token)
            named = ((blob.name.removeprefix(self.folder), blob) for blob in page)
            yield from (stat_of(name, blob) for name, blob in named if is_valid_name(name))
            if not token:
                return

    def _make(self, name: str, write_id: str, send: Callable[..., None], *args: Any, **options: Any) -> None:
        """Call ``send`` until the object is there; that it is ours although we did not hear so is seen by its id."""
        try:
            call_with_retry(send, *args, **options)
        except (ObjectExists, BlocksGone, TransientStorageError) as error:
            try:
                there = self._properties(name)
            except ObjectNotFound:
                if isinstance(error, TransientStorageError):
                    raise error from error.__cause__
                # Refused for what it was made of, then: blocks that are gone, a source that has changed.
                raise TransientStorageError from error
            if write_id_of(there.metadata or {}) != write_id:
                raise ObjectExists from error

    def _is_ours(self, name: str, write_id: str) -> bool:
        try:
            return write_id_of(self._properties(name).metadata or {}) == write_id
        except ObjectNotFound:
            return False

    def _is_complete(self, name: str, write_id: str) -> bool:
        """Whether a call before has copied it; what a killed one began is waited for, and removed if it failed."""
        if not self._is_ours(name, write_id):
            return False
        try:
            self._finished_copy(name)
        except TransientStorageError:
            self._discard(name, write_id, only_unfinished=True)
            raise
        return True

    def _take(self, staging: str, name: str, size_bytes: int, metadata: dict[str, str]) -> None:
        properties = self._properties(staging)
        if properties.size != size_bytes:
            raise DirectUploadIncomplete(expected=size_bytes, received=properties.size)
        self._copy_blob(staging, name, properties, metadata, self._tier(""), only_ours=False)

    def _copy_blob(
        self,
        source: str,
        target: str,
        properties: BlobProperties,
        metadata: dict[str, str],
        tier: StandardBlobTier | None,
        *,
        only_ours: bool = True,
    ) -> ObjectStat:
        """Copy this version of a blob; ``only_ours`` is whether no other call has the id of this write."""
        blob, write_id = self._blob(target), metadata[WRITE_ID]
        options = {"metadata": metadata, "standard_blob_tier": tier}
        self._make(target, write_id, self._start_copy, source, blob, str(properties.etag), **options)
        try:
            copied = stat_of(target, self._finished_copy(target))
            if copied.size != properties.size:
                raise PermanentStorageError(_("The copy is not as large as the original."))
        except BaseException:
            with suppress(StorageError):
                self._discard(target, write_id, only_unfinished=not only_ours)
            raise
        return copied

    def _finished_copy(self, target: str) -> BlobProperties:
        """Wait until the copy has its bytes. Raises TransientStorageError when that fails, or takes too long."""
        deadline = time.monotonic() + COPY_SECONDS
        pause, longest = COPY_POLL_SECONDS
        while (properties := self._properties(target)).copy.status == "pending" and time.monotonic() < deadline:
            time.sleep(pause)
            pause = min(2 * pause, longest)
        if properties.copy.status not in (None, "success"):
            raise TransientStorageError(_("The storage did not finish a copy."))
        return properties

    def _discard(self, name: str, write_id: str, *, only_unfinished: bool = False) -> None:
        """Remove what lies under the name if it is of this write.

        ``only_unfinished`` leaves a copy that has all its bytes: a row may name it by now.
        """
        try:
            properties = self._properties(name)
        except ObjectNotFound:
            return
        if write_id_of(properties.metadata or {}) != write_id:
            return
        if only_unfinished and properties.copy.status not in UNFINISHED:
            return
        if properties.copy.status == "pending":
            # If it is done by now, it can be removed as well.
            with suppress(StorageError), azure_errors("copy", name):
                self._blob(name).abort_copy(str(properties.copy.id))
            self.delete(name)
        else:
            self.delete(name, seen=stat_of(name, properties))

    def _remove_staged(self, name: str, **options: Any) -> None:
        """Whoever may write there may also take out a lease that never ends. Raises ObjectNotFound."""
        delete = partial(call_with_retry, self._delete, self._blob(name), name, **options)
        try:
            delete()
        except BlobLeased:
            call_with_retry(self._break_lease, self._blob(name))
            delete()

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

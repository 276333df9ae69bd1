from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from ..base import ObjectStat
from ..errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    TransientStorageError,
)
from ..metadata import write_id_of
from ..retry import TIDYING, call_with_retry, retry_policy
from .errors import NOT_UNDERSTOOD, s3_errors, status_of
from .facts import is_same_object, metadata_of, stat_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """``field`` has the entries; ``next_page`` maps parameters of the next request to fields."""

    operation: str
    field: str
    next_page: Mapping[str, str]


OBJECTS = Listing("list_objects_v2", "Contents", {"ContinuationToken": "NextContinuationToken"})
PARTS = Listing("list_parts", "Parts", {"PartNumberMarker": "NextPartNumberMarker"})
UPLOADS = Listing(
    "list_multipart_uploads", "Uploads", {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
)


# A field of every response to these. A response without it came from something else than the storage.
ESSENTIAL = {
    "complete_multipart_upload": "ETag",
    "copy_object": "CopyObjectResult",
    "create_multipart_upload": "UploadId",
    "get_object": "ETag",
    "head_object": "ETag",
    "put_object": "ETag",
    "upload_part": "ETag",
    "upload_part_copy": "CopyPartResult",
}


class Bucket:
    """Requests by the names of boto3's operations, with retries; ``folder`` is the prefix of our names. Raises
    StorageErrors only.

    ``is_conditional``: the server refuses a taken name; without it, we look first.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        client: Callable[[], Any],
        *,
        is_conditional: bool = True,
        asks_for_checksums: bool = True,
    ) -> None:
        self.name = name
        #: The type of checksums for objects in parts; some servers have none over the whole object.
        self.checksum_type = "FULL_OBJECT"
        self._folder = f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._client = client
        self._only_new = {"IfNoneMatch": "*"} if is_conditional else {}
        self._deletes_by_etag = is_conditional
        self._checksum_mode = {"ChecksumMode": "ENABLED"} if asks_for_checksums else {}

    @property
    def client(self) -> Any:
        return self._client()

    def key(self, name: str) -> str:
        return self._folder + name

    def name_of(self, key: str) -> str:
        return key.removeprefix(self._folder)

    def ask(self, operation: str, name: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        return call_with_retry(self.ask_once, operation, name, **parameters)

    def ask_once(self, operation: str, name: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        if name is not None:
            parameters["Key"] = self.key(name)
        with s3_errors(operation, name or ""):
            answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.name, **parameters)
        if operation in ESSENTIAL and ESSENTIAL[operation] not in answer:
            log.warning("s3_request_failed", operation=operation, name=name, error="something else answered")
            raise TransientStorageError
        return answer

    def entries(self, listing: Listing, name: str | None = None, /, **parameters: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self.ask(listing.operation, name, **parameters)
            entries = page.get(listing.field, [])
            is_last = not page.get("IsTruncated")
            parameters.update({key: page[field] for key, field in listing.next_page.items() if field in page})
            del page
            yield from entries
            del entries
            if is_last:
                return

    def make(self, operation: str, name: str, write_id: str, /, **parameters: Any) -> None:
        """Make an object whose metadata has ``write_id``; a lost response does not matter. Raises ObjectExists for that
        of another write.
        """
        try:
            if not self._only_new:
                self.check_free(name)
            self.ask(operation, name, **self._only_new, **parameters)
        except (ObjectExists, TransientStorageError) as error:
            with retry_policy(TIDYING if isinstance(error, TransientStorageError) else None):
                if not self.was_made_by(name, write_id):
                    raise

    def finish(self, name: str, upload_id: str, parts: Sequence[Mapping[str, Any]]) -> None:
        """Raises ObjectExists, and ObjectNotFound when the upload is over. Looks for the name first: Ceph 16 checks the
        condition only for single requests.
        """
        self.check_free(name)
        self.ask(
            "complete_multipart_upload",
            name,
            UploadId=upload_id,
            MultipartUpload={"Parts": list(parts)},
            **self._only_new,
        )

    def check_free(self, name: str) -> None:
        """Raises ObjectExists."""
        try:
            self.ask("head_object", name)
        except ObjectNotFound:
            return
        raise ObjectExists

    def remove(self, name: str, *, seen: ObjectStat | None = None, write_id: str = "") -> None:
        """Remove the object that was ``seen``, that this write made, or else the present one. Looks before each attempt
        and has the server compare the ETag, since a request may arrive late.
        """
        wanted = seen

        def attempt() -> None:
            nonlocal wanted
            try:
                found = stat_of(name, self.head(name))
                wanted = wanted or found
                if is_same_object(found, wanted) and write_id in ("", found.identity):
                    self._remove_version(name, found.version)
            except ObjectNotFound:
                return

        call_with_retry(attempt)

    def _remove_version(self, name: str, etag: str) -> None:
        """Raises ObjectNotFound for another version. Many servers ignore the condition."""
        try:
            self.ask_once("delete_object", name, **({"IfMatch": etag} if self._deletes_by_etag else {}))
        except PermanentStorageError as error:
            if not self._deletes_by_etag or status_of(error.__cause__) not in NOT_UNDERSTOOD:
                raise
            self._deletes_by_etag = False
            self.ask_once("delete_object", name)

    def was_made_by(self, name: str, write_id: str) -> bool:
        try:
            return write_id_of(metadata_of(self.head(name))) == write_id
        except ObjectNotFound:
            return False

    def head(self, name: str) -> dict[str, Any]:
        """Raises ObjectNotFound or BucketNotFound."""
        try:
            return self.ask("head_object", name, **self._checksum_mode)
        except ObjectNotFound:
            if not self.is_there():
                raise BucketNotFound from None
            raise

    def is_there(self) -> bool:
        """True also if it is forbidden to us."""
        try:
            self.ask("head_bucket")
        except ObjectNotFound:
            return False
        except CredentialsRefused:
            return True
        return True

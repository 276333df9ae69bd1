"""The requests for objects of one bucket: https://cloud.google.com/storage/docs/json_api/v1/objects.

Each is sent once. One that makes an object and is sent again, after an answer that was lost, raises ObjectExists: the
object's own description then tells who made it.
"""

import base64
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog
from django.utils.translation import gettext_lazy as _

from ..base import ObjectStat
from ..errors import BucketNotFound, ObjectExists, ObjectNotFound, StorageError, TransientStorageError
from ..metadata import decode_metadata
from ..remote import Body, check_range
from .http import OBJECT, Requests, Resource, resource_of, vendor_errors

log = structlog.get_logger(__name__)

#: All custom metadata of an object together: https://cloud.google.com/storage/quotas#objects
METADATA_BYTES = 8 * 1024
DONE = frozenset({200, 201, 204})
PAGE_NAMES = 1000
LISTED = (
    "kind,nextPageToken,items(name,size,timeCreated,storageClass,contentType,md5Hash,crc32c,generation,timeDeleted)"
)
#: Never overwrite: there must be no generation of this name.
NEW = {"ifGenerationMatch": "0"}


class Objects:
    """``kms_key_name`` is the key that what is written is encrypted with; empty for the bucket's own.

    ``folder`` stands before each name in the bucket; what comes in and goes out here has the names without it.
    """

    def __init__(self, requests: Requests, endpoint: str, bucket: str, kms_key_name: str, *, folder: str = "") -> None:
        self._folder = folder
        self.requests = requests
        self._endpoint = endpoint
        self._path = f"/b/{quote(bucket, safe='')}/o"
        self._kms_key_name = kms_key_name

    def get(self, name: str) -> Resource:
        return self._ask("GET", self._url(name), "stat", name)

    def page(self, prefix: str, token: str, **kind: str) -> Mapping[str, Any]:
        """``items``, if there are any, and the ``nextPageToken``, if there may be more."""
        params = {
            "maxResults": str(PAGE_NAMES),
            "fields": LISTED,
            "prefix": self._folder + prefix,
            "pageToken": token,
            **kind,
        }
        page = self._ask("GET", self._url(), "list", prefix, essential=["kind"], missing=BucketNotFound, params=params)
        return {**page, "items": [self._without_folder(item) for item in page.get("items", ())]}

    def insert(self, resource: Resource, content: bytearray) -> Resource:
        """Write an object with one request. The checksums in its description are compared by the storage."""
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{self._written(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        )
        return self._ask(
            "POST",
            self._url(service="/upload"),
            "write",
            resource["name"],
            missing=BucketNotFound,
            params={"uploadType": "multipart", "kmsKeyName": self._kms_key_name, **NEW},
            content_type=f"multipart/related; boundary={boundary}",
            data=b"".join([head.encode(), content, f"\r\n--{boundary}--\r\n".encode()]),
        )

    def begin_session(self, resource: Resource, *, size_bytes: int | None = None, origin: str = "") -> str:
        """Return the URL to send the object to. Who knows it needs nothing else to write this one object."""
        size = "" if size_bytes is None else str(size_bytes)
        response = self.requests.send(
            "POST",
            self._url(service="/upload"),
            action="write",
            name=resource["name"],
            expected=DONE,
            missing=BucketNotFound,
            params=without_empty({"uploadType": "resumable", "kmsKeyName": self._kms_key_name, **NEW}),
            headers={
                "Content-Type": "application/json",
                "X-Upload-Content-Type": resource["contentType"],
                **without_empty({"X-Upload-Content-Length": size, "Origin": origin}),
            },
            data=self._written(resource).encode(),
        )
        url = response.headers.get("Location")
        if not url:
            raise TransientStorageError(_("The storage's answer ended too early."))
        return url

    def bucket(self) -> Mapping[str, Any]:
        """What is said of the bucket itself."""
        url = f"{self._endpoint}/storage/v1{self._path.removesuffix('/o')}"
        return self._ask("GET", url, "look at the bucket", "", essential=["name"], missing=BucketNotFound)

    def describe(self, name: str, generation: str, changes: Resource) -> Resource:
        """Change the description of this version of an object."""
        params = {"generation": generation}
        return self._ask("PATCH", self._url(name), "describe", name, params=params, data=json.dumps(changes).encode())

    def rewrite(self, source: Resource, target: Resource, token: str) -> Mapping[str, Any]:
        """Copy for a while: the answer says that it is ``done``, or has the ``rewriteToken`` to go on with."""
        return self._ask(
            "POST",
            f"{self._url(source['name'])}/rewriteTo{self._path}/{quote(self._folder + target['name'], safe='')}",
            "copy",
            target["name"],
            essential=["done"],
            params={
                "sourceGeneration": source["generation"],
                "destinationKmsKeyName": self._kms_key_name,
                "rewriteToken": token,
                **NEW,
            },
            data=self._written(target).encode(),
        )

    def compose(self, sources: Sequence[Resource], target: Resource) -> Resource:
        parts = [{"name": self._folder + source["name"], "generation": source["generation"]} for source in sources]
        return self._ask(
            "POST",
            f"{self._url(target['name'])}/compose",
            "compose",
            target["name"],
            params={"kmsKeyName": self._kms_key_name, **NEW},
            data=json.dumps({"sourceObjects": parts, "destination": self._with_folder(target)}).encode(),
        )

    def delete(self, name: str, generation: str) -> None:
        """Remove the object if it is this generation; a bucket with versions keeps it. Raises ObjectNotFound."""
        try:
            self._send("DELETE", self._url(name), "delete", name, params={"ifGenerationMatch": generation}).close()
        except ObjectExists:
            raise ObjectNotFound from None

    def delete_version(self, name: str, generation: str) -> None:
        """Remove this generation for good. Raises ObjectNotFound."""
        self._send("DELETE", self._url(name), "delete", name, params={"generation": generation}).close()

    def download(self, stat: ObjectStat, start: int, length: int) -> Body:
        """The bytes as they lie in the storage. Raises ObjectNotFound if there is no such version, RangeIgnored."""
        response = self.requests.send(
            "GET",
            self._url(stat.name, service="/download"),
            action="read",
            name=stat.name,
            expected=frozenset({200, 206}),
            params={"alt": "media", "generation": stat.version},
            # With gzip allowed, nothing is unpacked on the way: these are the bytes as they were written.
            headers={"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "gzip"},
            stream=True,
        )
        try:
            if response.headers.get("X-Goog-Generation", stat.version) != stat.version:
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
        return Body(take, response.close, partial(vendor_errors, "read", stat.name))

    def _url(self, name: str = "", *, service: str = "") -> str:
        path = f"{self._endpoint}{service}/storage/v1{self._path}"
        return f"{path}/{quote(self._folder + name, safe='')}" if name else path

    def _with_folder(self, resource: Resource) -> Resource:
        return {**resource, "name": self._folder + resource["name"]}

    def _without_folder(self, resource: Resource) -> Resource:
        return {**resource, "name": resource["name"].removeprefix(self._folder)}

    def _written(self, resource: Resource) -> str:
        return json.dumps(self._with_folder(resource))

    def _ask(
        self, method: str, url: str, action: str, name: str, *, essential: Collection[str] = OBJECT, **options: Any
    ) -> Resource:
        resource = resource_of(self._send(method, url, action, name, **options), essential)
        return self._without_folder(resource) if essential is OBJECT else resource

    def _send(
        self,
        method: str,
        url: str,
        action: str,
        name: str,
        *,
        missing: type[StorageError] = ObjectNotFound,
        params: Mapping[str, str] | None = None,
        data: bytes = b"",
        content_type: str = "application/json",
    ) -> Any:
        return self.requests.send(
            method,
            url,
            action=action,
            name=name,
            expected=DONE,
            missing=missing,
            params=without_empty(params or {}),
            headers={"Content-Type": content_type} if data else {},
            data=data,
        )


def without_empty(params: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in params.items() if value}


def stat_of(resource: Resource) -> ObjectStat:
    checksums = {"md5": resource.get("md5Hash"), "crc32c": resource.get("crc32c")}
    return ObjectStat(
        name=resource["name"],
        size=int(resource["size"]),
        modified_at=datetime.fromisoformat(resource["timeCreated"]),
        storage_class=resource.get("storageClass", ""),
        checksums={name: base64.b64decode(value).hex() for name, value in checksums.items() if value},
        content_type=resource.get("contentType", ""),
        metadata=decode_metadata(resource.get("metadata", {})),
        version=str(resource["generation"]),
        # The API adds which version of the key it was.
        encryption_key=resource.get("kmsKeyName", "").partition("/cryptoKeyVersions/")[0],
    )


def compare(stored: Resource, size: int, crc32c: str) -> None:
    """Raises TransientStorageError unless the object has this size and this CRC32C (base64)."""
    if (int(stored["size"]), stored["crc32c"]) != (size, crc32c):
        log.warning("gcs_failed", action="write", object=stored["name"], error="size or crc32c differs")
        error = TransientStorageError(_("What the storage has is not what was sent."))
        error.was_retried = True
        raise error

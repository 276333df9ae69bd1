import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from ..base import ObjectStat
from ..capabilities import DirectUpload, DirectUploads, OnParts, SignedRequest
from ..content import Metadata
from ..errors import (
    DirectUploadAmbiguous,
    DirectUploadIncomplete,
    DirectUploadUnsupported,
    ObjectExists,
    ObjectNotFound,
)
from ..names import check_name
from .errors import s3_errors
from .facts import MD5, headers_of, stat_of
from .multipart import MOST_PART_BYTES, MultipartUpload, Part, part_size
from .requests import Bucket

# A client gets all requests in one response.
MAX_REQUESTS = 1000


class S3DirectUploads(DirectUploads):
    """``bucket`` has the endpoint for us, ``signing`` the one for clients."""

    def __init__(self, bucket: Bucket, signing: Bucket, new_object: Callable[..., dict[str, Any]]) -> None:
        self._bucket = bucket
        self._signing = signing
        self._new_object = new_object

    def begin(
        self, name: str, *, size_bytes: int, content_type: str, metadata: Metadata, seconds: int, origin: str = ""
    ) -> DirectUpload:
        check_name(name)
        if size_bytes > MAX_REQUESTS * MOST_PART_BYTES:
            raise DirectUploadUnsupported(_("This file is larger than the storage takes from a client."))
        write_id = secrets.token_hex(16)
        parameters = self._new_object(content_type, "", headers_of(metadata(), write_id))
        upload = MultipartUpload.begin(self._bucket, name, **parameters)
        part_bytes = part_size(size_bytes, least=settings.STORAGE_PART_BYTES, parts=MAX_REQUESTS)
        handle = {"upload": upload.upload_id, "write": write_id, "etags": "md5" if upload.has_md5s else ""}
        return DirectUpload("parts", json.dumps(handle), part_bytes)

    def requests(self, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int) -> list[SignedRequest]:
        """See DirectUploads. The signature fixes the size of a part; one of another size counts as missing."""
        check_name(name)
        upload, _write_id = self._read_handle(name, direct)
        arrived = {number: newest_of(copies) for number, copies in by_number(upload.parts()).items()}
        requests = []
        for number, (start, size) in spans(size_bytes, direct.part_bytes).items():
            if (part := arrived.get(number)) is not None and part["Size"] == size:
                continue
            parameters = {
                "Bucket": self._bucket.name,
                "Key": self._bucket.key(name),
                "UploadId": upload.upload_id,
                "PartNumber": number,
                "ContentLength": size,
            }
            with s3_errors("upload_part", name):
                url = self._signing.client.generate_presigned_url("upload_part", Params=parameters, ExpiresIn=seconds)
            requests.append(SignedRequest(number, "PUT", url, {}, start, size, takes_md5=True))
        return requests

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
        check_name(name)
        etags = etags or {}
        upload, write_id = self._read_handle(name, direct)
        try:
            arrived = by_number(upload.parts())
            parts = {
                number: named(copies, etags[number]) if number in etags else newest_of(copies)
                for number, copies in arrived.items()
            }
            if doubtful := sorted(number for number, part in parts.items() if part is None and number not in etags):
                raise DirectUploadAmbiguous(parts=doubtful)
            chosen = {number: part for number, part in sorted(parts.items()) if part is not None}
            sizes = {number: part["Size"] for number, part in chosen.items()}
            if sizes != {number: size for number, (_start, size) in spans(size_bytes, direct.part_bytes).items()}:
                raise DirectUploadIncomplete(expected=size_bytes, received=sum(sizes.values()))
            if on_parts is not None and upload.has_md5s:
                on_parts([md5_of(part) for part in chosen.values()])
            upload.ask_to_complete([{"PartNumber": number, "ETag": part["ETag"]} for number, part in chosen.items()])
        except (ObjectExists, ObjectNotFound):
            # Both also follow an earlier call that completed and whose response was lost.
            if not self._bucket.was_made_by(name, write_id):
                raise
        return stat_of(name, self._bucket.head(name))

    def abort(self, name: str, direct: DirectUpload) -> None:
        check_name(name)
        upload, write_id = self._read_handle(name, direct)
        upload.abort()
        self._bucket.remove(name, write_id=write_id)

    def _read_handle(self, name: str, direct: DirectUpload) -> tuple[MultipartUpload, str]:
        handle = json.loads(direct.handle)
        # Uploads of an older release lack the field, and their MD5s are not compared.
        upload = MultipartUpload(self._bucket, name, handle["upload"], has_md5s=handle.get("etags") == "md5")
        return upload, handle["write"]


def by_number(parts: Iterable[Part]) -> dict[int, list[Part]]:
    """SeaweedFS keeps all copies of a part that was sent twice."""
    copies: dict[int, list[Part]] = {}
    for part in parts:
        copies.setdefault(part["PartNumber"], []).append(part)
    return copies


def newest_of(copies: Sequence[Part]) -> Part | None:
    """None if unknown, since servers count in seconds."""
    newest = max(part["LastModified"] for part in copies)
    last = [part for part in copies if part["LastModified"] == newest]
    return last[0] if len({part["ETag"] for part in last}) == 1 else None


def named(copies: Sequence[Part], etag: str) -> Part | None:
    return next((part for part in copies if unquoted(part["ETag"]) == unquoted(etag)), None)


def md5_of(part: Part) -> str:
    etag = unquoted(part["ETag"])
    return etag if MD5.fullmatch(etag) else ""


def unquoted(etag: str) -> str:
    return etag.strip().removeprefix("W/").strip('"').lower()


def spans(size_bytes: int, part_bytes: int) -> dict[int, tuple[int, int]]:
    """The start and size in bytes of each part; an empty object has one empty part."""
    starts = range(0, size_bytes, part_bytes) if size_bytes else [0]
    return {number: (start, min(part_bytes, size_bytes - start)) for number, start in enumerate(starts, start=1)}

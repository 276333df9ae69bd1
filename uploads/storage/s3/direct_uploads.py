"""Objects that clients send to S3 themselves: the parts of a multipart upload, each by a signed request of its own."""

import json
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from ..base import DirectUpload, SignedRequest
from ..errors import DirectUploadIncomplete, DirectUploadUnsupported, ObjectExists, ObjectNotFound
from .errors import s3_errors
from .multipart import MOST_PART_BYTES, MultipartUpload, part_size
from .requests import Bucket

# A client gets all requests at once.
MAX_REQUESTS = 1000


def begin(bucket: Bucket, name: str, *, size_bytes: int, write_id: str, parameters: Mapping[str, Any]) -> DirectUpload:
    if size_bytes > MAX_REQUESTS * MOST_PART_BYTES:
        raise DirectUploadUnsupported(_("This file is larger than the storage takes from a client."))
    upload = MultipartUpload.begin(bucket, name, **parameters)
    part_bytes = part_size(size_bytes, least=settings.STORAGE_PART_BYTES, parts=MAX_REQUESTS)
    return DirectUpload("parts", json.dumps({"upload": upload.upload_id, "write": write_id}), part_bytes)


def missing_parts(
    bucket: Bucket, signing: Bucket, name: str, direct: DirectUpload, *, size_bytes: int, seconds: int
) -> list[SignedRequest]:
    """A request for each part that has not arrived, or not in its size. The signature holds for that size alone."""
    upload, _write_id = read_handle(bucket, name, direct)
    arrived = {part["PartNumber"]: part["Size"] for part in upload.parts()}
    requests = []
    for number, (start, size) in spans(size_bytes, direct.part_bytes).items():
        if arrived.get(number) == size:
            continue
        parameters = {
            "Bucket": bucket.name,
            "Key": bucket.key(name),
            "UploadId": upload.upload_id,
            "PartNumber": number,
            "ContentLength": size,
        }
        with s3_errors("upload_part", name):
            url = signing.client.generate_presigned_url("upload_part", Params=parameters, ExpiresIn=seconds)
        requests.append(SignedRequest(number, "PUT", url, {}, start, size))
    return requests


def complete(bucket: Bucket, name: str, direct: DirectUpload, *, size_bytes: int) -> bool:
    """See AudioStorage.complete_direct. Says whether it was this call that made the object."""
    upload, write_id = read_handle(bucket, name, direct)
    try:
        # Not every server forgets a part when it is sent again: the last one counts.
        parts = {part["PartNumber"]: part for part in sorted(upload.parts(), key=itemgetter("LastModified"))}
        sizes = {number: part["Size"] for number, part in parts.items()}
        if sizes != {number: size for number, (_start, size) in spans(size_bytes, direct.part_bytes).items()}:
            raise DirectUploadIncomplete(expected=size_bytes, received=sum(sizes.values()))
        upload.ask_to_complete([{"PartNumber": number, "ETag": part["ETag"]} for number, part in sorted(parts.items())])
    except (ObjectExists, ObjectNotFound):
        # Either is what we get who asked before and did not hear the answer.
        if not bucket.was_made_by(name, write_id):
            raise
        return False
    return True


def abort(bucket: Bucket, name: str, direct: DirectUpload) -> None:
    upload, write_id = read_handle(bucket, name, direct)
    upload.abort()
    if bucket.was_made_by(name, write_id):
        bucket.ask("delete_object", name)


def read_handle(bucket: Bucket, name: str, direct: DirectUpload) -> tuple[MultipartUpload, str]:
    handle = json.loads(direct.handle)
    return MultipartUpload(bucket, name, handle["upload"]), handle["write"]


def spans(size_bytes: int, part_bytes: int) -> dict[int, tuple[int, int]]:
    """Where each part begins and how many bytes it has, by its number. Nothing at all is one part without bytes."""
    starts = range(0, size_bytes, part_bytes) if size_bytes else [0]
    return {number: (start, min(part_bytes, size_bytes - start)) for number, start in enumerate(starts, start=1)}

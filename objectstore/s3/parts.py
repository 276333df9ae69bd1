"""Compositions of stored objects in S3, and unfinished uploads in parts."""

import json
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings

from ..base import ObjectStat
from ..capabilities import IsMine, Parts, StoredPart
from ..content import Metadata, NewObject
from ..errors import NotMine, ObjectExists, ObjectNotFound, PartsDiffer, PermanentStorageError, StorageError
from .errors import code_of
from .facts import headers_of, stat_of
from .multipart import LEAST_PART_BYTES, MAX_PARTS, MultipartUpload, Range, part_size, ranges_of
from .requests import UPLOADS, Bucket

if TYPE_CHECKING:
    from . import S3Storage


# What a server answers that has other parts than we name.
OTHER_PARTS = {"InvalidPart", "InvalidPartOrder", "EntityTooSmall"}


class S3Parts(Parts):
    """Uploads in parts. The tag of a part holds what completing must name of it: its ETag and checksum."""

    least_bytes = LEAST_PART_BYTES
    most_parts = MAX_PARTS
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    most_bytes = 5 * 1024**4

    def __init__(self, storage: "S3Storage") -> None:
        super().__init__(storage)
        self._s3 = storage
        self._bucket = storage.requests

    def compose(self, sources: Sequence[str], target: str, wanted: NewObject) -> ObjectStat | None:
        """See Parts. None if a source before the last is too small for a part."""
        stats = [stat for stat in map(self._s3.stat, sources) if stat.size]
        ranges = [piece for stat in stats for piece in ranges_of(stat, self._s3.most_copied_bytes)]
        if not ranges or len(ranges) > MAX_PARTS or any(piece.length < LEAST_PART_BYTES for piece in ranges[:-1]):
            return None
        self._bucket.check_free(target)
        known = dict(wanted.metadata())
        write_id = secrets.token_hex(16)
        parameters = self._s3.new_object(wanted.content_type, wanted.storage_class, headers_of(known, write_id))
        make_of(self._bucket, target, ranges, write_id, parameters)
        self._s3.tag(target, known, wanted.metadata())
        return self._s3._stat_of_new(target, size_bytes=sum(stat.size for stat in stats))

    def part_bytes(self, size_bytes: int | None) -> int:
        return part_size(size_bytes or 0, least=settings.STORAGE_PART_BYTES)

    def begin(
        self, name: str, *, size_bytes: int | None, part_bytes: int, content_type: str, metadata: Metadata
    ) -> str:
        self._s3.check_name(name)
        write_id = secrets.token_hex(16)
        parameters = self._s3.new_object(content_type, "", headers_of(metadata(), write_id))
        upload = MultipartUpload.begin(self._bucket, name, checksum=self._s3.request_checksum, **parameters)
        return json.dumps({"upload": upload.upload_id, "write": write_id})

    def write(self, name: str, handle: str, *, number: int, start: int, data: memoryview, is_mine: IsMine) -> str:
        if not is_mine():
            raise NotMine
        part = self._begun(name, handle)[0].send(number, bytearray(data))
        return json.dumps({key: value for key, value in part.items() if key != "PartNumber"})

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
        upload, write_id = self._begun(name, handle)
        try:
            upload.ask_to_complete([{"PartNumber": part.number, **json.loads(part.tag)} for part in parts])
        except (ObjectExists, ObjectNotFound):
            # Either is what a call gets after one that completed, and whose answer was lost.
            if not self._bucket.was_made_by(name, write_id):
                raise
        except PermanentStorageError as error:
            if code_of(error.__cause__) in OTHER_PARTS:
                raise PartsDiffer from error
            raise
        stat = stat_of(name, self._bucket.head(name))
        self._s3.tag(name, stat.metadata, metadata())
        return stat

    def abort(self, name: str, handle: str) -> None:
        upload, write_id = self._begun(name, handle)
        upload.abort()
        self._bucket.remove(name, write_id=write_id)

    def _begun(self, name: str, handle: str) -> tuple[MultipartUpload, str]:
        self._s3.check_name(name)
        begun = json.loads(handle)
        return MultipartUpload(self._bucket, name, begun["upload"], self._s3.request_checksum), begun["write"]

    def remove_unfinished(self, name: str) -> None:
        self._s3.check_name(name)
        key = self._bucket.key(name)
        for entry in self._bucket.entries(UPLOADS, Prefix=key):
            if entry["Key"] == key:
                MultipartUpload(self._bucket, name, entry["UploadId"]).abort()

    def lists_unfinished(self, name: str) -> bool:
        self._s3.check_name(name)
        upload = MultipartUpload.begin(self._bucket, name, **self._s3.new_object("", "", {}))
        folder = self._bucket.key(name.rpartition("/")[0] + "/")
        try:
            return any(entry["UploadId"] == upload.upload_id for entry in self._bucket.entries(UPLOADS, Prefix=folder))
        finally:
            upload.try_to_abort()

    def overwrites(self, name: str) -> bool:
        """See Parts. Tests the server, so it does not look for the name first."""
        upload = MultipartUpload.begin(
            self._bucket, name, checksum=self._s3.request_checksum, **self._s3.new_object("", "", {})
        )
        try:
            part = upload.send(1, bytearray(b"another"))
            self._bucket.ask(
                "complete_multipart_upload",
                name,
                UploadId=upload.upload_id,
                MultipartUpload={"Parts": [part]},
                **({"IfNoneMatch": "*"} if self._s3.conditional_writes else {}),
            )
        except ObjectExists:
            upload.try_to_abort()
            return False
        except StorageError:
            upload.try_to_abort()
            raise
        return True


def make_of(bucket: Bucket, name: str, ranges: Sequence[Range], write_id: str, parameters: Mapping[str, Any]) -> None:
    upload = MultipartUpload.begin(bucket, name, **parameters)
    try:
        parts = upload.copy_all(ranges)
    except BaseException:
        upload.try_to_abort()
        raise
    upload.complete(parts, write_id)

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..base import ObjectStat
from ..capabilities import Parts
from ..content import NewObject
from ..errors import ObjectExists, StorageError
from .facts import headers_of
from .multipart import LEAST_PART_BYTES, MAX_PARTS, MultipartUpload, Range, ranges_of
from .requests import UPLOADS, Bucket

if TYPE_CHECKING:
    from . import S3Storage


class S3Parts(Parts):
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

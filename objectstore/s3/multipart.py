"""Multipart uploads: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings

from ..base import ObjectStat
from ..checksums import CRC32, base64_of, md5
from ..errors import ObjectNotFound, PermanentStorageError, StorageError, TransientStorageError
from ..retry import TIDYING, retry_policy
from .errors import NOT_UNDERSTOOD, status_of
from .requests import PARTS, Bucket

log = structlog.get_logger(__name__)

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html; the minimum size does not apply to the last part.
MAX_PARTS = 10_000
LEAST_PART_BYTES = 5 * 1024**2
MOST_PART_BYTES = 5 * 1024**3
MIB = 1024**2

#: An entry of ListParts or for CompleteMultipartUpload.
Part = dict[str, Any]


def part_size(expected_bytes: int, *, least: int, parts: int = MAX_PARTS) -> int:
    """So that ``expected_bytes`` take at most ``parts`` of equal size, as some servers require."""
    needed = -(-expected_bytes // parts)
    return min(max(least, -(-needed // MIB) * MIB), MOST_PART_BYTES)


def checksum_of(body: bytes | bytearray, kind: str) -> dict[str, str]:
    """CRC32, or MD5 for servers that know nothing newer."""
    if kind == "when_supported":
        return {"ChecksumCRC32": base64_of(CRC32(body))}
    return {"ContentMD5": base64_of(md5(body))}


@dataclass(frozen=True, slots=True)
class Range:
    """At least one byte of exactly this version."""

    name: str
    version: str
    start: int
    length: int


def ranges_of(stat: ObjectStat, most_bytes: int) -> Iterator[Range]:
    for start in range(0, stat.size, most_bytes):
        yield Range(stat.name, stat.version, start, min(most_bytes, stat.size - start))


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    bucket: Bucket
    name: str
    upload_id: str
    checksum: str = ""
    #: Whether the parts' ETags are MD5s. With a KMS key they are not, but look the same.
    has_md5s: bool = True

    @classmethod
    def begin(cls, bucket: Bucket, name: str, *, checksum: str = "", **parameters: Any) -> "MultipartUpload":
        """``checksum`` is the kind that is sent with its parts."""
        if checksum == "when_supported":
            # Over the whole object, not only over each part.
            parameters |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": bucket.checksum_type}
        try:
            answer = bucket.ask("create_multipart_upload", name, **parameters)
        except PermanentStorageError as error:
            if parameters.get("ChecksumType") != "FULL_OBJECT" or status_of(error.__cause__) not in NOT_UNDERSTOOD:
                raise
            # The server (R2) has checksums of parts alone, which it still compares.
            answer = bucket.ask("create_multipart_upload", name, **{**parameters, "ChecksumType": "COMPOSITE"})
            bucket.checksum_type = "COMPOSITE"
        return cls(bucket, name, answer["UploadId"], checksum, "kms" not in answer.get("ServerSideEncryption", ""))

    def send(self, number: int, body: bytearray) -> Part:
        checksum = checksum_of(body, self.checksum)
        answer = self.bucket.ask(
            "upload_part", self.name, UploadId=self.upload_id, PartNumber=number, Body=body, **checksum
        )
        checksum.pop("ContentMD5", None)
        return {"PartNumber": number, "ETag": answer["ETag"], **checksum}

    def copy(self, number: int, piece: Range) -> Part:
        answer = self.bucket.ask(
            "upload_part_copy",
            self.name,
            UploadId=self.upload_id,
            PartNumber=number,
            CopySource={"Bucket": self.bucket.name, "Key": self.bucket.key(piece.name)},
            CopySourceIfMatch=piece.version,
            CopySourceRange=f"bytes={piece.start}-{piece.start + piece.length - 1}",
        )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def parts(self) -> list[Part]:
        """From ListParts. Raises ObjectNotFound when the upload is over."""
        return list(self.bucket.entries(PARTS, self.name, UploadId=self.upload_id))

    def rests_since(self, moment: datetime) -> bool:
        try:
            return all(part["LastModified"] < moment for part in self.parts())
        except ObjectNotFound:
            return False

    def copy_all(self, ranges: Iterable[Range]) -> list[Part]:
        with ThreadPoolExecutor(settings.STORAGE_PARALLEL_PARTS, thread_name_prefix="copy") as pool:
            futures = [
                pool.submit(copy_context().run, self.copy, number, piece)
                for number, piece in enumerate(ranges, start=1)
            ]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def complete(self, parts: Sequence[Part], write_id: str) -> None:
        """Make the object of this write; discard the parts on an error. Raises ObjectExists for an object of another
        write.
        """
        try:
            self.ask_to_complete(parts)
        except BaseException as error:
            with retry_policy(TIDYING if isinstance(error, TransientStorageError) else None):
                # First, so that a request that is still on its way can no longer succeed.
                self.try_to_abort()
                # If the object is ours, only the response was lost.
                if not isinstance(error, StorageError) or not self.bucket.was_made_by(self.name, write_id):
                    raise

    def ask_to_complete(self, parts: Sequence[Part]) -> None:
        """Raises ObjectExists, and ObjectNotFound when the upload is over."""
        self.bucket.finish(self.name, self.upload_id, parts)

    def abort(self) -> None:
        try:
            self.bucket.ask("abort_multipart_upload", self.name, UploadId=self.upload_id)
        except ObjectNotFound:
            return

    def try_to_abort(self) -> None:
        """On failure, ``remove_partials`` discards the parts later."""
        try:
            self.abort()
        except StorageError:
            log.warning("s3_parts_left_behind", name=self.name, exc_info=True)

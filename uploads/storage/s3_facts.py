"""What S3 keeps beside an object, in its words and in ours."""

import base64
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote

from .base import Availability, ObjectStat

#: Names the write that made an object, so that a write whose answer was lost knows its own.
WRITE_ID = "write-id"
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html: at most 2 KB of names and values.
MAX_METADATA_BYTES = 2048
# Of printable ASCII only ``%`` itself and what a header or its signature would not keep need to be encoded.
PLAIN = "!#$&'()*+,/:;=?@[]"
TAG_VALUE = re.compile(r"[A-Za-z0-9 +=._:/@-]{1,256}")

MD5 = re.compile(r"[0-9a-f]{32}")
CHECKSUMS = {"sha256": "ChecksumSHA256", "crc32c": "ChecksumCRC32C", "crc32": "ChecksumCRC32"}
# Objects of these classes cannot be read before they are restored; those of GLACIER_IR can.
ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
EXPIRY = re.compile(r'expiry-date="([^"]+)"')


def encode_metadata(metadata: Mapping[str, str], write_id: str) -> dict[str, str]:
    """As headers can carry it: names with hyphens, values percent-encoded.

    The file's name is cut, at the end of a character, where it would not fit.
    """
    encoded = {key.replace("_", "-"): quote(value, safe=PLAIN) for key, value in metadata.items()}
    encoded[WRITE_ID] = write_id
    excess = sum(len(key) + len(value) for key, value in encoded.items()) - MAX_METADATA_BYTES
    if excess > 0 and "original_filename" in metadata:
        room = len(encoded["original-filename"]) - excess
        encoded["original-filename"] = cut(metadata["original_filename"], room)
    return encoded


def cut(text: str, room: int) -> str:
    """Encode as many of the first characters as have room."""
    encoded = ""
    for character in text:
        piece = quote(character, safe=PLAIN)
        if len(encoded) + len(piece) > room:
            break
        encoded += piece
    return encoded


def decode_metadata(encoded: Mapping[str, str]) -> dict[str, str]:
    return {key.lower().replace("-", "_"): unquote(value) for key, value in encoded.items() if key.lower() != WRITE_ID}


def write_id_of(head: Mapping[str, Any]) -> str | None:
    return next((value for key, value in head.get("Metadata", {}).items() if key.lower() == WRITE_ID), None)


def tags_of(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """At most ten (S3 allows no more), and those only whose value can be one."""
    return [
        {"Key": key.replace("_", "-"), "Value": value} for key, value in metadata.items() if TAG_VALUE.fullmatch(value)
    ][:10]


def stat_of(name: str, head: Mapping[str, Any]) -> ObjectStat:
    """What the answer to HeadObject tells.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """
    availability, restored_until = availability_of(head)
    return ObjectStat(
        name,
        head["ContentLength"],
        head["LastModified"],
        storage_class=storage_class_of(head),
        checksums=checksums_of(head),
        content_type=head.get("ContentType", ""),
        metadata=decode_metadata(head.get("Metadata", {})),
        version=head["ETag"],
        availability=availability,
        restored_until=restored_until,
        encryption_key=head.get("SSEKMSKeyId", ""),
    )


def storage_class_of(answer: Mapping[str, Any]) -> str:
    # Of the usual class nothing is said.
    return str(answer.get("StorageClass") or "STANDARD")


def checksums_of(head: Mapping[str, Any]) -> dict[str, str]:
    """Those over the whole content: what was sent in parts may have checksums, or an ETag, made of its parts'."""
    checksums = {}
    etag = head["ETag"].strip('"')
    encrypted_otherwise = "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head
    if MD5.fullmatch(etag) and not encrypted_otherwise:
        checksums["md5"] = etag
    if head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        for algorithm, field in CHECKSUMS.items():
            value = head.get(field, "")
            if value and "-" not in value:
                checksums[algorithm] = base64.b64decode(value).hex()
    return checksums


def availability_of(head: Mapping[str, Any]) -> tuple[Availability, Any]:
    """Whether it can be read, and until when if that was asked for.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html (``x-amz-restore``)
    """
    restore = head.get("Restore", "")
    if 'ongoing-request="true"' in restore:
        return Availability.RESTORING, None
    if 'ongoing-request="false"' in restore:
        expiry = EXPIRY.search(restore)
        return Availability.READABLE, parsedate_to_datetime(expiry[1]) if expiry else None
    if storage_class_of(head) in ARCHIVES or head.get("ArchiveStatus"):
        return Availability.ARCHIVED, None
    return Availability.READABLE, None

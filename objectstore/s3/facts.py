import base64
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from ..base import Availability, ObjectStat
from ..metadata import decode_metadata, encode_metadata, write_id_of

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html: at most 2 KB of names and values.
MAX_METADATA_BYTES = 2048
TAG_VALUE = re.compile(r"[A-Za-z0-9 +=._:/@-]{1,256}")

MD5 = re.compile(r"[0-9a-f]{32}")
CHECKSUMS = {"sha256": "ChecksumSHA256", "crc32c": "ChecksumCRC32C", "crc32": "ChecksumCRC32"}
# Classes that need a restore before reading; GLACIER_IR does not.
ARCHIVES = {"GLACIER", "DEEP_ARCHIVE"}
EXPIRY = re.compile(r'expiry-date="([^"]+)"')


def headers_of(metadata: Mapping[str, str], write_id: str) -> dict[str, str]:
    encoded = encode_metadata(metadata, write_id, most_bytes=MAX_METADATA_BYTES)
    return {name.replace("_", "-"): value for name, value in encoded.items()}


def metadata_of(head: Mapping[str, Any]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in head.get("Metadata", {}).items()}


def tags_of(metadata: Mapping[str, str]) -> list[dict[str, str]]:
    """At most ten, the limit of S3."""
    return [
        {"Key": key.replace("_", "-"), "Value": value} for key, value in metadata.items() if TAG_VALUE.fullmatch(value)
    ][:10]


def stat_of(name: str, head: Mapping[str, Any]) -> ObjectStat:
    """https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html"""
    availability, restored_until = availability_of(head)
    return ObjectStat(
        name,
        head["ContentLength"],
        head["LastModified"],
        storage_class=storage_class_of(head),
        checksums=checksums_of(head),
        content_type=head.get("ContentType", ""),
        metadata=decode_metadata(metadata_of(head)),
        version=head["ETag"],
        identity=write_id_of(metadata_of(head)),
        availability=availability,
        restored_until=restored_until,
        encryption_key=head.get("SSEKMSKeyId", ""),
    )


def is_same_object(found: ObjectStat, seen: ObjectStat) -> bool:
    """Equal bytes have equal ETags; only listings have fractions of seconds."""
    return (
        found.version == seen.version
        and int(found.modified_at.timestamp()) == int(seen.modified_at.timestamp())
        and seen.identity in ("", found.identity)
    )


def storage_class_of(answer: Mapping[str, Any]) -> str:
    # The standard class is not named.
    return str(answer.get("StorageClass") or "STANDARD")


def checksums_of(head: Mapping[str, Any]) -> dict[str, str]:
    """Those over the whole content. An ETag with a hyphen shows a checksum of parts where the type is
    missing (Garage).
    """
    checksums = {}
    etag = head["ETag"].strip('"')
    encrypted_otherwise = "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head
    if MD5.fullmatch(etag) and not encrypted_otherwise:
        checksums["md5"] = etag
    kind = head.get("ChecksumType") or ("COMPOSITE" if "-" in etag else "FULL_OBJECT")
    if kind == "FULL_OBJECT":
        for algorithm, field in CHECKSUMS.items():
            value = head.get(field, "")
            if value and "-" not in value:
                checksums[algorithm] = base64.b64decode(value).hex()
    return checksums


def availability_of(head: Mapping[str, Any]) -> tuple[Availability, Any]:
    """Also the end of a restore.

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

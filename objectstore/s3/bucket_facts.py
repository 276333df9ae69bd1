"""What an S3 bucket does by itself: versions, locks, encryption. What a server does not tell is not known."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from ..base import Encryption, Keeping
from ..errors import BucketNotFound, ObjectNotFound, PermanentStorageError
from .errors import code_of
from .requests import Bucket

NO_LOCK = ("ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound")


@dataclass(frozen=True, slots=True)
class Version:
    """``has_content`` is false of a mark that says that the object was deleted; ``is_present`` is what is read now."""

    id: str
    has_content: bool
    is_present: bool


def versions(bucket: Bucket, name: str) -> Iterator[Version]:
    """All versions of exactly this object, the present one too. Raises StorageErrors."""
    key = bucket.key(name)
    marker: dict[str, Any] = {}
    while True:
        page = bucket.ask("list_object_versions", Prefix=key, **marker)
        for field, has_content in (("Versions", True), ("DeleteMarkers", False)):
            for entry in page.get(field, []):
                if entry["Key"] == key:
                    yield Version(entry["VersionId"], has_content, has_content and entry["IsLatest"])
        # Other names that begin with this one come behind all versions of this one.
        if not page.get("IsTruncated") or page.get("NextKeyMarker") != key:
            return
        marker = {"KeyMarker": key, "VersionIdMarker": page.get("NextVersionIdMarker", "")}


def keeping(bucket: Bucket) -> Keeping:
    """Amazon answers without a status where versioning was never on; a server that refuses to answer may keep all."""
    answer = answer_of(bucket, "get_bucket_versioning")
    is_versioned = None if answer is None else answer.get("Status") in ("Enabled", "Suspended")
    return Keeping(versions=is_versioned, soft_days=0, lock=lock_of(bucket))


def lock_of(bucket: Bucket) -> Any:
    try:
        answer = bucket.ask("get_object_lock_configuration")
    except ObjectNotFound:
        return ""
    except PermanentStorageError as error:
        if isinstance(error, BucketNotFound):
            raise
        return "" if code_of(error.__cause__) in NO_LOCK else None
    configuration = answer.get("ObjectLockConfiguration", {})
    if configuration.get("ObjectLockEnabled") != "Enabled":
        return ""
    retention = configuration.get("Rule", {}).get("DefaultRetention", {})
    if not retention:
        return _("Object Lock is on, without a default retention")
    if retention.get("Years"):
        return format_lazy(
            _("Object Lock, {mode}, {years} years"), mode=retention.get("Mode", ""), years=retention["Years"]
        )
    return format_lazy(
        _("Object Lock, {mode}, {days} days"), mode=retention.get("Mode", ""), days=retention.get("Days", "?")
    )


def encryption_of(bucket: Bucket, name: str) -> Encryption:
    head = bucket.head(name)
    answer = answer_of(bucket, "get_bucket_encryption") or {}
    rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    defaults = [rule.get("ApplyServerSideEncryptionByDefault", {}) for rule in rules]
    default_key = next(
        (
            default.get("KMSMasterKeyID") or default["SSEAlgorithm"]
            for default in defaults
            if "kms" in default.get("SSEAlgorithm", "")
        ),
        "",
    )
    return Encryption(
        algorithm=head.get("ServerSideEncryption", ""), key=head.get("SSEKMSKeyId", ""), default_key=default_key
    )


def region(bucket: Bucket) -> str:
    answer = bucket.ask("head_bucket")
    return str(answer.get("BucketRegion", ""))


def answer_of(bucket: Bucket, operation: str) -> dict[str, Any] | None:
    """None where the server does not know the operation, or does not let us ask."""
    try:
        return bucket.ask(operation)
    except BucketNotFound:
        raise
    except (ObjectNotFound, PermanentStorageError):
        return None

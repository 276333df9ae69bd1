from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from ..base import AudioStorage
from ..capabilities import BucketControl, Encryption, Keeping
from ..errors import BucketNotFound, ObjectNotFound, PermanentStorageError
from ..names import check_name
from .errors import code_of
from .requests import Bucket

if TYPE_CHECKING:
    from . import S3Storage

NO_LOCK = ("ObjectLockConfigurationNotFoundError", "ObjectLockConfigurationNotFound")


@dataclass(frozen=True, slots=True)
class Change:
    """A setting, its option, and the value for a simpler server."""

    setting: str
    option: str
    value: str | bool


CHANGES = (
    Change("AWS_S3_ENCRYPTION", "encryption", "none"),
    Change("AWS_S3_REQUEST_CHECKSUM", "request_checksum", "when_required"),
    Change("AWS_S3_CONDITIONAL_WRITES", "conditional_writes", False),
)


@dataclass(frozen=True, slots=True)
class Version:
    """``has_content`` is false for a delete marker; ``is_present``: it is the one that is read."""

    id: str
    has_content: bool
    is_present: bool


def versions(bucket: Bucket, name: str) -> Iterator[Version]:
    """All versions of exactly this object, with the present one."""
    key = bucket.key(name)
    marker: dict[str, Any] = {}
    while True:
        page = bucket.ask("list_object_versions", Prefix=key, **marker)
        for field, has_content in (("Versions", True), ("DeleteMarkers", False)):
            for entry in page.get(field, []):
                if entry["Key"] == key:
                    yield Version(entry["VersionId"], has_content, has_content and entry["IsLatest"])
        # Longer names follow all versions of this one.
        if not page.get("IsTruncated") or page.get("NextKeyMarker") != key:
            return
        marker = {"KeyMarker": key, "VersionIdMarker": page.get("NextVersionIdMarker", "")}


class S3BucketControl(BucketControl):
    def __init__(self, storage: "S3Storage") -> None:
        self._storage = storage
        self._bucket = storage.requests

    def create(self) -> bool:
        if self._bucket.is_there():
            return False
        place = {}
        if self._storage.region not in ("", "us-east-1"):
            place = {"CreateBucketConfiguration": {"LocationConstraint": self._storage.region}}
        try:
            self._bucket.ask("create_bucket", **place)
        except PermanentStorageError as error:
            # Another process created it, or a response was lost.
            if code_of(error.__cause__) != "BucketAlreadyOwnedByYou":
                raise
            return False
        return True

    def region(self) -> str:
        return str(self._bucket.ask("head_bucket").get("BucketRegion", "")) if self._storage.is_amazon else ""

    def keeping(self) -> Keeping:
        """See BucketControl. Amazon sends no status where versioning was never enabled."""
        answer = answer_of(self._bucket, "get_bucket_versioning")
        is_versioned = None if answer is None else answer.get("Status") in ("Enabled", "Suspended")
        return Keeping(versions=is_versioned, soft_days=0, lock=lock_of(self._bucket))

    def versions_of(self, name: str) -> int:
        check_name(name)
        return sum(1 for version in versions(self._bucket, name) if version.has_content)

    def remove_versions(self, name: str) -> None:
        check_name(name)
        for version in list(versions(self._bucket, name)):
            if not version.is_present:
                self._bucket.ask("delete_object", name, VersionId=version.id)

    def encryption_of(self, name: str) -> Encryption:
        check_name(name)
        head = self._bucket.head(name)
        answer = answer_of(self._bucket, "get_bucket_encryption") or {}
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

    def alternatives(self) -> Iterator[tuple[Mapping[str, str], AudioStorage]]:
        """See BucketControl: without encryption, newer checksums or conditions."""
        changes = [change for change in CHANGES if getattr(self._storage, change.option) != change.value]
        for number in range(1, len(changes) + 1):
            for chosen in combinations(changes, number):
                options = {change.option: change.value for change in chosen}
                if "encryption" in options:
                    options["kms_key_id"] = ""
                lines = {change.setting: str(change.value).lower() for change in chosen}
                yield lines, self._storage.with_options(**options)


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


def answer_of(bucket: Bucket, operation: str) -> dict[str, Any] | None:
    """None where the server does not know or forbids the operation."""
    try:
        return bucket.ask(operation)
    except BucketNotFound:
        raise
    except (ObjectNotFound, PermanentStorageError):
        return None

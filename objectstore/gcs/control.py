import math
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from google.api_core.exceptions import Conflict
from google.cloud.storage import Blob, Bucket

from ..capabilities import BucketControl, Encryption, Keeping
from ..errors import BucketNotFound, CredentialsRefused, ObjectNotFound
from ..names import check_name
from ..retry import call_with_retry
from .errors import vendor_errors

if TYPE_CHECKING:
    from . import GCSStorage

GOOGLE = ".googleapis.com"
SECONDS_OF_DAY = 86_400


class GCSBucketControl(BucketControl):
    def __init__(self, storage: "GCSStorage") -> None:
        self._storage = storage

    def create(self) -> bool:
        """See BucketControl. Public access to the bucket and its objects is prevented for good."""
        bucket = self._storage.google_bucket
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"

        def create_once() -> bool:
            with vendor_errors("create bucket", missing=BucketNotFound):
                try:
                    self._storage.client.create_bucket(bucket, location=self._storage.region or None, retry=None)
                except Conflict:
                    return False
            return True

        return call_with_retry(create_once)

    def keeping(self) -> Keeping:
        """See BucketControl. Soft delete is on by default, for a week; reading it needs a permission."""
        try:
            bucket = self._look()
        except CredentialsRefused:
            return Keeping(versions=None, soft_days=None, lock=None)
        soft = bucket.soft_delete_policy.retention_duration_seconds
        return Keeping(
            versions=bool(bucket.versioning_enabled),
            soft_days=None if soft is None else int(soft) / SECONDS_OF_DAY,
            lock=lock_of(bucket),
        )

    def encryption_of(self, name: str) -> Encryption:
        """See BucketControl. Google encrypts everything without saying so; other servers may not.

        https://cloud.google.com/docs/security/encryption/default-encryption
        """
        key = self._storage.stat(name).encryption_key
        try:
            default_key = self._look().default_kms_key_name or ""
        except CredentialsRefused:
            default_key = ""
        address = self._storage.endpoint_url
        is_google = not address or urlsplit(address).netloc.endswith(GOOGLE)
        return Encryption("AES256" if is_google or key else "", key, default_key)

    def versions_of(self, name: str) -> int:
        """See BucketControl: noncurrent generations and soft-deleted objects."""
        return sum(1 for kind in ("versions", "soft_deleted") for _blob in self._versions(name, kind))

    def remove_versions(self, name: str) -> None:
        """See BucketControl. Google keeps soft-deleted versions to the end of their period."""
        for blob in list(self._versions(name, "versions")):
            if blob.time_deleted is not None:
                with suppress(ObjectNotFound):
                    self._storage.ask("delete", name, blob.delete)

    def _versions(self, name: str, kind: str) -> Iterator[Blob]:
        check_name(name)
        for blob in self._storage.blobs(name, **{kind: True}):
            # The exact name comes before all longer ones.
            if blob.name != self._storage.folder + name:
                return
            yield blob

    def _look(self) -> Bucket:
        bucket = self._storage.google_bucket
        self._storage.ask("look at the bucket", "", bucket.reload, missing=BucketNotFound)
        return bucket


def lock_of(bucket: Bucket) -> Any:
    if seconds := bucket.retention_period:
        return format_lazy(_("a retention policy, {days} days"), days=math.ceil(seconds / SECONDS_OF_DAY))
    if bucket.default_event_based_hold:
        return _("a hold on every new object")
    return ""

"""Settings and permissions for each provider, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from .errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


@dataclass(frozen=True, slots=True)
class Needs:
    """``keys``, ``bucket`` and ``place`` are settings; ``rights`` are the provider's names of permissions."""

    keys: str
    bucket: str
    place: str
    rights: Mapping[str, str]


NEEDS: Mapping[str, Needs] = {
    "s3": Needs(
        keys="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        bucket="AWS_STORAGE_BUCKET_NAME",
        place="AWS_S3_ENDPOINT_URL, AWS_S3_REGION_NAME",
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
        rights={
            "create": "s3:CreateBucket",
            "list": "s3:ListBucket",
            "write": "s3:PutObject (kms:GenerateDataKey, kms:Decrypt)",
            "read": "s3:GetObject (kms:Decrypt)",
            "copy": "s3:GetObject, s3:GetObjectTagging, s3:PutObject, s3:PutObjectTagging",
            "parts": "s3:PutObject, s3:AbortMultipartUpload",
            "partials": "s3:ListBucketMultipartUploads, s3:ListMultipartUploadParts, s3:AbortMultipartUpload",
            "sign": "s3:GetObject",
            "rules": "s3:GetLifecycleConfiguration, s3:PutLifecycleConfiguration",
            "delete": "s3:DeleteObject",
            "versions": "s3:ListBucketVersions, s3:GetBucketVersioning, s3:DeleteObjectVersion",
        },
    ),
    "gcs": Needs(
        keys="GOOGLE_APPLICATION_CREDENTIALS",
        bucket="GCS_BUCKET_NAME",
        place="GCS_PROJECT_ID, GCS_ENDPOINT_URL",
        # https://cloud.google.com/storage/docs/access-control/iam-permissions
        rights={
            "create": "storage.buckets.create",
            "list": "storage.objects.list",
            "write": "storage.objects.create",
            "read": "storage.objects.get",
            "copy": "storage.objects.get, storage.objects.create",
            "parts": "storage.objects.create, storage.objects.delete",
            "partials": "storage.objects.list, storage.objects.delete",
            "sign": "storage.objects.get, iam.serviceAccounts.signBlob",
            "rules": "storage.buckets.get, storage.buckets.update",
            "delete": "storage.objects.delete",
            "versions": "storage.buckets.get, storage.objects.list, storage.objects.delete",
        },
    ),
    "azure": Needs(
        keys="AZURE_ACCOUNT_NAME, AZURE_ACCOUNT_KEY",
        bucket="AZURE_CONTAINER",
        place="AZURE_ACCOUNT_NAME, AZURE_ENDPOINT_URL",
        # https://learn.microsoft.com/azure/storage/blobs/assign-azure-role-data-access
        rights={
            "create": "Storage Blob Data Contributor",
            "list": "Storage Blob Data Contributor",
            "write": "Storage Blob Data Contributor",
            "read": "Storage Blob Data Contributor",
            "copy": "Storage Blob Data Contributor",
            "parts": "Storage Blob Data Contributor",
            "partials": "Storage Blob Data Contributor",
            "sign": "Storage Blob Delegator",
            "rules": "Microsoft.Storage/storageAccounts/managementPolicies/read, .../write",
            "delete": "Storage Blob Data Contributor",
            "versions": "Storage Blob Data Contributor",
        },
    ),
}
LOCAL = Needs(keys="", bucket="AUDIO_STORAGE_PATH", place="AUDIO_STORAGE_PATH", rights={})


def needs_of(provider: str) -> Needs:
    return NEEDS.get(provider, LOCAL)


def advice_on(error: StorageError, right: str, needs: Needs) -> "_StrOrPromise":
    if isinstance(error, CredentialsRefused):
        return format_lazy(
            _("Look at {keys}, and let the key do this: {right}. The log has the storage's own words."),
            keys=needs.keys,
            right=needs.rights.get(right, "-"),
        )
    if isinstance(error, BucketNotFound):
        return format_lazy(
            _("Look at {bucket} and at {place}, or let --create make it."), bucket=needs.bucket, place=needs.place
        )
    if isinstance(error, TransientStorageError):
        return format_lazy(_("Look at {place}, at the network, and whether the storage runs."), place=needs.place)
    if isinstance(error, StorageFull):
        return _("Make room, or let the storage grow.")
    if isinstance(error, ObjectNotFound):
        return _("What was written is not there: the storage does not keep what it says it has.")
    if isinstance(error, PermanentStorageError) and needs.keys:
        return format_lazy(
            _("The log has the storage's own words. Look at {place}; it may not know what is asked of it."),
            place=needs.place,
        )
    return format_lazy(_("The log has the system's own words. Look at {place}."), place=needs.place)

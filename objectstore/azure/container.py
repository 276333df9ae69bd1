"""One container of an Azure storage account: its settings, and each request to it, to be tried again as a whole."""

import hashlib
from contextlib import suppress
from datetime import UTC
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import quote, urlsplit

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.identity import DefaultAzureCredential
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobLeaseClient,
    BlobProperties,
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    StandardBlobTier,
)
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from storages.backends.azure_storage import AzureStorage as DjangoAzureStorage

from ..base import Availability, Encryption, EncryptionReference, Keeping, ObjectStat
from ..errors import (
    CredentialsRefused,
    DirectUploadUnsupported,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from ..metadata import decode_metadata
from ..remote import RemoteStorage
from ..retry import call_with_retry
from .client import Signer, Slices, azure_errors, make_service

PAGE_SIZE = 1000
#: What else of a blob a listing can show.
KEPT_KINDS = ("snapshots", "versions", "deleted")
#: Copies within an account share the bytes and take moments; this is for one that does not.
COPY_SECONDS = 600
#: All metadata of a blob, names and values: https://learn.microsoft.com/rest/api/storageservices/set-blob-metadata
METADATA_BYTES = 8 * 1024


class AzureContainer(RemoteStorage, DjangoAzureStorage):
    """What AzureStorage is made of; see there for the options."""

    provider = "azure"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._lock = Lock()
        self._service: BlobServiceClient | None = None
        if self.encryption_scope:
            self.encryption_key = EncryptionReference("azure-key-vault", self.encryption_scope)

    def get_default_settings(self) -> dict[str, Any]:
        ours = ("region", "endpoint_url", "public_endpoint_url", "encryption_scope", "access_tier")
        known = dict.fromkeys((*ours, "subscription_id", "resource_group"), "")
        return {**super().get_default_settings(), **known, "purge_versions": False}

    @property
    def endpoint(self) -> str:
        return (self.endpoint_url or self.service_client.url).partition("?")[0].rstrip("/")

    @cached_property
    def credential(self) -> TokenCredential:
        """What azure-identity finds, or the ``token_credential`` of the options."""
        return self.token_credential or DefaultAzureCredential()

    @property
    def service_client(self) -> BlobServiceClient:
        with self._lock:
            if self._service is None:
                self._service = self._get_service_client()
            return self._service

    def _get_service_client(self) -> BlobServiceClient:
        host = f"{self.azure_protocol}://{self.account_name}.blob.{self.endpoint_suffix}"
        credential: Any = self.account_key or self.sas_token or self.credential
        if self.account_key and self.account_name:
            credential = {"account_name": self.account_name, "account_key": self.account_key}
        options = {**self.client_options, **({"api_version": self.api_version} if self.api_version else {})}
        try:
            return make_service(
                self.endpoint_url or host, credential=credential, connection_string=self.connection_string, **options
            )
        except ValueError as error:
            raise PermanentStorageError(_("The settings of this storage do not fit together.")) from error

    @property
    def can_sign(self) -> bool:
        """A shared access signature can neither sign, nor ask for a key that does."""
        return bool(self.account_key) or not (
            self.sas_token or "SharedAccessSignature=" in (self.connection_string or "")
        )

    @cached_property
    def _signer(self) -> Signer:
        return Signer(self.service_client, self.account_name or self.service_client.account_name, self.account_key)

    def _sign(self, name: str, permission: BlobSasPermissions, seconds: int, **options: Any) -> str:
        """A URL for a client, at the endpoint that clients reach."""
        return self._signed_at(self.public_endpoint_url or self.endpoint, name, permission, seconds, **options)

    def _signed_at(self, at: str, name: str, permission: BlobSasPermissions, seconds: int, **options: Any) -> str:
        self.check_name(name)
        endpoint = at.rstrip("/")
        protocol = "https,http" if urlsplit(endpoint).scheme == "http" else "https"
        with azure_errors("sign", name):
            signature = self._signer.sign(
                self.azure_container,
                self.folder + name,
                seconds=seconds,
                permission=permission,
                protocol=protocol,
                **options,
            )
        return f"{endpoint}/{self.azure_container}/{quote(self.folder + name)}?{signature}"

    @property
    def folder(self) -> str:
        """What stands before each of our names in the container, with its ``/``; empty where it is ours alone."""
        return f"{self.location.strip('/')}/" if self.location.strip("/") else ""

    def _blob(self, name: str) -> BlobClient:
        self.check_name(name)
        return self.service_client.get_blob_client(self.azure_container, self.folder + name)

    def _tier(self, storage_class: str) -> StandardBlobTier | None:
        tier = storage_class or self.access_tier
        if not tier:
            return None
        try:
            return StandardBlobTier(tier.capitalize())
        except ValueError as error:
            raise PermanentStorageError(_("This storage has no class of this name.")) from error

    def _scope(self) -> dict[str, Any]:
        return {"encryption_scope": self.encryption_scope} if self.encryption_scope else {}

    def _content_settings(self, name: str, content_type: str, md5: bytes | None = None) -> ContentSettings:
        chosen = {
            "cache_control": self.cache_control,
            "content_type": content_type or self.default_content_type,
            **self.get_object_parameters(name),
        }
        return ContentSettings(**chosen, content_md5=bytearray(md5) if md5 else None)

    # Single requests, each to be tried again as a whole

    def _put_blob(self, blob: BlobClient, data: bytes, **options: Any) -> None:
        with azure_errors("write", blob.blob_name, unmet=ObjectExists):
            blob.upload_blob(data, length=len(data), **{"overwrite": False, "validate_content": True, **options})

    def _put_block(self, blob: BlobClient, write_id: str, number: int, part: bytearray) -> BlobBlock:
        block = f"{write_id}-{number:05}"
        with azure_errors("write", blob.blob_name):
            blob.stage_block(
                block,
                Slices(part),  # type: ignore[arg-type]  # it can be sent again, which an iterable need not
                length=len(part),
                transactional_content_md5=bytearray(hashlib.md5(part, usedforsecurity=False).digest()),
                **self._scope(),
            )
        return BlobBlock(block)

    def _put_block_list(self, blob: BlobClient, blocks: list[BlobBlock], **options: Any) -> None:
        with azure_errors("write", blob.blob_name, unmet=ObjectExists):
            blob.commit_block_list(blocks, match_condition=MatchConditions.IfMissing, **options)

    def _properties(self, name: str) -> BlobProperties:
        return call_with_retry(self._get_properties, self._blob(name), name)

    def _get_properties(self, blob: BlobClient, name: str) -> BlobProperties:
        with azure_errors("look", name):
            properties = blob.get_blob_properties()
        if not properties.etag or not properties.last_modified:
            # Whatever answered, it was not the service.
            raise TransientStorageError
        return properties

    def _start_copy(self, source: str, target: BlobClient, version: str, **options: Any) -> None:
        url = self._blob(source).url
        if self.can_sign:
            url = url.partition("?")[0]
        if self.encryption_scope and not self.can_sign:
            options = {**options, "requires_sync": True, **self._scope()}
        elif self.encryption_scope:
            # Only the synchronous copy takes a scope, and it takes our word for the source in a signature alone.
            url = self._signed_at(self.endpoint, source, BlobSasPermissions(read=True), COPY_SECONDS)
            options = {**options, "requires_sync": True, **self._scope()}
        with azure_errors("copy", target.blob_name, unmet=ObjectExists):
            target.start_copy_from_url(
                url,
                match_condition=MatchConditions.IfMissing,
                source_etag=version,
                source_match_condition=MatchConditions.IfNotModified,
                **options,
            )

    def _delete(self, blob: BlobClient, name: str, *, version: str = "") -> None:
        options: dict[str, Any] = {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}
        with azure_errors("delete", name):
            blob.delete_blob(delete_snapshots="include", **options)

    def _remains(self, name: str) -> list[BlobProperties]:
        """The present blob, its snapshots and versions, and what of them is soft-deleted."""
        self.check_name(name)
        container = self.service_client.get_container_client(self.azure_container)
        with azure_errors("list", name):
            key = self.folder + name
            found = container.list_blobs(name_starts_with=key, include=list(KEPT_KINDS), results_per_page=PAGE_SIZE)
            return [blob for blob in found if blob.name == key]

    def _delete_version(self, name: str, remains: BlobProperties) -> None:
        which: dict[str, Any] = {"version_id": remains.version_id} if remains.version_id else {}
        if remains.snapshot:
            which = {"snapshot": remains.snapshot}
        with suppress(ObjectNotFound), azure_errors("delete", name):
            self._blob(name).delete_blob(**which)

    def keeping(self) -> Keeping:
        """See AudioStorage. Of versions only a blob tells; see ``versions_of``."""
        return Keeping(versions=False, soft_days=self._soft_days(), lock=self._lock_in_words())

    def encryption_of(self, name: str) -> Encryption:
        properties = self._properties(name)
        container = call_with_retry(self._container_properties)
        scope = getattr(container, "encryption_scope", None)
        default = getattr(scope, "default_encryption_scope", "") or ""
        return Encryption(
            algorithm="AES256" if properties.server_encrypted else "",
            key=properties.encryption_scope or "",
            # Every container says that this is its default where nobody chose one.
            default_key="" if default.startswith("$") else default,
        )

    def _soft_days(self) -> float | None:
        try:
            with azure_errors("look"):
                found: Any = self.service_client.get_service_properties()
        except StorageError:
            # A data role does not allow it.
            return None
        policy = found.get("delete_retention_policy")
        if policy is None:
            return None
        return float(policy.days or 0) if policy.enabled else 0

    def _lock_in_words(self) -> Any:
        try:
            container = call_with_retry(self._container_properties)
        except CredentialsRefused:
            return None
        if container.immutable_storage_with_versioning_enabled:
            return _("version-level immutability")
        if container.has_immutability_policy:
            return _("an immutability policy of the container")
        return _("a legal hold on the container") if container.has_legal_hold else ""

    def _refuse_lock(self) -> None:
        """Raise DirectUploadUnsupported where nothing can be overwritten or removed: the staging place needs both."""
        try:
            lock = self._lock_in_words()
        except StorageError:
            return
        if lock:
            raise DirectUploadUnsupported(
                format_lazy(_("Clients cannot send to this storage themselves: it has {lock}."), lock=lock)
            )

    def _container_properties(self) -> Any:
        with azure_errors("look"):
            return self.service_client.get_container_client(self.azure_container).get_container_properties()

    def _break_lease(self, blob: BlobClient) -> None:
        with azure_errors("delete", blob.blob_name):
            BlobLeaseClient(blob).break_lease(lease_break_period=0)

    def _set_tier(self, name: str, tier: StandardBlobTier) -> None:
        with azure_errors("restore", name):
            self._blob(name).set_standard_blob_tier(tier)

    def _set_content_settings(self, name: str, content_settings: ContentSettings) -> None:
        with azure_errors("write", name):
            self._blob(name).set_http_headers(content_settings)

    def _create_container(self) -> None:
        with azure_errors("create_bucket"):
            self.service_client.create_container(self.azure_container)

    def _page(self, prefix: str, token: str | None) -> tuple[list[BlobProperties], str | None]:
        container = self.service_client.get_container_client(self.azure_container)
        with azure_errors("list", prefix):
            found = container.list_blobs(name_starts_with=(self.folder + prefix) or None, results_per_page=PAGE_SIZE)
            pages: Any = found.by_page(token)
            return list(next(pages)), pages.continuation_token


def stat_of(name: str, properties: BlobProperties) -> ObjectStat:
    content = properties.content_settings
    return ObjectStat(
        name,
        properties.size,
        properties.last_modified.astimezone(UTC),
        storage_class=str(properties.blob_tier or ""),
        checksums={"md5": bytes(content.content_md5).hex()} if content.content_md5 else {},
        content_type=content.content_type or "",
        metadata=decode_metadata(properties.metadata or {}),
        # A listing has it without its quotes.
        version='"{}"'.format(str(properties.etag).strip('"')),
        availability=availability_of(properties),
        encryption_key=properties.encryption_scope or "",
    )


def availability_of(properties: BlobProperties) -> Availability:
    if properties.blob_tier != StandardBlobTier.ARCHIVE:
        return Availability.READABLE
    pending = (properties.archive_status or "").startswith("rehydrate-pending")
    return Availability.RESTORING if pending else Availability.ARCHIVED

"""A container's settings, and single requests to it."""

import hashlib
from collections.abc import Mapping
from datetime import UTC
from functools import cached_property
from threading import Lock
from typing import Any
from urllib.parse import quote, urlsplit

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.core.utils import parse_connection_string
from azure.identity import DefaultAzureCredential
from azure.storage.blob import (
    BlobBlock,
    BlobClient,
    BlobProperties,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerClient,
    ContentSettings,
    StandardBlobTier,
)
from django.utils.translation import gettext_lazy as _

from ..base import Availability, EncryptionReference, ObjectStat
from ..errors import ObjectExists, PermanentStorageError, TransientStorageError
from ..metadata import decode_metadata
from ..remote import RemoteStorage
from ..retry import call_with_retry
from .client import SignatureKeys, Slices, azure_errors, make_service

PAGE_SIZE = 1000
DEFAULT_TYPE = "application/octet-stream"
#: The validity of a copy's source URL, and the longest wait. A copy within the account takes moments.
COPY_SECONDS = 600
#: Metadata of a blob, names and values: https://learn.microsoft.com/rest/api/storageservices/set-blob-metadata
METADATA_BYTES = 8 * 1024


class AzureContainer(RemoteStorage):
    provider = "azure"

    def __init__(
        self,
        *,
        azure_container: str,
        location: str = "",
        account_name: str | None = None,
        account_key: str | None = None,
        sas_token: str | None = None,
        connection_string: str | None = None,
        token_credential: TokenCredential | None = None,
        endpoint_suffix: str = "core.windows.net",
        azure_ssl: bool = True,
        client_options: Mapping[str, Any] | None = None,
        api_version: str | None = None,
        cache_control: str | None = None,
        object_parameters: Mapping[str, Any] | None = None,
        region: str = "",
        endpoint_url: str = "",
        public_endpoint_url: str = "",
        encryption_scope: str = "",
        access_tier: str = "",
        subscription_id: str = "",
        resource_group: str = "",
        purge_versions: bool = False,
    ) -> None:
        parsed = parse_connection_string(connection_string, case_sensitive_keys=True) if connection_string else {}
        self.azure_container = azure_container
        #: The prefix of our names in the container, with its ``/``; empty where we have the whole container.
        self.folder = f"{location.strip('/')}/" if location.strip("/") else ""
        self.account_name = account_name or parsed.get("AccountName") or ""
        self.account_key = account_key or parsed.get("AccountKey")
        self.sas_token = sas_token
        self.connection_string = connection_string
        self.region = region
        self.endpoint_url = endpoint_url
        self.public_endpoint_url = public_endpoint_url
        self.encryption_scope = encryption_scope
        self.access_tier = access_tier
        self.subscription_id = subscription_id
        self.resource_group = resource_group
        self.purge_versions = purge_versions
        self._token_credential = token_credential
        self._host = f"{'https' if azure_ssl else 'http'}://{account_name}.blob.{endpoint_suffix}"
        self._client_options = {**(client_options or {}), **({"api_version": api_version} if api_version else {})}
        self._object_parameters = {"cache_control": cache_control, **(object_parameters or {})}
        self._lock = Lock()
        self._service: BlobServiceClient | None = None
        if encryption_scope:
            self.encryption_key = EncryptionReference("azure-key-vault", encryption_scope)

    @property
    def endpoint(self) -> str:
        return (self.endpoint_url or self.service_client.url).partition("?")[0].rstrip("/")

    @cached_property
    def credential(self) -> TokenCredential:
        return self._token_credential or DefaultAzureCredential()

    @property
    def service_client(self) -> BlobServiceClient:
        with self._lock:
            if self._service is None:
                self._service = self._get_service_client()
            return self._service

    @property
    def client(self) -> ContainerClient:
        return self.service_client.get_container_client(self.azure_container)

    def _get_service_client(self) -> BlobServiceClient:
        credential: Any = self.account_key or self.sas_token or self.credential
        if self.account_key and self.account_name:
            credential = {"account_name": self.account_name, "account_key": self.account_key}
        try:
            return make_service(
                self.endpoint_url or self._host,
                credential=credential,
                connection_string=self.connection_string,
                **self._client_options,
            )
        except ValueError as error:
            raise PermanentStorageError(_("The settings of this storage do not fit together.")) from error

    @property
    def can_sign(self) -> bool:
        """A shared access signature can neither sign nor request a key that can."""
        return bool(self.account_key) or not (
            self.sas_token or "SharedAccessSignature=" in (self.connection_string or "")
        )

    @cached_property
    def _signatures(self) -> SignatureKeys:
        name = self.account_name or self.service_client.account_name
        return SignatureKeys(self.service_client, name, self.account_key)

    def sign_for_clients(self, name: str, permission: BlobSasPermissions, seconds: int, **options: Any) -> str:
        return self._signed_at(self.public_endpoint_url or self.endpoint, name, permission, seconds, **options)

    def _signed_at(self, at: str, name: str, permission: BlobSasPermissions, seconds: int, **options: Any) -> str:
        self.check_name(name)
        endpoint = at.rstrip("/")
        protocol = "https,http" if urlsplit(endpoint).scheme == "http" else "https"
        with azure_errors("sign", name):
            signature = self._signatures.sign(
                self.azure_container,
                self.folder + name,
                seconds=seconds,
                permission=permission,
                protocol=protocol,
                **options,
            )
        return f"{endpoint}/{self.azure_container}/{quote(self.folder + name)}?{signature}"

    def blob_client(self, name: str) -> BlobClient:
        self.check_name(name)
        return self.client.get_blob_client(self.folder + name)

    def tier_named(self, storage_class: str) -> StandardBlobTier | None:
        tier = storage_class or self.access_tier
        if not tier:
            return None
        try:
            return StandardBlobTier(tier.capitalize())
        except ValueError as error:
            raise PermanentStorageError(_("This storage has no class of this name.")) from error

    def scope_options(self) -> dict[str, Any]:
        return {"encryption_scope": self.encryption_scope} if self.encryption_scope else {}

    def content_settings(self, content_type: str, md5: bytes | None = None) -> ContentSettings:
        chosen = {"content_type": content_type or DEFAULT_TYPE, **self._object_parameters}
        return ContentSettings(**chosen, content_md5=bytearray(md5) if md5 else None)

    # Single requests, each retried as a whole

    def put_blob(self, blob: BlobClient, data: bytes, **options: Any) -> None:
        with azure_errors("write", blob.blob_name, unmet=ObjectExists):
            blob.upload_blob(data, length=len(data), **{"overwrite": False, "validate_content": True, **options})

    def put_block(self, blob: BlobClient, block: str, part: bytearray) -> BlobBlock:
        with azure_errors("write", blob.blob_name):
            blob.stage_block(
                block,
                Slices(part),  # type: ignore[arg-type]  # it can be sent again, which an iterable need not
                length=len(part),
                transactional_content_md5=bytearray(hashlib.md5(part, usedforsecurity=False).digest()),
                **self.scope_options(),
            )
        return BlobBlock(block)

    def put_block_list(self, blob: BlobClient, blocks: list[BlobBlock], **options: Any) -> None:
        with azure_errors("write", blob.blob_name, unmet=ObjectExists):
            blob.commit_block_list(blocks, match_condition=MatchConditions.IfMissing, **options)

    def properties(self, name: str) -> BlobProperties:
        return call_with_retry(self._get_properties, self.blob_client(name), name)

    def _get_properties(self, blob: BlobClient, name: str) -> BlobProperties:
        with azure_errors("look", name):
            properties = blob.get_blob_properties()
        if not properties.etag or not properties.last_modified:
            # Something other than the service responded.
            raise TransientStorageError
        return properties

    def start_copy(self, source: str, target: BlobClient, version: str, **options: Any) -> None:
        url = self.blob_client(source).url
        if self.can_sign:
            url = url.partition("?")[0]
        if self.encryption_scope and not self.can_sign:
            options = {**options, "requires_sync": True, **self.scope_options()}
        elif self.encryption_scope:
            # Only the synchronous copy takes an encryption scope, and it reads the source only through a signed URL.
            url = self._signed_at(self.endpoint, source, BlobSasPermissions(read=True), COPY_SECONDS)
            options = {**options, "requires_sync": True, **self.scope_options()}
        with azure_errors("copy", target.blob_name, unmet=ObjectExists):
            target.start_copy_from_url(
                url,
                match_condition=MatchConditions.IfMissing,
                source_etag=version,
                source_match_condition=MatchConditions.IfNotModified,
                **options,
            )

    def delete_blob(self, blob: BlobClient, name: str, *, version: str = "") -> None:
        options: dict[str, Any] = {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}
        with azure_errors("delete", name):
            blob.delete_blob(delete_snapshots="include", **options)

    def _page(self, prefix: str, token: str | None) -> tuple[list[BlobProperties], str | None]:
        with azure_errors("list", prefix):
            found = self.client.list_blobs(name_starts_with=(self.folder + prefix) or None, results_per_page=PAGE_SIZE)
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
        # A listing gives it without quotes.
        version='"{}"'.format(str(properties.etag).strip('"')),
        availability=availability_of(properties),
        encryption_key=properties.encryption_scope or "",
    )


def availability_of(properties: BlobProperties) -> Availability:
    if properties.blob_tier != StandardBlobTier.ARCHIVE:
        return Availability.READABLE
    pending = (properties.archive_status or "").startswith("rehydrate-pending")
    return Availability.RESTORING if pending else Availability.ARCHIVED

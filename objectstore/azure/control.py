from contextlib import suppress
from typing import TYPE_CHECKING, Any

from azure.storage.blob import BlobProperties
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from ..capabilities import BucketControl, Encryption, Keeping
from ..errors import CredentialsRefused, DirectUploadUnsupported, ObjectExists, ObjectNotFound, StorageError
from ..retry import call_with_retry
from .client import azure_errors
from .container import PAGE_SIZE

if TYPE_CHECKING:
    from .container import AzureContainer

#: Blobs that a listing includes only on request.
KEPT_KINDS = ("snapshots", "versions", "deleted")


class AzureContainerControl(BucketControl):
    def __init__(self, container: "AzureContainer") -> None:
        self._container = container

    def create(self) -> bool:
        try:
            call_with_retry(self._create)
        except ObjectExists:
            return False
        return True

    def versions_of(self, name: str) -> int:
        return len(call_with_retry(self._remains, name))

    def remove_versions(self, name: str) -> None:
        """See BucketControl. Azure keeps soft-deleted versions to the end of their period."""
        for remains in call_with_retry(self._remains, name):
            is_present = remains.is_current_version or not (remains.version_id or remains.snapshot)
            if not (remains.deleted or is_present):
                call_with_retry(self._delete_version, name, remains)

    def keeping(self) -> Keeping:
        """See BucketControl. Versioning is unknown here; ``versions_of`` a blob shows it."""
        return Keeping(versions=False, soft_days=self._soft_days(), lock=self._lock_in_words())

    def encryption_of(self, name: str) -> Encryption:
        properties = self._container.properties(name)
        scope = getattr(call_with_retry(self._properties), "encryption_scope", None)
        default = getattr(scope, "default_encryption_scope", "") or ""
        return Encryption(
            algorithm="AES256" if properties.server_encrypted else "",
            key=properties.encryption_scope or "",
            # The default of every container where nothing was chosen.
            default_key="" if default.startswith("$") else default,
        )

    def refuse_lock(self) -> None:
        """Raise DirectUploadUnsupported if blobs cannot be overwritten and removed, as the staging folder requires."""
        try:
            lock = self._lock_in_words()
        except StorageError:
            return
        if lock:
            raise DirectUploadUnsupported(
                format_lazy(_("Clients cannot send to this storage themselves: it has {lock}."), lock=lock)
            )

    def _soft_days(self) -> float | None:
        try:
            with azure_errors("look"):
                found: Any = self._container.service_client.get_service_properties()
        except StorageError:
            # A data role does not permit this.
            return None
        policy = found.get("delete_retention_policy")
        if policy is None:
            return None
        return float(policy.days or 0) if policy.enabled else 0

    def _lock_in_words(self) -> Any:
        try:
            container = call_with_retry(self._properties)
        except CredentialsRefused:
            return None
        if container.immutable_storage_with_versioning_enabled:
            return _("version-level immutability")
        if container.has_immutability_policy:
            return _("an immutability policy of the container")
        return _("a legal hold on the container") if container.has_legal_hold else ""

    def _properties(self) -> Any:
        with azure_errors("look"):
            return self._container.client.get_container_properties()

    def _create(self) -> None:
        with azure_errors("create_bucket"):
            self._container.client.create_container()

    def _remains(self, name: str) -> list[BlobProperties]:
        self._container.check_name(name)
        with azure_errors("list", name):
            key = self._container.folder + name
            found = self._container.client.list_blobs(
                name_starts_with=key, include=list(KEPT_KINDS), results_per_page=PAGE_SIZE
            )
            return [blob for blob in found if blob.name == key]

    def _delete_version(self, name: str, remains: BlobProperties) -> None:
        which: dict[str, Any] = {"version_id": remains.version_id} if remains.version_id else {}
        if remains.snapshot:
            which = {"snapshot": remains.snapshot}
        with suppress(ObjectNotFound), azure_errors("delete", name):
            self._container.blob_client(name).delete_blob(**which)

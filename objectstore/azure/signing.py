from typing import TYPE_CHECKING, Literal

from azure.storage.blob import BlobSasPermissions

from ..capabilities import Signer

if TYPE_CHECKING:
    from .container import AzureContainer


class AzureSigner(Signer):
    def __init__(self, container: "AzureContainer") -> None:
        self._container = container

    def sign(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str:
        """See Signer. A PUT must also send ``x-ms-blob-type: BlockBlob`` and cannot overwrite. Azure does not enforce a
        content type.
        """
        if method == "GET":
            answer = {"content_type": content_type or None, "content_disposition": disposition or None}
            return self._container.sign_for_clients(name, BlobSasPermissions(read=True), seconds, **answer)
        scope = self._container.scope_options()
        return self._container.sign_for_clients(name, BlobSasPermissions(create=True), seconds, **scope)

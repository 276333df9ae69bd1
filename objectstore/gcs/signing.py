from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from google.auth.credentials import AnonymousCredentials, Signing

from ..capabilities import Signer
from ..names import check_name
from ..retry import call_with_retry
from .access import KeylessSigning
from .errors import vendor_errors

if TYPE_CHECKING:
    from . import GCSStorage


class GCSSigner(Signer):
    def __init__(self, storage: "GCSStorage") -> None:
        self._storage = storage

    def sign(
        self,
        name: str,
        *,
        seconds: int,
        method: Literal["GET", "PUT"] = "GET",
        content_type: str = "",
        disposition: str = "",
    ) -> str | None:
        """See Signer. Google's IAM signs without a private key, by a request. None for credentials with neither key nor
        service account.
        """
        check_name(name)
        answer = {"response_type": content_type or None, "response_disposition": disposition or None}

        def sign_once() -> str | None:
            with vendor_errors("sign", name):
                blob = self._storage.blob(name)
                credentials = self._credentials()
                if credentials is None:
                    return None
                url: str = blob.generate_signed_url(
                    version="v4",
                    expiration=timedelta(seconds=seconds),
                    method=method,
                    credentials=credentials,
                    **(answer if method == "GET" else {"content_type": content_type or None}),
                )
                return url

        return call_with_retry(sign_once)

    def _credentials(self) -> Any:
        """May request a token, which names the service account."""
        session = self._storage.session
        credentials = session.credentials
        if isinstance(credentials, Signing):
            return credentials
        if isinstance(credentials, AnonymousCredentials):
            return None
        if not credentials.valid:
            credentials.refresh(session._auth_request)
        email = getattr(credentials, "service_account_email", None)
        return KeylessSigning(session, credentials.universe_domain, email) if email else None

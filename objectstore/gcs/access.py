"""Credentials, and the session for all requests."""

import base64
import json
import os
import warnings
from pathlib import Path
from typing import Any

import google.auth
import requests
import structlog
from django.conf import settings
from google.api_core.exceptions import from_http_status
from google.auth.credentials import AnonymousCredentials, Signing
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account
from requests.adapters import HTTPAdapter
from requests.exceptions import ContentDecodingError

from ..errors import CredentialsRefused, ObjectNotFound, StorageError
from .errors import vendor_errors

log = structlog.get_logger(__name__)

# Else the library inspects each bucket in a thread, for traces that are not collected.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: Idle connections of each session.
POOLED_CONNECTIONS = 64
#: Descriptions and pages of listings are far smaller; a larger response is rejected.
MOST_ANSWER_BYTES = 16 * 1024**2
MOST_MESSAGE_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024


def find_credentials(file: str, is_other_server: bool) -> tuple[Any, str | None]:
    """With their project. Raises GoogleAuthError, CredentialsRefused."""
    if not file and is_other_server:
        return AnonymousCredentials(), None
    if not file:
        found: tuple[Any, str | None] = google.auth.default(scopes=SCOPES)
        return found
    try:
        is_account = json.loads(Path(file).read_text()).get("type") == "service_account"
        if is_account:
            account = service_account.Credentials.from_service_account_file(file, scopes=SCOPES)
            return account, account.project_id
        with warnings.catch_warnings():
            # It warns of files from unknown sources; this one is the operator's.
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded: tuple[Any, str | None] = google.auth.load_credentials_from_file(file, scopes=SCOPES)
            return loaded
    except (OSError, ValueError, AttributeError) as error:
        log.error("gcs_credentials_unreadable", error=type(error).__name__)
        raise CredentialsRefused from error


class Session(AuthorizedSession):
    """Sends each request once, with our time-out. Checks size and kind of responses, since Google's library would take
    a proxy's page for an empty list.
    """

    def __init__(self, credentials: Any) -> None:
        super().__init__(credentials)  # type: ignore[no-untyped-call]
        adapter = HTTPAdapter(pool_maxsize=POOLED_CONNECTIONS, max_retries=0)
        for scheme in ("https://", "http://"):
            self.mount(scheme, adapter)

    def request(self, method: str, url: str, **options: Any) -> Any:  # type: ignore[override]
        options = {"hooks": {"response": [read_bounded, check_kind]}, **options, "stream": True}
        # In the protocol of resumable uploads, 308 is no redirect.
        options |= {"allow_redirects": False, "timeout": settings.STORAGE_TIMEOUT_SECONDS}
        return super().request(method, url, **options)  # type: ignore[no-untyped-call]

    def send_plain(
        self,
        method: str,
        url: str,
        *,
        action: str,
        name: str,
        expected: frozenset[int],
        missing: type[StorageError] = ObjectNotFound,
        is_streamed: bool = False,
        **options: Any,
    ) -> requests.Response:
        """Send a request without a function in the library. The caller closes a response that ``is_streamed``. Raises
        StorageErrors only.
        """
        with vendor_errors(action, name, missing=missing):
            # Also set for the response that asks for a new token, which Google's library handles itself.
            hooks = {"response": [] if is_streamed else [read_bounded]}
            response: requests.Response = self.request(method, url, hooks=hooks, **options)
            if response.status_code in expected:
                return response
            with response:
                content = beginning_of(response, MOST_MESSAGE_BYTES)
            # Their own constructor would put the URL, a secret of an upload session, into the text.
            raise from_http_status(response.status_code, message_of(content), response=response)


def read_bounded(response: requests.Response, **_options: Any) -> None:
    with response:
        content = beginning_of(response, MOST_ANSWER_BYTES + 1)
    if len(content) > MOST_ANSWER_BYTES:
        raise ContentDecodingError("too long")
    response._content = content


def check_kind(response: requests.Response, **_options: Any) -> None:
    """Raise ContentDecodingError for a success without a resource of the storage."""
    # These succeed without a resource: a deletion, and the start of an upload session.
    is_plain = response.request.method == "DELETE" or "Location" in response.headers
    if response.status_code not in (200, 201) or is_plain:
        return
    try:
        resource = response.json()
    except ValueError as error:
        raise ContentDecodingError("no JSON") from error
    if not (isinstance(resource, dict) and str(resource.get("kind", "")).startswith("storage#")):
        raise ContentDecodingError("not of the storage")


def beginning_of(response: requests.Response, most_bytes: int) -> bytes:
    content = bytearray()
    for piece in [response.content] if response.raw is None else response.iter_content(PIECE_BYTES):
        content += piece or b""
        if len(content) >= most_bytes:
            break
    return bytes(content[:most_bytes])


def message_of(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500]


class KeylessSigning(Signing):
    """Signs by Google's IAM with one request; the library's class would retry for two minutes.

    https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob
    """

    def __init__(self, session: Session, universe: str, email: str) -> None:
        self._session = session
        self._address = f"https://iamcredentials.{universe}/v1/projects/-/serviceAccounts/{email}:signBlob"
        self._email = email

    @property
    def signer_email(self) -> str:
        return self._email

    @property
    def signer(self) -> None:
        """There is no local key."""

    def sign_bytes(self, message: bytes) -> bytes:
        answer = self._session.send_plain(
            "POST",
            self._address,
            action="sign",
            name="",
            expected=frozenset({200}),
            missing=CredentialsRefused,
            headers={"Content-Type": "application/json"},
            data=json.dumps({"payload": base64.b64encode(message).decode()}).encode(),
        )
        try:
            return base64.b64decode(answer.json()["signedBlob"])
        except (ValueError, KeyError, TypeError) as error:
            raise ContentDecodingError("no signature") from error

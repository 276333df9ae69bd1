"""The way to Google Cloud Storage: credentials, and the session that all requests are sent with."""

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

# Or the library looks at each bucket in a thread of its own, for traces that nobody collects.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: Connections that wait for the next request of a thread.
POOLED_CONNECTIONS = 64
#: An answer that describes something, a page of a listing too, is far smaller. A larger one is not kept.
MOST_ANSWER_BYTES = 16 * 1024**2
MOST_MESSAGE_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024


def find_credentials(file: str, is_other_server: bool) -> tuple[Any, str | None]:
    """Return credentials and the project that they know. Raises GoogleAuthError, CredentialsRefused."""
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
            # It warns of files from strangers; this one is the operator's.
            warnings.simplefilter("ignore", DeprecationWarning)
            loaded: tuple[Any, str | None] = google.auth.load_credentials_from_file(file, scopes=SCOPES)
            return loaded
    except (OSError, ValueError, AttributeError) as error:
        log.error("gcs_credentials_unreadable", error=type(error).__name__)
        raise CredentialsRefused from error


class Session(AuthorizedSession):
    """Sends each request once, with our time-out. Answers to Google's library are bounded, and must be the storage's.

    A proxy may answer in the storage's place, with success even; the library would take that for an empty list.
    """

    def __init__(self, credentials: Any) -> None:
        super().__init__(credentials)  # type: ignore[no-untyped-call]
        adapter = HTTPAdapter(pool_maxsize=POOLED_CONNECTIONS, max_retries=0)
        for scheme in ("https://", "http://"):
            self.mount(scheme, adapter)

    def request(self, method: str, url: str, **options: Any) -> Any:  # type: ignore[override]
        options = {"hooks": {"response": [read_bounded, check_kind]}, **options, "stream": True}
        # In the protocol of resumable uploads 308 is not a redirection.
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
        """Send a request that the library has no function for. Raises StorageErrors only.

        Returns the answer if its status is ``expected``; the caller closes one that ``is_streamed``.
        """
        with vendor_errors(action, name, missing=missing):
            # Also of an answer that asks for another token, which Google's library keeps to itself.
            hooks = {"response": [] if is_streamed else [read_bounded]}
            response: requests.Response = self.request(method, url, hooks=hooks, **options)
            if response.status_code in expected:
                return response
            with response:
                content = beginning_of(response, MOST_MESSAGE_BYTES)
            # Its own constructor would put the URL into the text, which for an upload session is a key.
            raise from_http_status(response.status_code, message_of(content), response=response)


def read_bounded(response: requests.Response, **_options: Any) -> None:
    """Read an answer, as requests would, but no more than MOST_ANSWER_BYTES."""
    with response:
        content = beginning_of(response, MOST_ANSWER_BYTES + 1)
    if len(content) > MOST_ANSWER_BYTES:
        raise ContentDecodingError("too long")
    response._content = content


def check_kind(response: requests.Response, **_options: Any) -> None:
    """Raise ContentDecodingError for a success whose body is no resource of the storage."""
    # A deletion and the beginning of an upload session are answered without a resource.
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
    """Return why the request failed, in the provider's words."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500]


class KeylessSigning(Signing):
    """Has Google sign for a service account, with one request: the library's own would be tried for two minutes.

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
        """Nobody has the key."""

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

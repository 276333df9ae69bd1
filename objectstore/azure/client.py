"""Azure Blob Storage as its client library has it: connections, errors and metadata.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

import requests
import structlog
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    DeserializationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import BlobServiceClient, UserDelegationKey, generate_blob_sas
from django.conf import settings
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from ..errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)
from ..retry import call_with_retry, seconds_to_wait

log = structlog.get_logger(__name__)

# It tells of every request, with its address, and of what credentials it tried.
logging.getLogger("azure").setLevel(logging.WARNING)

#: Connections that are kept open for the next request; more are made when they are needed.
KEPT_CONNECTIONS = 64
#: What is given to a connection at once: the time-out is for this, not for a whole part.
SEND_BYTES = 256 * 1024
#: All metadata of an object, names and values: https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources

#: The longest that Azure gives a user delegation key for.
DELEGATION_TIME = timedelta(days=7)
#: By how much a URL may end early, so that those of seven days need no key of their own each.
DELEGATION_SLACK = timedelta(hours=1)

BROKEN_ANSWERS = (
    ServiceRequestError,
    ServiceResponseError,
    IncompleteReadError,
    DecodeError,
    DeserializationError,
)
TRANSIENT_STATUSES = {408, 429, 500, 502, 503, 504}
ERRORS: Mapping[str, type[StorageError]] = {
    "BlobAlreadyExists": ObjectExists,
    "BlobArchived": ObjectArchived,
    "BlobBeingRehydrated": ObjectArchived,
    "BlobNotFound": ObjectNotFound,
    "ContainerAlreadyExists": ObjectExists,
    "ContainerBeingDeleted": TransientStorageError,
    "ContainerNotFound": BucketNotFound,
    "Crc64Mismatch": TransientStorageError,
    "IncompleteBody": TransientStorageError,
    # How Azurite calls a body that is short, or not of its MD5.
    "InvalidOperation": TransientStorageError,
    "Md5Mismatch": TransientStorageError,
    "OperationTimedOut": TransientStorageError,
    "PendingCopyOperation": TransientStorageError,
    "ResourceNotFound": ObjectNotFound,
    "ServerBusy": TransientStorageError,
    "SourceConditionNotMet": TransientStorageError,
    "TargetConditionNotMet": ObjectExists,
}


class BlobLeased(PermanentStorageError):
    """Somebody holds a lease on the blob: only he may change or remove it."""


class BlocksGone(PermanentStorageError):
    """Blocks that were sent are no longer there: another writer of this name was faster, or they are too old."""


def make_service(
    url: str, *, credential: Any = None, connection_string: str | None = None, **options: Any
) -> BlobServiceClient:
    """A client for all threads. It tries nothing again by itself, and waits STORAGE_TIMEOUT_SECONDS at most.

    A ``connection_string`` says the address and the credential. Raises ValueError for what does not fit together.
    """
    session = requests.Session()
    adapter = HTTPAdapter(pool_maxsize=KEPT_CONNECTIONS, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    timeouts: dict[str, Any] = {
        "connection_timeout": settings.STORAGE_TIMEOUT_SECONDS,
        "read_timeout": settings.STORAGE_TIMEOUT_SECONDS,
    }
    transport = RequestsTransport(session=session, **timeouts, **options)
    options = {"transport": transport, "retry_total": 0, **options}
    if connection_string:
        return BlobServiceClient.from_connection_string(connection_string, **options)
    return BlobServiceClient(url, credential=credential, **options)


@contextmanager
def azure_errors(operation: str, name: str = "", *, unmet: type[StorageError] = ObjectNotFound) -> Iterator[None]:
    """Turn what the client library raises into the errors of ``errors``; ``unmet`` is for a condition that failed."""
    try:
        yield
    except HttpResponseError as error:
        raise translate(error, operation, name, unmet) from error
    except BROKEN_ANSWERS as error:
        log.info("azure_connection_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error
    except AzureError as error:
        # Besides the above, only a checksum of an answer that is not that of the request.
        log.warning("azure_storage_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error
    except (HTTPError, requests.RequestException, OSError) as error:
        log.info("azure_connection_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error


def translate(
    error: HttpResponseError, operation: str, name: str, unmet: type[StorageError] = ObjectNotFound
) -> StorageError:
    """Our error for one of Azure's; what is unexpected is logged, without the vendor's sentence, which has addresses.

    https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes. The answer to a HEAD has no body: the
    code is in a header as well.
    """
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    status = error.status_code or 0
    code = headers.get("x-ms-error-code") or getattr(getattr(error, "error_code", ""), "value", "") or ""
    if code == "CannotVerifyCopySource":
        status = int(headers.get("x-ms-copy-source-status-code") or status)
        code = headers.get("x-ms-copy-source-error-code") or ""
    kind = kind_of(error, status, code, unmet)
    if not issubclass(kind, ObjectNotFound | ObjectExists | ObjectArchived):
        log.warning(
            "azure_storage_failed",
            operation=operation,
            object_name=name,
            status=status,
            code=code or type(error).__name__,
            request_id=headers.get("x-ms-request-id"),
        )
    translated = kind()
    if isinstance(translated, TransientStorageError):
        translated.retry_after = seconds_to_wait(headers.get("Retry-After", ""))
    return translated


def kind_of(error: HttpResponseError, status: int, code: str, unmet: type[StorageError]) -> type[StorageError]:
    if code in ERRORS:
        return ERRORS[code]
    if code == "ConditionNotMet" or (status == 412 and not code):
        return unmet
    if code == "InvalidBlockList":
        return BlocksGone
    if code == "LeaseIdMissing":
        return BlobLeased
    if status in (401, 403) or isinstance(error, ClientAuthenticationError):
        return CredentialsRefused
    # An answer that broke off while it was read has no status of its own.
    # A request that the service itself refuses has a code: without one it came garbled to what stands before it.
    if status in TRANSIENT_STATUSES or error.response is None or 200 <= status < 300 or (status == 400 and not code):
        return TransientStorageError
    return {404: ObjectNotFound, 507: StorageFull}.get(status, PermanentStorageError)


class Slices:
    """A part as the body of a request: slice by slice, from its beginning each time that it is sent."""

    def __init__(self, part: bytearray) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    def __iter__(self) -> Iterator[bytearray]:
        # No views: one that a failed request keeps would hold the buffer's size.
        return (self._part[start : start + SEND_BYTES] for start in range(0, len(self._part), SEND_BYTES))


class SignatureKeys:
    """Signs URLs of one account with its key, or else with a user delegation key, which is asked for when it is needed.

    https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
    """

    def __init__(self, service: BlobServiceClient, account_name: str | None, account_key: str | None) -> None:
        self._service = service
        self._account_name = account_name or ""
        self._account_key = account_key
        self._lock = Lock()
        self._delegation: tuple[UserDelegationKey, datetime] | None = None

    def sign(self, container: str, name: str, *, seconds: int, **options: Any) -> str:
        """The query of a URL that is good for ``seconds``; of seven days, up to an hour less if a key is delegated."""
        expiry = datetime.now(UTC) + timedelta(seconds=seconds)
        options = {**options, "account_key": self._account_key}
        if not self._account_key:
            key, key_expiry = call_with_retry(self._delegation_key, expiry)
            expiry = min(expiry, key_expiry)
            options["user_delegation_key"] = key
        try:
            return generate_blob_sas(self._account_name, container, name, expiry=expiry, **options)
        except ValueError as error:
            log.warning("azure_key_malformed")
            raise CredentialsRefused from error

    def _delegation_key(self, expiry: datetime) -> tuple[UserDelegationKey, datetime]:
        now = datetime.now(UTC)
        needed_until = min(expiry, now + DELEGATION_TIME - DELEGATION_SLACK)
        if self._delegation is not None and self._delegation[1] >= needed_until:
            return self._delegation
        # One thread asks for all. Whoever waited for it as long as for an answer does not wait for one of its own too.
        if not self._lock.acquire(timeout=settings.STORAGE_TIMEOUT_SECONDS):
            raise TransientStorageError
        try:
            with azure_errors("sign"):
                if self._delegation is None or self._delegation[1] < needed_until:
                    # A start that lies back a little: our clock may be ahead.
                    start = now - timedelta(minutes=15)
                    ends = start + DELEGATION_TIME
                    self._delegation = self._service.get_user_delegation_key(start, ends), ends
                return self._delegation
        finally:
            self._lock.release()

"""Clients, errors and signatures of Azure Blob Storage.

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

# It logs the URL of each request, and the credentials that it tried.
logging.getLogger("azure").setLevel(logging.WARNING)

#: Connections that stay open for later requests.
KEPT_CONNECTIONS = 64
#: The time-out applies to one write of this size, not to a whole part.
SEND_BYTES = 256 * 1024
#: Metadata of an object, names and values:
#: https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources

#: The longest validity of a user delegation key.
DELEGATION_TIME = timedelta(days=7)
#: A URL may end this much early, so that URLs of seven days share a key.
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
    # Azurite's code for a short body or a wrong MD5.
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
    """Another client holds a lease on the blob."""


class BlocksGone(PermanentStorageError):
    """Blocks were dropped: another writer made the blob first, or a week has passed."""


def make_service(
    url: str, *, credential: Any = None, connection_string: str | None = None, **options: Any
) -> BlobServiceClient:
    """A client for all threads, without own retries and with STORAGE_TIMEOUT_SECONDS. Raises ValueError for options
    that contradict each other.
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
    """Translate exceptions of the client library; ``unmet`` is the error for a failed condition."""
    try:
        yield
    except HttpResponseError as error:
        raise translate(error, operation, name, unmet) from error
    except BROKEN_ANSWERS as error:
        log.info("azure_connection_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error
    except AzureError as error:
        # Else only a response whose checksum does not match.
        log.warning("azure_storage_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error
    except (HTTPError, requests.RequestException, OSError) as error:
        log.info("azure_connection_failed", operation=operation, object_name=name, error=type(error).__name__)
        raise TransientStorageError from error


def translate(
    error: HttpResponseError, operation: str, name: str, unmet: type[StorageError] = ObjectNotFound
) -> StorageError:
    """Logs an unexpected error without the vendor's message, which contains URLs.

    https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
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
    # A response that broke off has no status. A 400 without a code means that a front end received a garbled request.
    if status in TRANSIENT_STATUSES or error.response is None or 200 <= status < 300 or (status == 400 and not code):
        return TransientStorageError
    return {404: ObjectNotFound, 507: StorageFull}.get(status, PermanentStorageError)


class Slices:
    """A part as a request body that can be sent again."""

    def __init__(self, part: bytearray) -> None:
        self._part = part

    def __len__(self) -> int:
        return len(self._part)

    def __iter__(self) -> Iterator[bytearray]:
        # Copies, since a view that a failed request keeps would prevent the buffer from growing.
        return (self._part[start : start + SEND_BYTES] for start in range(0, len(self._part), SEND_BYTES))


class SignatureKeys:
    """Signs URLs with the account's key or a user delegation key.

    https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
    """

    def __init__(self, service: BlobServiceClient, account_name: str | None, account_key: str | None) -> None:
        self._service = service
        self._account_name = account_name or ""
        self._account_key = account_key
        self._lock = Lock()
        self._delegation: tuple[UserDelegationKey, datetime] | None = None

    def sign(self, container: str, name: str, *, seconds: int, **options: Any) -> str:
        """The query of a URL for ``seconds``. With a delegated key, one of seven days may end an hour early."""
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
        # One thread requests the key for all. A thread that waited as long as a request may take does not send its own
        # too.
        if not self._lock.acquire(timeout=settings.STORAGE_TIMEOUT_SECONDS):
            raise TransientStorageError
        try:
            with azure_errors("sign"):
                if self._delegation is None or self._delegation[1] < needed_until:
                    # Begins in the past, since our clock may be ahead.
                    start = now - timedelta(minutes=15)
                    ends = start + DELEGATION_TIME
                    self._delegation = self._service.get_user_delegation_key(start, ends), ends
                return self._delegation
        finally:
            self._lock.release()

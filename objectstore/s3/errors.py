"""https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
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
from ..retry import seconds_to_wait

log = structlog.get_logger(__name__)

NOT_FOUND = {"NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound", "404"}
# Includes bytes that arrived damaged or incomplete, which are sent again.
TRANSIENT = {
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "KMS.ThrottlingException",
    "RequestLimitExceeded",
    "TooManyRequests",
    "OperationAborted",
    "ConditionalRequestConflict",
    "BadDigest",
    "IncompleteBody",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
}
REFUSED = {
    "AccessDenied",
    "AccountProblem",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
FULL = {"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}
# 499: some servers send it in place of IncompleteBody when they take us for disconnected.
TRANSIENT_STATUS = {408, 429, 499, 500, 502, 503, 504}
#: The statuses for an unknown operation or parameter.
NOT_UNDERSTOOD = (400, 501)
# Their precondition requires a version, not a free name.
OF_A_VERSION = {"delete_object", "get_object", "upload_part_copy"}

NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.UnknownCredentialError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
BROKEN_CONNECTIONS = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.MetadataRetrievalError,
    HTTPError,
    OSError,
    # An unreadable response was cut off.
    ResponseParserError,
)


@contextmanager
def s3_errors(operation: str, name: str) -> Iterator[None]:
    """Translate exceptions of boto3, and log them as ``s3_request_failed``."""
    try:
        yield
    except ClientError as error:
        raise error_of_answer(error, operation, name) from error
    except (BotoCoreError, *BROKEN_CONNECTIONS) as error:
        # Its text may contain a URL.
        log.warning("s3_request_failed", operation=operation, name=name, error=type(error).__name__)
        raise error_without_answer(error) from error


def error_of_answer(error: ClientError, operation: str, name: str) -> StorageError:
    code, status = code_of(error), status_of(error)
    kind = kind_of(code, status, operation)
    if kind not in (ObjectNotFound, ObjectExists):
        log.warning(
            "s3_request_failed",
            operation=operation,
            name=name,
            code=code,
            status=status,
            reason=error.response.get("Error", {}).get("Message", ""),
            request_id=error.response.get("ResponseMetadata", {}).get("RequestId", ""),
        )
    ours = kind()
    if isinstance(ours, TransientStorageError):
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        ours.retry_after = seconds_to_wait(headers.get("retry-after", ""))
    return ours


def kind_of(code: str, status: int, operation: str) -> type[StorageError]:
    if code == "NoSuchBucket":
        return BucketNotFound
    if code in ("InvalidObjectState", "ObjectNotInActiveTierError"):
        return ObjectArchived
    if code in FULL or status == 507:
        return StorageFull
    if code in TRANSIENT or status in TRANSIENT_STATUS:
        return TransientStorageError
    if code in REFUSED or status in (401, 403):
        return CredentialsRefused
    if code in NOT_FOUND:
        return ObjectNotFound
    if status == 412:
        return ObjectNotFound if operation in OF_A_VERSION else ObjectExists
    return PermanentStorageError


def error_without_answer(error: Exception) -> StorageError:
    if isinstance(error, NO_CREDENTIALS):
        return CredentialsRefused()
    if isinstance(error, BROKEN_CONNECTIONS):
        return TransientStorageError()
    return PermanentStorageError()


def code_of(error: BaseException | None) -> str:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def status_of(error: BaseException | None) -> int:
    response: Mapping[str, Any] = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

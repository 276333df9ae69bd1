from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import requests
import structlog
import urllib3
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError, TransportError
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

from ..errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from ..retry import seconds_to_wait

log = structlog.get_logger(__name__)

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
UNUSABLE_ADDRESS = (InvalidURL, MissingSchema, InvalidSchema)


@contextmanager
def vendor_errors(action: str, name: str = "", *, missing: type[StorageError] = ObjectNotFound) -> Iterator[None]:
    """Translate exceptions of Google's libraries and of ``requests``. ``missing`` is the error for a 404."""
    try:
        yield
    except GoogleAPICallError as error:
        raise error_of_answer(error, action, name, missing) from error
    except GoogleAuthError as error:
        log.warning("gcs_failed", action=action, object=name, error=type(error).__name__)
        is_transient = error.retryable or isinstance(error, TransportError)
        raise (TransientStorageError if is_transient else CredentialsRefused) from error
    except UNUSABLE_ADDRESS as error:
        log.error("gcs_failed", action=action, object=name, error=type(error).__name__)
        raise PermanentStorageError from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        log.warning("gcs_failed", action=action, object=name, error=type(error).__name__)
        # Its text has the URL, which is a secret of an upload session.
        raise TransientStorageError from None


def error_of_answer(
    error: GoogleAPICallError, action: str, name: str, missing: type[StorageError] = ObjectNotFound
) -> StorageError:
    status = error.code or 0
    message = str(error.message)
    if status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists()
    if status == HTTPStatus.NOT_FOUND:
        return (BucketNotFound if "bucket does not exist" in message else missing)()
    log.warning("gcs_failed", action=action, object=name, status=status, message=message)
    # Google's library raises these also for a success whose response is incomplete. "match calculated" means damaged on
    # the way: https://cloud.google.com/storage/docs/hashes-etags.
    is_damaged = status == HTTPStatus.BAD_REQUEST and "match calculated" in message
    if status in TRANSIENT_STATUSES or status < HTTPStatus.MULTIPLE_CHOICES or is_damaged:
        result = TransientStorageError()
        if error.response is not None:
            result.retry_after = seconds_to_wait(error.response.headers.get("Retry-After", ""))
        return result
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return CredentialsRefused()
    return PermanentStorageError()

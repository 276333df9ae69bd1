"""Requests to Google Cloud Storage, and what their failures mean to us."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

import requests
import structlog
import urllib3
from django.conf import settings
from django.utils.translation import gettext_lazy as _
from google.api_core.exceptions import GoogleAPICallError, RetryError, from_http_status
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
#: Incomplete, in Google's protocol of resumable uploads; HTTP itself calls it Permanent Redirect.
RESUME_INCOMPLETE = HTTPStatus.PERMANENT_REDIRECT
UNUSABLE_ADDRESS = (InvalidURL, MissingSchema, InvalidSchema)

#: An answer that describes something, a page of a listing too, is far smaller. Of what is larger nothing is kept.
MOST_ANSWER_BYTES = 16 * 1024**2
MOST_MESSAGE_BYTES = 64 * 1024
PIECE_BYTES = 64 * 1024

#: A description of an object, as the JSON API has it.
Resource = Mapping[str, Any]
#: What each of them has.
OBJECT = ("name", "generation", "size", "crc32c", "timeCreated")


@contextmanager
def vendor_errors(action: str, name: str = "", *, missing: type[StorageError] = ObjectNotFound) -> Iterator[None]:
    """Turn what Google's libraries and ``requests`` raise into one of our errors; ``missing`` is what a 404 means."""
    try:
        yield
    except GoogleAPICallError as error:
        raise error_of_answer(error, action, name, missing) from error
    except GoogleAuthError as error:
        log.warning("gcs_failed", action=action, object=name, error=type(error).__name__)
        may_pass = error.retryable or isinstance(error, TransportError)
        raise (TransientStorageError if may_pass else CredentialsRefused) from error
    except RetryError as error:
        # What the library itself tries again, such as to read a bucket's rules.
        log.warning("gcs_failed", action=action, object=name, error=type(error.cause).__name__)
        raise TransientStorageError from error
    except UNUSABLE_ADDRESS as error:
        log.error("gcs_failed", action=action, object=name, error=type(error).__name__)
        raise PermanentStorageError from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        log.warning("gcs_failed", action=action, object=name, error=type(error).__name__)
        # Its text has the URL, which for an upload session is a key.
        raise TransientStorageError from None


def error_of_answer(
    error: GoogleAPICallError, action: str, name: str, missing: type[StorageError] = ObjectNotFound
) -> StorageError:
    status = error.code
    message = str(error.message)
    if status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists()
    if status == HTTPStatus.NOT_FOUND:
        return (BucketNotFound if "bucket does not exist" in message else missing)()
    log.warning("gcs_failed", action=action, object=name, status=status, message=message)
    # What arrived is not what was sent: https://cloud.google.com/storage/docs/hashes-etags
    if status in TRANSIENT_STATUSES or (status == HTTPStatus.BAD_REQUEST and "match calculated" in message):
        result = TransientStorageError()
        if error.response is not None:
            result.retry_after = seconds_to_wait(error.response.headers.get("Retry-After", ""))
        return result
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return CredentialsRefused()
    return PermanentStorageError()


class Requests:
    """Sends one request at a time, without retries, and lets only StorageErrors out; all threads share its session."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def send(
        self,
        method: str,
        url: str,
        *,
        action: str,
        name: str,
        expected: frozenset[int],
        missing: type[StorageError] = ObjectNotFound,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        data: Any = b"",
        stream: bool = False,
    ) -> requests.Response:
        """Return the answer if its status is ``expected``. ``data`` is bytes, or a view of them that is not copied.

        The caller closes an answer that it streams. Of any other answer no more than MOST_ANSWER_BYTES is read: whoever
        ignores a range, or answers an error with a file, fills no memory.
        """
        with vendor_errors(action, name, missing=missing):
            response = self._session.request(
                method,
                url,
                params=params,
                headers=dict(headers or {}),
                data=data,
                stream=True,
                # Also of an answer that asks for another token, which Google's library keeps to itself.
                hooks=None if stream else {"response": read_bounded},
                # In the protocol of resumable uploads 308 is not a redirection.
                allow_redirects=False,
                timeout=settings.STORAGE_TIMEOUT_SECONDS,
            )
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
        raise requests.exceptions.ContentDecodingError("too long")
    response._content = content


def beginning_of(response: requests.Response, most_bytes: int) -> bytes:
    content = bytearray()
    for piece in [response.content] if response.raw is None else response.iter_content(PIECE_BYTES):
        content += piece or b""
        if len(content) >= most_bytes:
            break
    return bytes(content[:most_bytes])


def message_of(content: bytes) -> str:
    """Why the request failed, in the provider's words."""
    try:
        return str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")[:500]


def resource_of(response: requests.Response, essential: Collection[str] = OBJECT) -> Resource:
    """The JSON object of an answer. Raises TransientStorageError unless it has all that is ``essential``."""
    with suppress(ValueError):
        resource = response.json()
        if isinstance(resource, dict) and all(name in resource for name in essential):
            return resource
    log.warning("gcs_failed", status=response.status_code, error="cut, or not of the storage")
    raise TransientStorageError(_("The storage's answer cannot be understood."))

"""What S3 and boto3 say, and what of it comes out."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from django.core.files.base import ContentFile
from urllib3.exceptions import ProtocolError

from objectstore import get_storage
from objectstore.errors import (
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
from objectstore.retry import ONCE, RetryPolicy, retry_policy
from objectstore.s3 import S3Storage
from objectstore.s3.errors import s3_errors
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.objectstore.test_storage_contract import CONTENT, NAME, OTHER, noise
from tests.servers import free_port

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, max_delay=0)


def answer(code: str, status: int, **headers: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": "in the vendor's words"},
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers, "RequestId": "1"},
        },
        "Operation",
    )


def turned(error: Exception, operation: str = "put_object") -> StorageError:
    with pytest.raises(StorageError) as raised, s3_errors(operation, NAME):
        raise error
    assert raised.value.__cause__ is error
    assert "vendor" not in str(raised.value.detail)
    return raised.value


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchKey", 404, ObjectNotFound),
        ("404", 404, ObjectNotFound),
        ("NoSuchUpload", 404, ObjectNotFound),
        ("NoSuchBucket", 404, BucketNotFound),
        ("SlowDown", 503, TransientStorageError),
        ("TooManyRequests", 429, TransientStorageError),
        ("503", 503, TransientStorageError),
        ("InternalError", 200, TransientStorageError),
        ("RequestTimeout", 400, TransientStorageError),
        ("BadDigest", 400, TransientStorageError),
        ("IncompleteBody", 400, TransientStorageError),
        ("XAmzContentSHA256Mismatch", 400, TransientStorageError),
        ("ConditionalRequestConflict", 409, TransientStorageError),
        ("PreconditionFailed", 412, ObjectExists),
        ("AccessDenied", 403, CredentialsRefused),
        ("403", 403, CredentialsRefused),
        ("InvalidAccessKeyId", 403, CredentialsRefused),
        ("SignatureDoesNotMatch", 403, CredentialsRefused),
        ("RequestTimeTooSkewed", 403, CredentialsRefused),
        ("ExpiredToken", 400, CredentialsRefused),
        ("InvalidObjectState", 403, ObjectArchived),
        ("ObjectNotInActiveTierError", 403, ObjectArchived),
        ("QuotaExceeded", 403, StorageFull),
        ("XMinioStorageFull", 507, StorageFull),
        ("InvalidStorageClass", 400, PermanentStorageError),
        ("NotImplemented", 501, PermanentStorageError),
        ("", 0, PermanentStorageError),
    ],
)
def test_an_answer_says_whether_to_ask_again(code: str, status: int, kind: type[StorageError]) -> None:
    assert type(turned(answer(code, status))) is kind


def test_a_version_that_is_gone_is_not_found() -> None:
    assert type(turned(answer("PreconditionFailed", 412), "get_object")) is ObjectNotFound


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (boto.EndpointConnectionError(endpoint_url="x"), TransientStorageError),
        (boto.ConnectTimeoutError(endpoint_url="x"), TransientStorageError),
        (boto.ReadTimeoutError(endpoint_url="x"), TransientStorageError),
        (boto.ConnectionClosedError(endpoint_url="x"), TransientStorageError),
        (boto.ResponseStreamingError(error="x"), TransientStorageError),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), TransientStorageError),
        (boto.SSLError(endpoint_url="x", error="x"), TransientStorageError),
        (ResponseParserError("x"), TransientStorageError),
        (ProtocolError("x"), TransientStorageError),
        (ConnectionResetError(), TransientStorageError),
        (TimeoutError(), TransientStorageError),
        (boto.NoCredentialsError(), CredentialsRefused),
        (boto.PartialCredentialsError(provider="x", cred_var="y"), CredentialsRefused),
        (boto.ParamValidationError(report="x"), PermanentStorageError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_no_answer_at_all_is_asked_for_again_and_a_mistake_is_not(error: Exception, kind: type[StorageError]) -> None:
    assert type(turned(error)) is kind


def test_a_server_says_how_long_to_wait() -> None:
    assert turned(answer("SlowDown", 503, **{"retry-after": "7"})).retry_after == 7  # type: ignore[attr-defined]
    assert turned(answer("SlowDown", 503)).retry_after is None  # type: ignore[attr-defined]


def attempts(storage: S3Storage) -> list[Callable[[], object]]:
    return [
        lambda: storage.save(NAME, ContentFile(CONTENT)),
        lambda: storage.save(NAME, ContentFile(noise(9 * 1024**2))),
        lambda: storage.stat(NAME),
        lambda: storage.open_range(NAME),
        lambda: storage.exists(NAME),
        lambda: storage.copy(NAME, OTHER),
        lambda: storage.compose([NAME], OTHER),
        lambda: list(storage.list()),
        lambda: storage.delete(NAME),
        lambda: storage.classes.restore(NAME, days=1),
        lambda: storage.direct.begin(NAME, size_bytes=1, content_type="", metadata=dict, seconds=60),
        lambda: storage.remove_partials(datetime.now(UTC)),
    ]


class TestRealServer:
    def test_a_bucket_that_is_not_there_is_told_from_an_object_that_is_not(
        self, s3_server: ObjectServer, settings: Any
    ) -> None:
        settings.STORAGES = {**settings.STORAGES, "s3": s3_server.entry("there-is-no-such")}
        storage: Any = get_storage("s3")
        for attempt in attempts(storage):
            with pytest.raises(BucketNotFound):
                attempt()
        assert storage.bucket.create()
        storage.save(NAME, ContentFile(CONTENT))
        with pytest.raises(ObjectNotFound):
            storage.stat(OTHER)

    @pytest.mark.parametrize("wrong", [{"secret_key": "not-the-key"}, {"access_key": "nobody"}], ids=["secret", "key"])
    def test_wrong_keys_fail_at_once_and_are_not_logged(
        self, s3_server: ObjectServer, settings: Any, wrong: dict[str, str]
    ) -> None:
        """Promise 49. Neither keys nor signatures are in the log."""
        storage: Any = configure(settings, s3_server, **wrong)
        with structlog.testing.capture_logs() as logs:
            for attempt in attempts(storage):
                with pytest.raises(CredentialsRefused):
                    attempt()
        failures = [entry for entry in logs if entry["event"] == "s3_request_failed"]
        assert {entry["status"] for entry in failures} == {403}
        assert any(entry["code"] in ("SignatureDoesNotMatch", "InvalidAccessKeyId") for entry in failures)
        assert not any(entry["event"] == "storage_attempt_failed" and entry["attempt"] > 1 for entry in logs)
        for secret in ("not-the-key", "nobody", "Signature=", "only-for-tests"):
            assert secret not in repr(logs)

    def test_a_server_that_does_not_answer_is_asked_as_often_as_the_policy_wants(
        self, s3_server: ObjectServer, settings: Any
    ) -> None:
        """Promise 14. And then the error is one that may pass."""
        storage: Any = configure(settings, s3_server, endpoint_url=f"http://127.0.0.1:{free_port()}")
        with retry_policy(AT_ONCE), structlog.testing.capture_logs() as logs, pytest.raises(TransientStorageError):
            storage.stat(NAME)
        assert [entry["event"] for entry in logs].count("s3_request_failed") == 3
        with retry_policy(ONCE), structlog.testing.capture_logs() as logs, pytest.raises(TransientStorageError):
            storage.stat(NAME)
        assert [entry["event"] for entry in logs].count("s3_request_failed") == 1

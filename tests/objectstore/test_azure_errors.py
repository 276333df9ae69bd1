"""Which of our errors each answer of Azure becomes, and how often it is asked again."""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from azure.core.exceptions import ClientAuthenticationError
from django.core.files.base import ContentFile

from objectstore.azure import AzureStorage
from objectstore.azure.client import BlobLeased
from objectstore.capabilities import DirectUpload
from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    DirectUploadUnsupported,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageError,
    StorageFull,
    TransientStorageError,
)
from objectstore.retry import RetryPolicy, retry_policy

NAME = "audio/0b7f/audio.mp3"
TWICE = RetryPolicy(max_attempts=2, initial_delay=0, max_delay=0)
LOOKED_AT = {
    "ETag": '"0x1"',
    "Last-Modified": "Fri, 20 Nov 2026 12:00:00 GMT",
    "Content-Length": "10",
    "x-ms-blob-type": "BlockBlob",
}


class Handler(BaseHTTPRequestHandler):
    """Answers with the status, headers and body that the test wants, and notes what was asked."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {urlsplit(self.path).path}")
        status, headers, body = self.server.answers.get(self.command) or self.server.answers["*"]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_HEAD = do_PUT = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(server.serve_forever, 0.01)
        yield server
        server.shutdown()
        serving.result()


@pytest.fixture
def azure(server: Server) -> Iterator[AzureStorage]:
    endpoint = f"http://127.0.0.1:{server.server_port}/vault"
    with retry_policy(TWICE):
        yield AzureStorage(account_name="vault", account_key="a2V5", azure_container="audio", endpoint_url=endpoint)


def refusal(status: int, code: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Secret words of {code}</Message></Error>".encode()
    headers = {"Content-Type": "application/xml", **({"x-ms-error-code": code} if code else {}), **headers}
    return status, headers, body if code else b""


REFUSALS: list[tuple[int, str, type[StorageError]]] = [
    (404, "BlobNotFound", ObjectNotFound),
    (404, "ResourceNotFound", ObjectNotFound),
    (404, "", ObjectNotFound),
    (404, "ContainerNotFound", BucketNotFound),
    (409, "ContainerBeingDeleted", TransientStorageError),
    (409, "BlobArchived", ObjectArchived),
    (409, "BlobImmutableDueToPolicy", PermanentStorageError),
    (412, "LeaseIdMissing", BlobLeased),
    (403, "AuthenticationFailed", CredentialsRefused),
    (403, "AuthorizationPermissionMismatch", CredentialsRefused),
    (401, "NoAuthenticationInformation", CredentialsRefused),
    (400, "InvalidHeaderValue", PermanentStorageError),
    (400, "Md5Mismatch", TransientStorageError),
    (408, "", TransientStorageError),
    (429, "TooManyRequests", TransientStorageError),
    (500, "InternalError", TransientStorageError),
    (500, "OperationTimedOut", TransientStorageError),
    (501, "NotImplemented", PermanentStorageError),
    (502, "", TransientStorageError),
    (503, "ServerBusy", TransientStorageError),
    (504, "", TransientStorageError),
    (507, "", StorageFull),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS, ids=[f"{row[0]}-{row[1] or 'bare'}" for row in REFUSALS])
@pytest.mark.parametrize("method", ["HEAD", "PUT", "GET"])
def test_each_refusal_becomes_one_of_our_errors(
    azure: AzureStorage,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    method: str,
    status: int,
    code: str,
    kind: type[StorageError],
) -> None:
    """Promise 14. Only what may pass is tried again, and no word of Azure's reaches a client."""
    caplog.set_level(logging.INFO)
    server.answers = {"*": (200, LOOKED_AT, b""), method: refusal(status, code)}
    with pytest.raises(StorageError) as raised:
        if method == "HEAD":
            azure.stat(NAME)
        elif method == "PUT":
            server.answers["HEAD"] = refusal(404, "BlobNotFound")
            azure.save(NAME, ContentFile(b"content"))
        else:
            list(azure.list())
    assert type(raised.value) is kind
    attempts = [asked for asked in server.asked if asked.startswith(method)]
    assert len(attempts) == (2 if kind is TransientStorageError else 1)
    assert "Secret" not in f"{raised.value.detail} {caplog.text}"
    assert "a2V5" not in caplog.text and "SharedKey" not in caplog.text


@pytest.mark.parametrize(("status", "code"), [(409, "BlobAlreadyExists"), (412, "ConditionNotMet")])
def test_a_name_that_is_taken_is_said_to_be(azure: AzureStorage, server: Server, status: int, code: str) -> None:
    """Promise 12. In both ways in which Azure says so."""
    server.answers = {"PUT": refusal(status, code), "HEAD": (200, LOOKED_AT, b"")}
    with pytest.raises(ObjectExists):
        azure.save(NAME, ContentFile(b"content"))
    assert [asked.split()[0] for asked in server.asked] == ["PUT", "HEAD"]


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("", None)])
def test_the_wait_that_azure_asks_for_is_told(
    azure: AzureStorage, server: Server, header: str, seconds: float | None
) -> None:
    server.answers = {"*": refusal(503, "ServerBusy", **{"Retry-After": header})}
    with pytest.raises(TransientStorageError) as raised:
        azure.stat(NAME)
    assert raised.value.retry_after == seconds


def test_a_write_that_failed_tells_what_was_asked_and_that_it_was_tried(azure: AzureStorage, server: Server) -> None:
    """Nobody further out begins anew."""
    server.answers = {"PUT": refusal(503, "ServerBusy", **{"Retry-After": "7"}), "HEAD": refusal(404, "BlobNotFound")}
    with pytest.raises(TransientStorageError) as raised:
        azure.save(NAME, ContentFile(b"content"))
    assert (raised.value.retry_after, raised.value.was_retried) == (7.0, True)


def test_bytes_of_another_range_than_was_asked_for_are_not_taken(azure: AzureStorage, server: Server) -> None:
    """Promise 14. A proxy that leaves out ranges would answer with the beginning."""
    server.answers = {"HEAD": (200, LOOKED_AT, b""), "GET": (200, LOOKED_AT, b"0123456789")}
    with azure.open_range(NAME, 5) as file, pytest.raises(TransientStorageError):
        file.read()


def test_a_body_that_ends_too_early_is_asked_for_again_where_it_ended(azure: AzureStorage, server: Server) -> None:
    """Promise 14."""
    server.answers = {
        "HEAD": (200, LOOKED_AT, b""),
        "GET": (206, {**LOOKED_AT, "Content-Range": "bytes 0-9/10"}, b"01234"),
    }
    with azure.open_range(NAME) as file, pytest.raises(TransientStorageError):
        file.read()
    assert server.asked.count(f"GET /vault/audio/{NAME}") == 2


class NoCredential:
    def get_token(self, *scopes: str, **options: Any) -> Any:
        raise ClientAuthenticationError("Secret words of azure-identity")


def test_credentials_that_nobody_finds_are_said_to_be_missing() -> None:
    azure = AzureStorage(account_name="vault", azure_container="audio", token_credential=NoCredential())
    with retry_policy(TWICE), pytest.raises(CredentialsRefused) as raised:
        azure.stat(NAME)
    assert "Secret" not in raised.value.detail


@contextmanager
def copies(azure: AzureStorage, server: Server, monkeypatch: pytest.MonkeyPatch, *statuses: str) -> Iterator[Any]:
    """The first HEAD is of the source, the next ones tell the statuses of the copy, the last one again and again."""
    waits: list[float] = []
    heads = iter(["", *statuses])
    properties = azure._get_properties

    def look(*args: Any) -> Any:
        status = next(heads, statuses[-1])
        found = properties(*args)
        if status:
            found.copy.status, found.copy.id = status, "7"
            found.metadata = {"write_id": written}
        return found

    written = "0" * 32
    monkeypatch.setattr("secrets.token_hex", lambda length: written)
    monkeypatch.setattr(azure, "_get_properties", look)
    monkeypatch.setattr("time.sleep", waits.append)
    server.answers = {
        "HEAD": (200, LOOKED_AT, b""),
        "PUT": (202, {"ETag": '"0x1"', "x-ms-copy-id": "7", "x-ms-copy-status": "pending"}, b""),
        "DELETE": (202, {}, b""),
    }
    yield waits


def test_a_copy_that_takes_its_time_is_waited_for(
    azure: AzureStorage, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copies(azure, server, monkeypatch, *["pending"] * 8, "success") as waits:
        assert azure.copy(NAME, "archive/0b7f/1.mp3").size == 10
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


@pytest.mark.parametrize("status", ["pending", "failed", "aborted"])
def test_a_copy_that_does_not_end_well_leaves_nothing(
    azure: AzureStorage, server: Server, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Promise 16."""
    azure.copies.most_seconds = 0
    with (
        copies(azure, server, monkeypatch, status, status),
        pytest.raises(TransientStorageError),
    ):
        azure.copy(NAME, "archive/0b7f/1.mp3")
    assert server.asked[-1] == "DELETE /vault/audio/archive/0b7f/1.mp3"
    # A copy that still runs would keep its target from being removed.
    assert [asked.split()[0] for asked in server.asked].count("PUT") == (2 if status == "pending" else 1)


HALF_DONE = DirectUpload(
    "staged", json.dumps({"staging": f"staging/{'0' * 32}/a.mp3", "write_id": "0" * 32, "content_type": ""}), 10
)


@pytest.mark.parametrize("status", ["pending", "failed", "aborted"])
def test_what_a_killed_completion_began_to_copy_is_no_file_before_it_is_copied(
    azure: AzureStorage, server: Server, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """Promise 13. What the client sent stays, so that it can be completed again."""
    azure.copies.most_seconds = 0
    with copies(azure, server, monkeypatch, *[status] * 3):
        azure.stat(NAME)
        with pytest.raises(TransientStorageError):
            azure.direct.complete(NAME, HALF_DONE, size_bytes=10, metadata=dict)
    assert server.asked[-1] == f"DELETE /vault/audio/{NAME}"
    assert not [asked for asked in server.asked if "staging" in asked]


@pytest.mark.parametrize("seen", [["success", "success"], ["", "success"]], ids=["before", "meanwhile"])
def test_a_completion_that_loses_sight_of_the_object_leaves_it_to_the_one_that_was_faster(
    azure: AzureStorage, server: Server, monkeypatch: pytest.MonkeyPatch, seen: list[str]
) -> None:
    """Promise 13. A row may name it by now."""

    def unreachable(*args: Any) -> Any:
        raise TransientStorageError

    monkeypatch.setattr(azure.copies, "finished", unreachable)
    with copies(azure, server, monkeypatch, *seen):
        if seen[0]:
            azure.stat(NAME)
        with pytest.raises(TransientStorageError):
            azure.direct.complete(NAME, HALF_DONE, size_bytes=10, metadata=dict)
    assert [asked.split()[0] for asked in server.asked].count("PUT") == (0 if seen[0] else 1)
    assert not [asked for asked in server.asked if asked.startswith("DELETE")]


def test_what_could_not_be_copied_with_its_key_is_not_sent_by_clients() -> None:
    azure = AzureStorage(account_name="vault", azure_container="audio", encryption_scope="vault-key")
    with pytest.raises(DirectUploadUnsupported):
        azure.direct.begin(NAME, size_bytes=256 * 1024**2 + 1, content_type="", metadata=dict, seconds=60)

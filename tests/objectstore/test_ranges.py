"""Servers that ignore a range, or answer another one: an error of ours, without reading what was not asked for."""

from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import pytest
from django.core.files.base import ContentFile

from objectstore.base import ObjectStat
from objectstore.errors import ObjectNotFound, RangeIgnored, TransientStorageError
from objectstore.gcs import GCSStorage
from objectstore.remote import Body, RemoteStorage, checked_body
from objectstore.retry import ONCE, retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.providers import IGNORING_RANGES, SHIFTING_RANGES, running_as
from tests.objectstore.bad_days import QUICK
from tests.objectstore.test_storage_contract import CONTENT, NAME, noise

#: Far more than a socket holds, so that an answer which nobody reads stands still.
ENDLESS_BYTES = 300 * 1024**2


@pytest.mark.parametrize("provider", [IGNORING_RANGES, SHIFTING_RANGES], ids=["ignored", "shifted"])
def test_s3_gives_no_other_bytes_than_were_asked_for(s3_server: ObjectServer, settings: Any, provider: Any) -> None:
    """Promise 14."""
    with running_as(provider, s3_server) as (server, _proxy):
        storage = configure(settings, server)
        storage.save(NAME, ContentFile(CONTENT))
        with retry_policy(QUICK), storage.open_range(NAME, 1000, 100) as file, pytest.raises(RangeIgnored):
            file.read()


def test_s3_takes_a_whole_object_from_a_server_without_ranges(s3_server: ObjectServer, settings: Any) -> None:
    with running_as(IGNORING_RANGES, s3_server) as (server, _proxy):
        storage = configure(settings, server)
        storage.save(NAME, ContentFile(CONTENT))
        with storage.open_range(NAME) as file:
            assert file.read() == CONTENT


def test_s3_gives_nothing_of_another_version(s3_server: ObjectServer, settings: Any) -> None:
    """Promise 14. A server that does not look at If-Match sends what lies there now; its ETag says so."""
    with running_as(IGNORING_RANGES.__class__(ignores=("if-match",)), s3_server) as (server, _proxy):
        storage: Any = configure(settings, server)
        storage.save(NAME, ContentFile(CONTENT))
        stat = storage.stat(NAME)
        storage.delete(NAME)
        storage.save(NAME, ContentFile(noise(len(CONTENT), seed=9)))
        with pytest.raises(ObjectNotFound):
            storage.fetch(stat, 10, 20)


class Endless(BaseHTTPRequestHandler):
    """Answers whatever is asked with a file; ``sent`` is how much of it somebody took."""

    protocol_version = "HTTP/1.1"
    sent: ClassVar[int] = 0
    status: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status)
        for name, value in (("Content-Length", str(ENDLESS_BYTES)), ("ETag", '"v"'), ("x-goog-generation", "7")):
            self.send_header(name, value)
        self.end_headers()
        piece = bytes(1024**2)
        try:
            while type(self).sent < ENDLESS_BYTES:
                self.wfile.write(piece)
                type(self).sent += len(piece)
        except OSError:
            self.close_connection = True

    do_POST = do_GET

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def endless() -> Iterator[str]:
    Endless.sent, Endless.status = 0, 200
    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def storage_at(alias: str, address: str) -> RemoteStorage:
    from objectstore.azure import AzureStorage
    from objectstore.s3 import S3Storage

    if alias == "gcs":
        return GCSStorage(bucket_name="bucket", endpoint_url=address)
    if alias == "azure":
        return AzureStorage(azure_container="bucket", account_name="a", account_key="a2V5", endpoint_url=f"{address}/a")
    return S3Storage(bucket_name="bucket", endpoint_url=address, access_key="a", secret_key="b", region_name="r")


@pytest.mark.parametrize("alias", ["s3", "gcs", "azure"])
def test_nobody_reads_a_whole_file_for_a_hundred_bytes(endless: str, alias: str) -> None:
    """Promise 14."""
    stat = ObjectStat("audio/a.wav", ENDLESS_BYTES, None, version='"v"' if alias != "gcs" else "7")  # type: ignore[arg-type]
    storage = storage_at(alias, endless)
    with pytest.raises(RangeIgnored):
        storage.fetch(stat, 1000, 100)
    assert Endless.sent < ENDLESS_BYTES // 4


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_description_that_is_a_file_fills_no_memory(endless: str, status: int) -> None:
    Endless.status = status
    with retry_policy(ONCE), pytest.raises((TransientStorageError, ObjectNotFound)):
        storage_at("gcs", endless).stat("audio/a.wav")
    assert Endless.sent < ENDLESS_BYTES // 4


@pytest.mark.parametrize(
    ("status", "told", "is_right"),
    [
        (206, "bytes 10-29/100", True),
        (206, "bytes 10-29/*", True),
        (206, "bytes 10-28/100", False),
        (206, "bytes 11-30/100", False),
        (206, "bytes 10-29/99", False),
        (206, "", False),
        (200, "", False),
        (200, "bytes 10-29/100", False),
    ],
)
def test_status_and_content_range_have_to_be_those_of_the_range(status: int, told: str, is_right: bool) -> None:
    stat = ObjectStat("audio/a.wav", 100, None, version="7")  # type: ignore[arg-type]
    closed: list[str] = []
    body = Body(lambda size: b"", lambda: closed.append(told), nullcontext)
    if is_right:
        assert checked_body(body, stat, 10, 20, version="7", status=status, content_range=told) is body
    else:
        with pytest.raises(RangeIgnored):
            checked_body(body, stat, 10, 20, version="7", status=status, content_range=told)
    assert closed == ([] if is_right else [told])
    assert checked_body(body, stat, 0, 100, version="7", status=200, content_range="") is body
    with pytest.raises(ObjectNotFound):
        checked_body(body, stat, 0, 100, version="8", status=200, content_range="")

"""A proxy that turns one S3 server into others, by what their makers document or users report of them.

Each provider is a set of traits. Where a trait takes a header away that the client signed, the proxy signs the request
anew with the server's keys; everything else reaches the server as it was sent, with the client's own ``Host``.
"""

import base64
import binascii
import hashlib
import http.client
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.object_servers import ObjectServer

NEWER_CHECKSUMS = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm")
NOT_PASSED_ON = {"connection", "expect", "transfer-encoding", "keep-alive"}
SERVER_SECONDS = 30


@dataclass(frozen=True)
class Provider:
    """``refuses`` are beginnings of headers that it answers with ``refusal``; ``refuses_operations`` are patterns of
    "METHOD query" that it does not know. ``ignores`` are beginnings of headers that it does not look at, and
    ``ignores_on_parts`` those that it ignores when an upload in parts is completed.
    """

    refuses: tuple[str, ...] = ()
    refusal: tuple[int, str] = (501, "NotImplemented")
    refuses_values: tuple[tuple[str, str], ...] = ()
    refuses_operations: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()
    ignores_on_parts: tuple[str, ...] = ()
    #: Of an object in parts it answers a CRC32 of the parts' CRCs, and no type (Garage).
    crc_of_crcs: bool = False
    #: Headers that its answers do not have.
    answers_without: tuple[str, ...] = ()
    #: It lists unfinished uploads of exactly the name that is the prefix (MinIO, AIStor).
    lists_uploads_by_name: bool = False
    #: A bucket with a retention by default: no part without a checksum (Object Lock).
    wants_checksums: bool = False
    #: Ranges that it answers are those of other bytes.
    shifts_ranges: bool = False


GARAGE = Provider(crc_of_crcs=True, answers_without=("x-amz-checksum-type",))
#: https://developers.cloudflare.com/r2/api/s3/api/: CRC32 over parts only, and no encryption headers of AWS's.
R2 = Provider(refuses_values=(("x-amz-checksum-type", "FULL_OBJECT"),), refuses=("x-amz-server-side-encryption",))
#: B2 until 2025: no newer checksums, no conditional writes, and not even a checksum mode of a HEAD.
OLD_B2 = Provider(refuses=(*NEWER_CHECKSUMS, "x-amz-checksum-mode", "if-none-match"), refusal=(501, "NotImplemented"))
WASABI = Provider(refuses=("x-amz-checksum-type",), refusal=(400, "InvalidRequest"), ignores=("if-none-match",))
SWIFT = Provider(
    refuses=("x-amz-server-side-encryption",),
    ignores=("if-none-match", *NEWER_CHECKSUMS),
    refuses_operations=(r"(GET|PUT|DELETE) lifecycle", r"(GET|PUT) (encryption|object-lock|versioning)"),
)
OLD_CEPH = Provider(ignores_on_parts=("if-none-match",), ignores=NEWER_CHECKSUMS)
OLD_MINIO = Provider(refuses=("x-amz-server-side-encryption",), lists_uploads_by_name=True)
AISTOR = Provider(lists_uploads_by_name=True)
IGNORING_RANGES = Provider(ignores=("range",))
SHIFTING_RANGES = Provider(shifts_ranges=True)
LOCKED = Provider(wants_checksums=True, refusal=(400, "InvalidRequest"))
PLAIN = Provider()


@dataclass
class Seen:
    method: str
    target: str
    headers: dict[str, str]


@dataclass
class State:
    provider: Provider
    host: str
    port: int
    keys: tuple[str, str, str]
    seen: list[Seen] = field(default_factory=list)
    #: CRC32 of each part by upload and number, and of the parts' CRCs by the object's path.
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    composite: dict[str, str] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)


class ProviderProxy:
    """``seen`` are the requests as the client sent them; ``provider`` may be changed between two of them."""

    def __init__(self, state: State, url: str) -> None:
        self._state = state
        self.url = url

    @property
    def seen(self) -> list[Seen]:
        return self._state.seen

    @property
    def provider(self) -> Provider:
        return self._state.provider

    @provider.setter
    def provider(self, provider: Provider) -> None:
        self._state.provider = provider


@contextmanager
def running_as(provider: Provider, server: ObjectServer) -> Iterator[tuple[ObjectServer, ProviderProxy]]:
    """``server`` as if it were this provider's."""
    inner = urlsplit(server.options["endpoint_url"])
    assert inner.hostname is not None
    assert inner.port is not None
    options = server.options
    keys = (options["access_key"], options["secret_key"], options["region_name"])
    state = State(provider, inner.hostname, inner.port, keys)

    class BoundHandler(Handler):
        pass

    BoundHandler.state = state
    with ThreadingHTTPServer(("127.0.0.1", 0), BoundHandler) as proxy:
        proxy.daemon_threads = True
        thread = Thread(target=proxy.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{proxy.server_address[1]}"
        try:
            yield replace(server, options={**options, "endpoint_url": url}), ProviderProxy(state, url)
        finally:
            proxy.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ClassVar[State]

    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self._pass_on()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _pass_on(self) -> None:
        state, provider = self.state, self.state.provider
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        url = urlsplit(self.path)
        query = parse_qs(url.query, keep_blank_values=True)
        with state.lock:
            state.seen.append(Seen(self.command, self.path, headers))
        if reason := refusal_of(provider, self.command, headers, query):
            self._refuse(*provider.refusal, reason)
            return
        completes = self.command == "POST" and "uploadId" in query
        dropped = provider.ignores + (provider.ignores_on_parts if completes else ())
        ignored = {name for name in headers if dropped and name.startswith(dropped)}
        kept = {name: value for name, value in headers.items() if name not in ignored | NOT_PASSED_ON}
        if ignored and "authorization" in headers:
            kept = signed_anew(state, self.command, self.path, kept, body)
        if provider.crc_of_crcs and self.command == "PUT" and "uploadId" in query:
            self._note_part(query, body)
        connection = http.client.HTTPConnection(state.host, state.port, timeout=SERVER_SECONDS)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in kept.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            answered = {name.lower(): value for name, value in answer.getheaders()}
            if completes and provider.crc_of_crcs and answer.status == 200:
                self._note_object(url.path, query, body)
            content = self._changed(provider, query, answered, content)
            if provider.crc_of_crcs and url.path in state.composite and "x-amz-checksum-crc32" in answered:
                answered["x-amz-checksum-crc32"] = state.composite[url.path]
            self.send_response_only(answer.status)
            for name, value in answered.items():
                if name not in (*provider.answers_without, "transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answered.get("content-length", "0") if self.command == "HEAD" else str(len(content))
            if answer.status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
        finally:
            connection.close()

    def _changed(
        self, provider: Provider, query: dict[str, list[str]], answered: dict[str, str], content: bytes
    ) -> bytes:
        if provider.shifts_ranges and (match := re.match(r"bytes (\d+)-(\d+)/", answered.get("content-range", ""))):
            start, end = int(match[1]), int(match[2])
            answered["content-range"] = f"bytes {start + 1}-{end + 1}/*"
        if provider.lists_uploads_by_name and self.command == "GET" and "uploads" in query:
            prefix = query.get("prefix", [""])[0].encode()
            return re.sub(
                rb"<Upload>.*?</Upload>",
                lambda found: found[0] if b"<Key>" + prefix + b"</Key>" in found[0] else b"",
                content,
                flags=re.DOTALL,
            )
        return content

    def _refuse(self, status: int, code: str, reason: str) -> None:
        content = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _note_part(self, query: dict[str, list[str]], body: bytes) -> None:
        crc = binascii.crc32(body).to_bytes(4, "big")
        with self.state.lock:
            self.state.parts[query["uploadId"][0], int(query["partNumber"][0])] = crc

    def _note_object(self, path: str, query: dict[str, list[str]], body: bytes) -> None:
        upload = query["uploadId"][0]
        numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", body)]
        crcs = b"".join(self.state.parts[upload, number] for number in numbers)
        composite = base64.b64encode(binascii.crc32(crcs).to_bytes(4, "big")).decode()
        with self.state.lock:
            self.state.composite[path] = composite


def refusal_of(provider: Provider, method: str, headers: dict[str, str], query: dict[str, list[str]]) -> str:
    """Why this provider would refuse the request; empty if it would not. The query can carry headers too."""
    names = [*headers, *(name.lower() for name in query)]
    for name in names:
        if provider.refuses and name.startswith(provider.refuses):
            return f"A header you provided implies functionality that is not implemented: {name}"
    checked = any(name == "content-md5" or name.startswith("x-amz-checksum-") for name in names)
    if provider.wants_checksums and method == "PUT" and not checked and not query.keys() & {"tagging", "lifecycle"}:
        return (
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Part requests with Object Lock parameters"
        )
    for name, value in provider.refuses_values:
        if headers.get(name) == value:
            return f"{name} {value} is not supported"
    for asked in query:
        for pattern in provider.refuses_operations:
            if re.fullmatch(pattern, f"{method} {asked}"):
                return "A parameter you provided implies functionality that is not implemented"
    return ""


def signed_anew(state: State, method: str, target: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    access_key, secret_key, region = state.keys
    kept = {name: value for name, value in headers.items() if name not in ("authorization", "x-amz-date")}
    kept["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    path, _, query = target.partition("?")
    request = AWSRequest(method, f"http://{headers['host']}{path}", headers=kept, data=body)
    request.params = {name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()}
    request.url = f"http://{headers['host']}{unquote(path)}" if "%" not in path else request.url
    S3SigV4Auth(Credentials(access_key, secret_key), "s3", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}

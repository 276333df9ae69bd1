"""A client that sends one long WAV from memory, in a process of its own."""

import base64
import hashlib
import http.client
import json
import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

MIB = 1024**2
BLOCK_BYTES = 64 * MIB
BOUNDARY = "benchmark-boundary-7d1f0c"
#: What follows the length that a bare exchange begins with, and what answers it.
LENGTH_BYTES = 8


def wav_header(size: int) -> bytes:
    """The 44 bytes in front of 16-bit stereo samples at 44,100 Hz, for a file of ``size`` bytes in all."""
    number = lambda value, width: value.to_bytes(width, "little")  # noqa: E731
    shape = number(1, 2) + number(2, 2) + number(44_100, 4) + number(176_400, 4) + number(4, 2) + number(16, 2)
    return b"RIFF" + number(size - 8, 4) + b"WAVEfmt " + number(16, 4) + shape + b"data" + number(size - 44, 4)


class Content:
    """``size`` bytes (whole BLOCK_BYTES) that no disk or network can squeeze, with a WAV's header in front."""

    def __init__(self, size: int) -> None:
        if size % BLOCK_BYTES:
            raise ValueError(f"{size} is no multiple of {BLOCK_BYTES}")
        self.size = size
        self.noise = random.Random(size).randbytes(BLOCK_BYTES)
        self.head = wav_header(size) + self.noise[44:MIB]
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        self.sha256 = digest.digest()

    def pieces(self) -> Iterator[bytes | memoryview]:
        yield self.head
        yield memoryview(self.noise)[MIB:]
        for _ in range(self.size // BLOCK_BYTES - 1):
            yield self.noise


class Client:
    """Sends from a process of its own, so that it does not share an interpreter with who measures."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _prepare, (size,))

    def __enter__(self) -> "Client":
        self._process.submit(_ready).result()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.shutdown()

    def bare(self, port: int) -> "Future[float]":
        return self._process.submit(_send_bare, port)

    def raw(self, port: int, token: str, at_once: int = 1) -> "Future[tuple[float, list[str]]]":
        """Seconds until the last of ``at_once`` uploads was answered, and their ids."""
        return self._process.submit(_send_all, port, token, at_once, False)

    def multipart(self, port: int, token: str, at_once: int = 1) -> "Future[tuple[float, list[str]]]":
        return self._process.submit(_send_all, port, token, at_once, True)

    def tus(self, url: str, token: str, at_once: int = 1, *, sha256: bool = False) -> "Future[tuple[float, list[str]]]":
        """One PATCH for each of ``at_once`` resumable uploads at ``url``, which are created before the clock starts;
        with ``sha256`` the whole file's is declared. Returns seconds and the ids of our files.
        """
        return self._process.submit(_tus_all, url, token, at_once, sha256)


_content: Content


def _prepare(size: int) -> None:
    global _content
    _content = Content(size)


def _ready() -> None:
    return


def _send_bare(port: int) -> float:
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_content.size.to_bytes(LENGTH_BYTES, "big"))
        for piece in _content.pieces():
            connection.sendall(piece)
        answer = b""
        while more := connection.recv(64):
            answer += more
    seconds = time.perf_counter() - began
    if answer != _content.sha256:
        raise RuntimeError("the bare loop received something else")
    return seconds


def _send_all(port: int, token: str, at_once: int, multipart: bool) -> tuple[float, list[str]]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once) as threads:
        began = time.perf_counter()
        ids = list(threads.map(lambda _: _send(port, token, multipart), range(at_once)))
        return time.perf_counter() - began, ids


def _send(port: int, token: str, multipart: bool) -> str:
    before, after = b"", b""
    headers = {
        "Authorization": f"Bearer {token}",
        "Repr-Digest": f"sha-256=:{base64.b64encode(_content.sha256).decode()}:",
    }
    if multipart:
        part = 'Content-Disposition: form-data; name="file"; filename="long.wav"\r\nContent-Type: audio/wav'
        before, after = f"--{BOUNDARY}\r\n{part}\r\n\r\n".encode(), f"\r\n--{BOUNDARY}--\r\n".encode()
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    else:
        headers["Content-Type"] = "audio/wav"
        headers["Content-Disposition"] = 'attachment; filename="long.wav"'
    headers["Content-Length"] = str(len(before) + _content.size + len(after))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    try:
        connection.putrequest("POST", "/api/v1/uploads/")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(before or None)
        for piece in _content.pieces():
            connection.send(piece)
        if after:
            connection.send(after)
        answer = connection.getresponse()
        body: dict[str, Any] = json.load(answer)
    finally:
        connection.close()
    if answer.status != 201 or body["checksum_sha256"] != _content.sha256.hex() or not body["checksum_md5"]:
        raise RuntimeError(f"the upload was answered by {answer.status}: {body}")
    return str(body["id"])


def _tus_all(url: str, token: str, at_once: int, sha256: bool) -> tuple[float, list[str]]:
    from concurrent.futures import ThreadPoolExecutor

    said = {"filename": b"long.wav"} | ({"sha256": _content.sha256.hex().encode()} if sha256 else {})
    metadata = ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in said.items())
    headers = {"Tus-Resumable": "1.0.0", "Authorization": f"Bearer {token}"}
    creation = {**headers, "Upload-Length": str(_content.size), "Upload-Metadata": metadata}
    addresses = [_tus(url, "POST", creation).headers["Location"] for _ in range(at_once)]
    sending = {**headers, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    with ThreadPoolExecutor(at_once) as threads:
        began = time.perf_counter()
        answers = list(threads.map(lambda address: _tus(address, "PATCH", sending, _content), addresses))
        seconds = time.perf_counter() - began
    files = [answer.headers["Content-Location"] for answer in answers if "Content-Location" in answer.headers]
    return seconds, [file.rstrip("/").rsplit("/", 1)[1] for file in files]


def _tus(url: str, method: str, headers: dict[str, str], content: Content | None = None) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    try:
        connection.putrequest(method, parts.path)
        for name, value in {**headers, "Content-Length": str(content.size if content else 0)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        for piece in content.pieces() if content else ():
            connection.send(piece)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status not in (201, 204) or (content and int(answer.headers["Upload-Offset"]) != content.size):
        raise RuntimeError(f"{method} {url}: {answer.status} {body[:500]!r}")
    return answer

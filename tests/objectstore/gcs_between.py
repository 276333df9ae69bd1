"""Stands between our Google Cloud Storage and its server: notes each request, and may meddle with it.

And the objects that its tests are about.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.core.files.base import ContentFile
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import ConnectionError as ConnectionBroken
from requests.structures import CaseInsensitiveDict

from objectstore.gcs import GCSStorage
from objectstore.retry import RetryPolicy

NAME = "audio/0b7f/audio.mp3"
OTHER = "archive/0b7f/1.mp3"
PART = 256 * 1024
CONTENT = bytes(range(256)) * 4000  # four parts, the last one shorter
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, max_delay=0)

Send = Callable[[], Response]
Meddle = Callable[["Seen", Send], Response]


@dataclass
class Seen:
    """A request that was sent. ``body`` is what it had then: its buffer may be used again."""

    method: str
    path: str
    query: dict[str, str]
    headers: CaseInsensitiveDict[str]
    body: bytes
    request: PreparedRequest = field(repr=False)

    @property
    def is_session(self) -> bool:
        return "upload_id" in self.query

    @property
    def is_last(self) -> bool:
        """Whether it is the last of an upload session, which names the sum of all bytes."""
        return self.is_session and not self.headers.get("Content-Range", "/*").endswith("/*")

    def json(self) -> Any:
        if "multipart" in self.headers.get("Content-Type", ""):
            return json.loads(self.body.split(b"\r\n\r\n", 1)[1].split(b"\r\n--", 1)[0])
        return json.loads(self.body)


class Between(HTTPAdapter):
    def __init__(self, storage: GCSStorage) -> None:
        super().__init__(pool_maxsize=64)
        self.seen: list[Seen] = []
        self.meddle: Meddle | None = None
        storage.client._http.mount("http://", self)

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:  # type: ignore[override]
        url = urlsplit(request.url or "")
        query = {name: values[0] for name, values in parse_qs(str(url.query)).items()}
        body: Any = request.body or b""
        content = body.encode() if isinstance(body, str) else bytes(body)
        # The library writes some values as bytes.
        texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
        headers = CaseInsensitiveDict(texts)
        seen = Seen(str(request.method), str(url.path), query, headers, content, request)
        self.seen.append(seen)

        def proceed() -> Response:
            return super(Between, self).send(request, *args, **options)

        return self.meddle(seen, proceed) if self.meddle is not None else proceed()

    def requests(self, method: str = "") -> list[Seen]:
        return [seen for seen in self.seen if method in ("", seen.method)]


def losing_answers(of: Callable[[Seen], bool], *, times: int = 1) -> Meddle:
    """The server does what it was asked for, and we never hear of it."""
    lost = 0

    def meddle(seen: Seen, send: Send) -> Response:
        nonlocal lost
        response = send()
        if of(seen) and lost < times:
            lost += 1
            response.close()
            raise ConnectionBroken(f"broken on {seen.request.url}")
        return response

    return meddle


def answering(status: int, of: Callable[[Seen], bool], *, times: int = 1, body: bytes = b"", **headers: str) -> Meddle:
    """The server is not reached: somebody else answers."""
    answered = 0

    def meddle(seen: Seen, send: Send) -> Response:
        nonlocal answered
        if not of(seen) or answered == times:
            return send()
        answered += 1
        response = Response()
        response.status_code = status
        response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        response.request = seen.request
        response.url = str(seen.request.url)
        response._content = body
        response._content_consumed = True
        return response

    return meddle


def garbling(of: Callable[[Seen], bool], *, times: int = 1) -> Meddle:
    """One byte of the content arrives as another."""
    garbled = 0

    def meddle(seen: Seen, send: Send) -> Response:
        nonlocal garbled
        if of(seen) and garbled < times:
            garbled += 1
            body = bytearray(seen.body)
            body[len(body) // 2] ^= 1
            seen.request.body = bytes(body)
        return send()

    return meddle


def put(storage: GCSStorage, content: bytes = CONTENT, name: str = NAME, **options: Any) -> None:
    storage.save(name, ContentFile(content), **options)


def get(storage: GCSStorage, name: str = NAME) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def names_in(storage: GCSStorage) -> set[str]:
    """Of all objects, those too that are not listed to others."""
    return {blob.name for blob in storage.client.list_blobs(storage.bucket_name)}

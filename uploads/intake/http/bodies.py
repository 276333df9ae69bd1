"""Request bodies with a file, read as they arrive: raw, or multipart (RFC 7578). Leading fields are read first, so that
a view knows sender and workspace before the file.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator
from typing import TypeVar
from urllib.parse import unquote

from django.http import HttpRequest
from django.http.request import UnreadablePostError
from django.template.defaultfilters import filesizeformat
from django.utils.functional import lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser

from audiotricks.errors import DomainError, Invalid, RequestTimeout
from audiotricks.web.streaming import IS_IDLE, RECEIVE

Read = TypeVar("Read")

#: A read returns only when it is complete, so it is small for slow clients.
MIN_READ_BYTES = 16 * 1024
MAX_READ_BYTES = 1024 * 1024
SLOW_READ_SECONDS = 1.0
MAX_FIELD_BYTES = 64 * 1024
MAX_THUMBNAIL_BYTES = 10 * 1024 * 1024
MAX_PARTS = 20
#: Fields that must precede the file, since they decide about its first byte.
LEADING_FIELDS = frozenset({"workspace", "csrfmiddlewaretoken"})
#: The limit for everything but the file: fields, a thumbnail, preamble and epilogue (RFC 2046).
MAX_BESIDES_FILE_BYTES = 16 * 1024 * 1024
EXTENDED_FILENAME = re.compile(
    r";\s*filename\*\s*=\s*(?P<charset>utf-8|iso-8859-1)'[^']*'(?P<value>[^;\s\"]*)", re.ASCII | re.IGNORECASE
)
QUOTED_FILENAME = re.compile(r';\s*filename\s*=\s*"(?P<value>(?:[^"\\]|\\.)*)"', re.ASCII | re.IGNORECASE)
PLAIN_FILENAME = re.compile(r";\s*filename\s*=\s*(?P<value>[^;\s\"]+)", re.ASCII | re.IGNORECASE)
DIGEST_BYTES = {"sha-512": 64, "sha-256": 32}


#: “10 MB”, in the reader's language.
size_in_words = lazy(filesizeformat, str)


class LengthRequired(DomainError):
    code = "length_required"
    status = 411
    title = _("Send a Content-Length: the size is reserved before the first byte is taken")


class InvalidLength(DomainError):
    code = "invalid_length"
    status = 400
    title = _("Content-Length is not a number of bytes")


class TruncatedBody(DomainError):
    code = "truncated_body"
    status = 400
    title = _("The body ended before its Content-Length: send it again")


class MalformedBody(DomainError):
    code = "malformed_body"
    status = 400
    title = _("The multipart body cannot be read")


class FieldTooLarge(DomainError):
    code = "field_too_large"
    status = 413
    title = _("A part of the request besides the file is too large")


class FieldAfterFile(DomainError):
    code = "field_after_file"
    status = 400
    title = _("A field that must precede the file follows it")


class InvalidDigest(DomainError):
    code = "invalid_digest"
    status = 400
    title = _("The digest cannot be read: write sha-256=:BASE64:")


def read_body(request: HttpRequest) -> "RawBody | MultipartBody":
    """After its leading fields. Raises LengthRequired, MalformedBody and similar errors."""
    length = content_length(request)
    if request.content_type == "multipart/form-data":
        return MultipartBody(request, length)
    return RawBody(request, length)


def content_length(request: HttpRequest) -> int:
    """Raises LengthRequired for a chunked body, which Django would read as empty."""
    value = request.META.get("CONTENT_LENGTH") or ""
    if not value or request.META.get("HTTP_TRANSFER_ENCODING"):
        raise LengthRequired
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise InvalidLength(
            format_lazy(_("Content-Length is “{value}”, which is not a number of bytes."), value=value[:40])
        )
    return int(value)


def sha256_of_digest(header: str | None) -> str | None:
    """Hexadecimal, from Repr-Digest (RFC 9530); or None."""
    digest = _digest(header or "", "sha-256")
    return digest.hex() if digest else None


def content_digests(header: str | None) -> list[tuple[str, bytes]]:
    """Algorithms of hashlib and their digests, from Content-Digest (RFC 9530); others than ours are left out."""
    found = [(name.replace("-", ""), _digest(header or "", name)) for name in DIGEST_BYTES]
    return [(algorithm, digest) for algorithm, digest in found if digest]


def _digest(header: str, name: str) -> bytes | None:
    match = re.search(rf"(?:^|,)\s*{name}\s*=\s*:([A-Za-z0-9+/=]*):", header, re.ASCII)
    if match is None:
        if name in header.lower():
            raise InvalidDigest
        return None
    try:
        digest = base64.b64decode(match[1], validate=True)
    except binascii.Error:
        raise InvalidDigest from None
    if len(digest) != DIGEST_BYTES[name]:
        raise InvalidDigest(
            format_lazy(
                _("A {algorithm} has {expected} bytes, this one has {size}."),
                algorithm=name.upper(),
                expected=DIGEST_BYTES[name],
                size=len(digest),
            )
        )
    return digest


class RequestBody:
    """Exactly ``length`` bytes of the request's body, read into a buffer of the caller's.

    Our web server reads from the socket without a copy; others go through Django.
    """

    def __init__(self, request: HttpRequest, length: int) -> None:
        self.left = length
        self._request = request
        self._receive: Callable[[memoryview], int] | None = request.META.get(RECEIVE)

    def readinto(self, buffer: memoryview) -> int:
        """Fill a part of ``buffer``; 0 at the end. Raises TruncatedBody, RequestTimeout."""
        wanted = buffer[: self.left]
        if not wanted:
            return 0
        receive = self._receive or self._copy
        count = _read_from(lambda: receive(wanted), at_end=0)
        if not count:
            raise TruncatedBody(missing_bytes=self.left)
        self.left -= count
        return count

    def is_idle(self, seconds: float) -> bool:
        """Whether no byte comes within ``seconds``; False at once where the web server cannot tell. Raises
        RequestTimeout.
        """
        is_idle: Callable[[float], bool] | None = self._request.META.get(IS_IDLE)
        if is_idle is None or not self.left:
            return False
        return _read_from(lambda: is_idle(seconds), at_end=False)

    def _copy(self, buffer: memoryview) -> int:
        piece = self._request.read(min(len(buffer), 4 * MIN_READ_BYTES))
        buffer[: len(piece)] = piece
        return len(piece)


def _read_from(read: Callable[[], Read], *, at_end: Read) -> Read:
    """What ``read`` returns; ``at_end`` when the client is gone. Raises RequestTimeout for one that is too slow."""
    try:
        return read()
    except (UnreadablePostError, OSError) as error:
        if isinstance(error.__cause__ or error, TimeoutError):
            raise RequestTimeout from None
        return at_end


class _Body:
    """Reads exactly Content-Length bytes."""

    filename = ""
    thumbnail: bytes | None = None
    size = 0

    def __init__(self, request: HttpRequest, length: int) -> None:
        self.fields: dict[str, str] = {}
        self._request = request
        self._unread = length
        self._read_bytes = MIN_READ_BYTES

    def _read(self) -> bytes:
        started = time.monotonic()
        piece = _read_from(lambda: self._request.read(min(self._read_bytes, self._unread)), at_end=b"")
        if not piece:
            raise TruncatedBody(missing_bytes=self._unread)
        self._unread -= len(piece)
        slow = time.monotonic() - started > SLOW_READ_SECONDS
        self._read_bytes = MIN_READ_BYTES if slow else min(2 * self._read_bytes, MAX_READ_BYTES)
        return piece


class RawBody(_Body):
    """The file, with its name in Content-Disposition (RFC 6266)."""

    def __init__(self, request: HttpRequest, length: int) -> None:
        super().__init__(request, length)
        self.size = length
        self.filename = filename_of_disposition(request.headers.get("Content-Disposition", ""))

    def chunks(self) -> Iterator[bytes]:
        while self._unread:
            yield self._read()


def filename_of_disposition(header: str) -> str:
    """``filename*`` first, in the charsets of RFC 8187; may be empty."""
    if match := EXTENDED_FILENAME.search(header):
        return unquote(match["value"], encoding=match["charset"], errors="replace")
    # WSGI decodes headers as Latin-1; most clients send UTF-8.
    header = header.encode("latin-1", "replace").decode("utf-8", "replace")
    if match := QUOTED_FILENAME.search(header):
        return re.sub(r"\\(.)", r"\1", match["value"])
    match = PLAIN_FILENAME.search(header)
    return match["value"] if match else ""


class MultipartBody(_Body):
    """The part ``file`` after small fields, with a ``thumbnail`` before or after it. ``size`` by Content-Length is
    exact if the file is last, as usual.
    """

    def __init__(self, request: HttpRequest, length: int) -> None:
        super().__init__(request, length)
        boundary = request.content_params.get("boundary", "") if request.content_params else ""
        try:
            self._parser = PushMultipartParser(
                boundary, content_length=length, max_segment_count=MAX_PARTS, header_charset="utf8"
            )
        except MultipartError as error:
            raise MalformedBody(format_lazy(_("The multipart body cannot be read: {reason}."), reason=error)) from error
        self._trailer = len(f"\r\n--{boundary}--\r\n".encode())
        self._besides_file = 0
        self._events = self._parse()
        self._read_leading_fields()
        self._first = next(self._events, None)
        if isinstance(self._first, bytes | bytearray):
            self.size = len(self._first) + max(0, self._unread - self._trailer)

    def chunks(self) -> Iterator[bytes]:
        piece = self._first
        while piece is not None:
            if isinstance(piece, bytes | bytearray):
                self._besides_file -= len(piece)
                yield bytes(piece) if isinstance(piece, bytearray) else piece
            piece = next(self._events, None)
        for segment in self._events:
            if not isinstance(segment, MultipartSegment):
                continue
            if segment.name in LEADING_FIELDS:
                detail = format_lazy(_("Send the field “{field}” in front of the file."), field=segment.name)
                raise FieldAfterFile(detail, field=segment.name)
            if segment.name == "file":
                raise Invalid(_("Send one file in a request."), errors={"file": [_("There are two of it.")]})
            self._read_field(segment)

    def _read_leading_fields(self) -> None:
        for segment in self._events:
            if not isinstance(segment, MultipartSegment):
                continue
            if segment.name == "file":
                self.filename = segment.filename or ""
                return
            self._read_field(segment)
        raise Invalid(_("Choose a file first: the form has none."), errors={"file": [_("This field is required.")]})

    def _read_field(self, segment: MultipartSegment) -> None:
        is_thumbnail = segment.name == "thumbnail"
        limit = MAX_THUMBNAIL_BYTES if is_thumbnail else MAX_FIELD_BYTES
        value = bytearray()
        for event in self._events:
            if event is None:
                break
            value += event
            if len(value) > limit:
                raise FieldTooLarge(
                    format_lazy(_("“{field}” may have {size} at most."), field=segment.name, size=size_in_words(limit)),
                    maximum=limit,
                )
        if is_thumbnail:
            # Browsers send an empty part for an empty file field.
            self.thumbnail = bytes(value) or None
        elif segment.name:
            self.fields[segment.name] = value.decode("utf-8", "replace")

    def _parse(self) -> Iterator[MultipartSegment | bytes | bytearray | None]:
        try:
            while self._unread:
                piece = self._read()
                self._besides_file += len(piece)
                yield from self._parser.parse(piece)
                if self._besides_file > MAX_BESIDES_FILE_BYTES:
                    raise FieldTooLarge(
                        format_lazy(
                            _("A form may hold {size} besides its file."), size=size_in_words(MAX_BESIDES_FILE_BYTES)
                        ),
                        maximum=MAX_BESIDES_FILE_BYTES,
                    )
            self._parser.close()
        except ParserLimitReached as error:
            raise MalformedBody(
                format_lazy(_("The multipart body has too many or too long parts: {reason}."), reason=error)
            ) from error
        except MultipartError as error:
            raise MalformedBody(format_lazy(_("The multipart body cannot be read: {reason}."), reason=error)) from error

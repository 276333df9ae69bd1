"""Stored bytes over HTTP with ranges and conditions (RFC 9110), or redirects to the storage."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.http import http_date, parse_http_date_safe, quote_etag
from django.utils.translation import gettext_lazy as _

from audiotricks.database import release_connection
from audiotricks.errors import Conflict, DomainError, NotFound
from audiotricks.web import problems
from audiotricks.web.disposition import MAX_SIGNED_NAME_BYTES, content_disposition
from media.formats import AUDIO_FORMATS
from objectstore import audio_storages, get_storage
from objectstore.base import AudioStorage, Availability
from objectstore.errors import ObjectArchived, ObjectNotFound, StorageError, TransientStorageError
from objectstore.retry import ONCE, retry_policy
from uploads.errors import ObjectLost
from uploads.models import AudioUpload
from uploads.models.states import UNLISTED, UNREADABLE

Answer = TypeVar("Answer")
log = structlog.get_logger(__name__)

#: Allows the browser's own player or picture of a file opened by itself; no script, form or plugin.
SHOWN_POLICY = (
    "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
)
HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
NOT_KEPT = "private, no-store"
MIME_TYPES = frozenset(audio.mime_type for audio in AUDIO_FORMATS.values())
RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
PLAIN_RANGE = re.compile(r"bytes=\d+-\d*", re.ASCII)


class NotReadableNow(Conflict):
    """Member: ``state``."""

    code = "not_readable_now"
    title = _("The file is archived: restore it first")


class PreconditionFailed(DomainError):
    code = "precondition_failed"
    status = 412
    title = _("The file is not the one that the request's condition names")


class RangeNotSatisfiable(DomainError):
    """Member: ``size`` in bytes."""

    code = "range_not_satisfiable"
    status = 416
    title = _("The file has no such bytes")


def can_be_heard(upload: AudioUpload) -> bool:
    """Whether to offer a player."""
    return upload.status not in UNLISTED and upload.status not in UNREADABLE


def content_response(request: HttpRequest, upload: AudioUpload) -> HttpResponseBase:
    """200, 206, 302, 304, 412 or 416; HEAD needs only the row. 302 to a signed URL, unless DOWNLOAD_REDIRECTS or
    ``?redirect`` is off. Raises NotFound for a file in the trash, NotReadableNow for an archived one, and storage
    errors.
    """
    if upload.status in UNLISTED:
        raise NotFound
    if upload.status in UNREADABLE:
        raise NotReadableNow(state=upload.status)
    etag = quote_etag(upload.checksum_sha256 or f"{upload.pk}-{upload.file_size}")
    modified = upload.uploaded_at or upload.created_at
    # A browser must not display any other type that a row may have.
    is_ours = upload.mime_type in MIME_TYPES
    content_type = upload.mime_type if is_ours else "application/octet-stream"
    as_attachment = not is_ours or wants_to_save(request)
    headers = {
        **HARMLESS,
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(modified.timestamp()),
        "Content-Disposition": content_disposition(upload.original_filename, as_attachment=as_attachment),
    }
    if is_ours:
        headers["Content-Security-Policy"] = SHOWN_POLICY
    match get_conditional_response(request, etag, int(modified.timestamp())):
        case HttpResponse(status_code=304):
            return HttpResponse(status=304, content_type=content_type, headers=headers)
        case HttpResponse(status_code=412):
            return refusal(PreconditionFailed(), headers)
    span = requested_range(request, upload.file_size, etag, modified)
    start, length = span or (0, upload.file_size)
    if length < 0:
        headers["Content-Range"] = f"bytes */{upload.file_size}"
        return refusal(RangeNotSatisfiable(size=upload.file_size), headers)
    headers["Content-Length"] = str(length)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{upload.file_size}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return HttpResponse(status=status, content_type=content_type, headers=headers)
    # A provider does not send our Content-Security-Policy, nor always the requested type.
    if is_ours and wants_redirect(request) and can_be_passed_on(request, span):
        disposition = content_disposition(
            upload.original_filename, as_attachment=as_attachment, longest=MAX_SIGNED_NAME_BYTES
        )
        address = signed_address(upload, content_type, disposition)
        if address is not None:
            return HttpResponse(status=302, headers={**HARMLESS, "Location": address, "Cache-Control": NOT_KEPT})
    response = FileResponse(open_object(upload, start, length), status=status, content_type=content_type)
    for name, value in headers.items():
        response[name] = value
    release_connection()
    return response


def refusal(error: DomainError, headers: dict[str, str]) -> HttpResponse:
    problem = problems.problem_from(error)
    assert problem is not None
    response = problems.json_answer(problem)
    for name, value in headers.items():
        response[name] = value
    return response


def can_be_passed_on(request: HttpRequest, span: tuple[int, int] | None) -> bool:
    """Providers do not know our ETags and times, and Azure has no ranges from the end."""
    ours = {"If-Match", "If-Unmodified-Since"} | ({"If-Range"} if span is not None else set())
    asked = request.headers.get("Range")
    return request.headers.keys().isdisjoint(ours) and (asked is None or PLAIN_RANGE.fullmatch(asked) is not None)


def signed_address(upload: AudioUpload, content_type: str, disposition: str) -> str | None:
    """Valid for SIGNED_URL_SECONDS; None if we must serve the bytes. Raises ObjectLost, ObjectArchived."""

    def sign(storage: AudioStorage, name: str) -> str | None:
        if storage.signer is None:
            return None
        # A client must not be redirected to a missing object. If the storage does not respond to us now, it may to the
        # client.
        with suppress(TransientStorageError), retry_policy(ONCE):
            if storage.stat(name).availability is not Availability.READABLE:
                raise ObjectArchived
        return storage.signer.sign(
            name, seconds=settings.SIGNED_URL_SECONDS, content_type=content_type, disposition=disposition
        )

    return ask_storage(upload, place_of_audio, sign) if settings.DOWNLOAD_REDIRECTS else None


def open_object(upload: AudioUpload, start: int, length: int) -> BinaryIO:
    """Raises ObjectLost, with a logged error."""
    whole = start == 0 and length == upload.file_size
    return ask_storage(
        upload, place_of_audio, lambda storage, name: storage.open_range(name, start, None if whole else length)
    )


#: The alias of a storage and the name of an object in it.
Place = tuple[str, str]


def place_of_audio(upload: AudioUpload) -> Place:
    return upload.storage_provider, upload.storage_path


def place_of_picture(upload: AudioUpload) -> Place | None:
    picture = upload.thumbnail_object
    return (picture.storage_provider, picture.storage_path) if picture else None


def ask_storage(
    upload: AudioUpload,
    place_in: Callable[[AudioUpload], Place | None],
    question: Callable[[AudioStorage, str], Answer],
) -> Answer:
    """Asks again if the row has another object by then. Raises ObjectLost, NotFound."""
    while True:
        if (seen := place_in(upload)) is None:
            raise NotFound
        alias, name = seen
        # The storage, and then the client, may take long.
        release_connection()
        try:
            return question(get_storage(alias), name)
        except ObjectNotFound:
            try:
                upload.refresh_from_db()
            except AudioUpload.DoesNotExist:
                raise NotFound from None
            if upload.status in UNLISTED:
                raise NotFound from None
            if place_in(upload) == seen:
                log.error("object_missing", upload_id=str(upload.pk), storage=alias, name=name)
                raise ObjectLost from None


def media_origins() -> list[str]:
    if not settings.DOWNLOAD_REDIRECTS:
        return []
    origins = []
    for alias, storage in audio_storages().items():
        try:
            # Signing may need a request; a page waits for one attempt only.
            with retry_policy(ONCE):
                origins.append(origin_of(storage))
        except StorageError:
            log.warning("storage_cannot_sign", storage=alias)
    return sorted({*origins} - {""})


@lru_cache(maxsize=8)
def origin_of(storage: AudioStorage) -> str:
    """Empty without signed URLs."""
    url = None
    if storage.signer is not None:
        url = storage.signer.sign("audio/origin", seconds=settings.SIGNED_URL_SECONDS)
    return "{0.scheme}://{0.netloc}".format(urlsplit(url)) if url else ""


def wants_to_save(request: HttpRequest) -> bool:
    """``?download``, unless negative."""
    return request.GET.get("download", "no").lower() not in ("false", "0", "no")


def wants_redirect(request: HttpRequest) -> bool:
    """False for a negative ``?redirect``: some clients send their token on to the bucket, which refuses them."""
    return request.GET.get("redirect", "yes").lower() not in ("false", "0", "no")


def requested_range(request: HttpRequest, size: int, etag: str, modified: datetime) -> tuple[int, int] | None:
    """(start, length); None for the whole file, length -1 if unsatisfiable. Several ranges, other units and HEAD get
    the whole, as RFC 9110 allows.
    """
    if request.method != "GET":
        return None
    match = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    condition = request.headers.get("If-Range", etag)
    if condition != etag and parse_http_date_safe(condition) != int(modified.timestamp()):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, length) if length else (0, -1)
    start, end = int(first), min(int(last or size), size - 1)
    if last and int(last) < start:
        return None
    return (start, end - start + 1) if start < size else (start, -1)


def thumbnail_response(request: HttpRequest, upload: AudioUpload) -> HttpResponseBase:
    """Raises NotFound."""
    if upload.status in UNLISTED or not upload.thumbnail_path:
        raise NotFound
    extension = upload.thumbnail_path.rsplit(".", 1)[-1]
    try:
        picture = ask_storage(upload, place_of_picture, lambda storage, name: storage.open_range(name))
    except ObjectLost:
        raise NotFound from None
    response = FileResponse(picture, content_type=f"image/{'jpeg' if extension == 'jpg' else extension}")
    for name, value in (HARMLESS | {"Content-Security-Policy": SHOWN_POLICY}).items():
        response[name] = value
    release_connection()
    return response

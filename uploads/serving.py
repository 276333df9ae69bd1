"""The stored bytes, over HTTP: ranges, conditions and headers (RFC 9110)."""

import re
from datetime import datetime
from typing import BinaryIO

from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe, quote_etag

from audiotricks.database import release_connection
from audiotricks.errors import Conflict, NotFound
from uploads.models import AudioUpload, Status
from uploads.storage import get_storage
from uploads.storage.errors import ObjectNotFound

#: Whoever opens one of these in a browser gets the bytes and nothing that runs.
HARMLESS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
OUT_OF_REACH = (Status.ARCHIVED, Status.RESTORING)


class NotReadableNow(Conflict):
    """``state`` is the state the file is in."""

    code = "not_readable_now"
    title = "The file is archived: restore it first"




def content_response(request: HttpRequest, upload: AudioUpload) -> HttpResponseBase:
    """The file as its workspace may hear it: 200, 206, 304, 412 or 416. HEAD is answered from the row alone.

    Raises NotFound for a file in the trash, NotReadableNow for one in the archive.
    """
    if upload.status in (Status.RECEIVING, Status.DELETED, Status.PURGED):
        raise NotFound
    if upload.status in OUT_OF_REACH:
        raise NotReadableNow(state=upload.status)
    etag = quote_etag(upload.checksum_sha256 or f"{upload.pk}-{upload.file_size}")
    modified = upload.uploaded_at or upload.created_at
    headers = {
        **HARMLESS,
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Last-Modified": http_date(modified.timestamp()),
        "Content-Disposition": content_disposition_header("download" in request.GET, upload.original_filename) or "inline",
    }
    if (status := failed_condition(request, etag, modified)) is not None:
        return HttpResponse(status=status, headers=headers)
    span = requested_range(request, upload.file_size, etag, modified)
    start, length = span or (0, upload.file_size)
    headers["Content-Length"] = str(length)
    if span is not None:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{upload.file_size}"
    if length < 0:
        headers |= {"Content-Range": f"bytes */{upload.file_size}", "Content-Length": "0"}
        return HttpResponse(status=416, headers=headers)
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return HttpResponse(status=status, content_type=upload.mime_type, headers=headers)
    response = FileResponse(open_object(upload, start, length), status=status, content_type=upload.mime_type)
    for name, value in headers.items():
        response[name] = value
    # The answer may take as long as its listener likes; the connection goes back to the pool first.
    release_connection()
    return response


def open_object(upload: AudioUpload, start: int, length: int) -> BinaryIO:
    whole = start == 0 and length == upload.file_size
    for attempt in (1, 2):
        try:
            storage = get_storage(upload.storage_provider)
            return storage.open_range(upload.storage_path, start, None if whole else length)
        except ObjectNotFound:
            # A duplicate's own object goes right after its row was switched to its twin's.
            seen = upload.storage_path
            upload.refresh_from_db()
            if attempt == 2 or upload.storage_path == seen:
                raise
    raise AssertionError("unreachable")


def failed_condition(request: HttpRequest, etag: str, modified: datetime) -> int | None:
    """304 or 412 where a precondition says so (RFC 9110, section 13.2.2), else None."""
    if_match, if_none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    if if_match is not None:
        if not names_etag(if_match, etag, weak=False):
            return 412
    elif (since := parse_http_date_safe(request.headers.get("If-Unmodified-Since", ""))) is not None:
        if int(modified.timestamp()) > since:
            return 412
    if if_none_match is not None:
        if names_etag(if_none_match, etag, weak=True):
            return 304
    elif (since := parse_http_date_safe(request.headers.get("If-Modified-Since", ""))) is not None:
        if int(modified.timestamp()) <= since:
            return 304
    return None


def names_etag(header: str, etag: str, *, weak: bool) -> bool:
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags or (weak and f"W/{etag}" in tags)


def requested_range(request: HttpRequest, size: int, etag: str, modified: datetime) -> tuple[int, int] | None:
    """(start, length) of the one range that was asked for; None for the whole; length -1 where there are no such bytes.

    Several ranges, and what is no range of bytes, are answered by the whole, as RFC 9110 allows.
    """
    match = RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition != etag:
        if parse_http_date_safe(condition) != int(modified.timestamp()):
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
    """The picture, which we encoded ourselves. Raises NotFound where there is none."""
    if upload.status in (Status.RECEIVING, Status.DELETED, Status.PURGED) or not upload.thumbnail_path:
        raise NotFound
    extension = upload.thumbnail_path.rsplit(".", 1)[-1]
    try:
        picture = get_storage(upload.storage_provider).open_range(upload.thumbnail_path)
    except ObjectNotFound:
        raise NotFound from None
    response = FileResponse(picture, content_type=f"image/{'jpeg' if extension == 'jpg' else extension}")
    for name, value in HARMLESS.items():
        response[name] = value
    release_connection()
    return response

"""An upload of any size passes through a few pieces of memory."""

import hashlib
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.db import connection
from django.test import RequestFactory

from tests.factories import UserFactory
from uploads.intake.http.incoming import incoming_file
from uploads.intake.ingest import ingest_audio
from uploads.models import AudioUpload
from uploads.objects.read import digest_object

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2
SIZE = 96 * MIB
ALLOWED_BYTES = 16 * MIB
BOUNDARY = "a-boundary-of-many-signs"


class Stream:
    """Makes what is read of it as it is read: a WAV's signature, then numbers, between ``before`` and ``after``."""

    def __init__(self, before: bytes = b"", after: bytes = b"") -> None:
        self.length = len(before) + SIZE + len(after)
        self.sha256 = hashlib.sha256()
        self._pieces = self._make(before, after)
        self._rest = b""

    def _make(self, before: bytes, after: bytes) -> Iterator[bytes]:
        yield before
        for number in range(SIZE // MIB):
            piece = (b"" if number else b"RIFF\xff\xff\xff\x7fWAVEfmt ").ljust(MIB, bytes([number]))
            self.sha256.update(piece)
            yield piece
        yield after

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (piece := next(self._pieces, None)) is not None:
            self._rest += piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def readline(self, size: int = -1) -> bytes:
        raise AssertionError("a body is not read by lines")


def request_of(stream: Stream, content_type: str, **headers: str) -> WSGIRequest:
    environ = RequestFactory().post("/api/v1/uploads/", content_type=content_type, **headers).environ
    return WSGIRequest({**environ, "wsgi.input": stream, "CONTENT_LENGTH": str(stream.length)})


def raw() -> tuple[Stream, WSGIRequest]:
    stream = Stream()
    disposition = 'attachment; filename="long.wav"'
    return stream, request_of(stream, "audio/wav", HTTP_CONTENT_DISPOSITION=disposition)


def multipart() -> tuple[Stream, WSGIRequest]:
    disposition = 'Content-Disposition: form-data; name="file"; filename="long.wav"'
    stream = Stream(f"--{BOUNDARY}\r\n{disposition}\r\n\r\n".encode(), f"\r\n--{BOUNDARY}--\r\n".encode())
    return stream, request_of(stream, f"multipart/form-data; boundary={BOUNDARY}")


def store(request: WSGIRequest, user: User) -> AudioUpload:
    incoming = incoming_file(request, user, by_session=False)
    return ingest_audio(incoming.body, workspace=incoming.workspace, owner=user, door="api")


@pytest.mark.parametrize("make", [raw, multipart])
def test_a_long_upload_takes_a_few_pieces_of_memory(make: Callable[[], tuple[Stream, WSGIRequest]]) -> None:
    stream, request = make()
    user = UserFactory()
    connection.ensure_connection()
    tracemalloc.start()
    try:
        upload = store(request, user)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < ALLOWED_BYTES
    assert (upload.file_size, upload.checksum_sha256) == (SIZE, stream.sha256.hexdigest())


def test_reading_a_long_file_again_takes_a_few_pieces_of_memory() -> None:
    stream, request = raw()
    upload = store(request, UserFactory())
    tracemalloc.start()
    try:
        digests = digest_object(upload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < ALLOWED_BYTES
    assert digests.sha256 == stream.sha256.hexdigest()

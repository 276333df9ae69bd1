"""tus through the real web server: bodies that break, stall, come by single bytes, and connections that go on."""

import hashlib
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import requests

from accounts.tokens import create_token
from quotas.models import QuotaReservation
from tests.audio import make_wav
from tests.factories import UserFactory
from tests.servers import wait_until
from tests.uploads.sending import files_under
from tests.uploads.tus import MEDIA_TYPE, TUS, b64, metadata, session_at
from tests.uploads.web import Answer, Connection, WebServer, running_web_server
from uploads.models import AudioUpload, UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

WAV = make_wav(seconds=30)
SIZE = len(WAV)
#: More than the web server holds of an upload before it has a thread.
PIECE = 200_000
SMALL = 5_000
STALL_SECONDS = 2


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    with (
        django_db_blocker.unblock(),
        running_web_server(tmp_path_factory.mktemp("web"), UPLOAD_STALL_SECONDS=str(STALL_SECONDS)) as web,
    ):
        yield web


class Sender:
    """A user who speaks to a server by the byte."""

    def __init__(self, web: WebServer) -> None:
        self.web = web
        self.token = create_token(UserFactory(), name="test", expires_in=timedelta(days=1))[1]
        self.headers = {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0"}

    def begin(self, length: int = SIZE) -> str:
        said = {"Upload-Length": str(length), "Upload-Metadata": metadata(filename="one.wav")}
        answer = requests.post(f"{self.web.url}{TUS}", headers={**self.headers, **said}, timeout=60)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def head(self, address: str) -> requests.Response:
        return requests.head(self.at(address), headers=self.headers, timeout=60)

    def at(self, address: str) -> str:
        """The address on this sender's server."""
        return f"{self.web.url}{TUS}{address.rsplit('/', 1)[1]}"

    def offset(self, address: str) -> int:
        answer = self.head(address)
        assert answer.status_code == 200, answer.headers
        return int(answer.headers["Upload-Offset"])

    def patch(self, address: str, offset: int, data: bytes, **headers: str) -> requests.Response:
        said = {"Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset), **headers}
        return requests.patch(self.at(address), data, headers={**self.headers, **said}, timeout=60)

    def patch_head(self, connection: Connection, address: str, offset: int, length: object, *headers: str) -> None:
        """The beginning of a PATCH."""
        connection.head(
            self.token,
            length,
            f"Content-Type: {MEDIA_TYPE}",
            "Tus-Resumable: 1.0.0",
            f"Upload-Offset: {offset}",
            *headers,
            method="PATCH",
            path=TUS + address.rsplit("/", 1)[1],
        )

    @contextmanager
    def patching(self, address: str, offset: int, length: object, *headers: str) -> Iterator[Connection]:
        with self.web.connect() as connection:
            self.patch_head(connection, address, offset, length, *headers)
            yield connection

    def finish(self, address: str) -> None:
        offset = self.offset(address)
        answer = self.patch(address, offset, WAV[offset:])
        assert answer.status_code == 204, answer.text
        upload = AudioUpload.objects.get(pk=answer.headers["Content-Location"].rstrip("/").rsplit("/", 1)[1])
        assert (self.web.root / upload.storage_path).read_bytes() == WAV


@pytest.fixture
def sender(web: WebServer) -> Sender:
    return Sender(web)


def received(address: str) -> int:
    return session_at(address).received_bytes


def is_free(address: str) -> bool:
    return session_at(address).claimable_at is None


def wait_until_free(address: str) -> None:
    wait_until(lambda: is_free(address), seconds=20, what="the writer's end")


# Bodies that break or stall


@pytest.mark.parametrize("length", [SMALL, PIECE])
@pytest.mark.parametrize("kind", ["closed", "reset", "half closed"])
def test_what_came_before_a_connection_broke_is_kept(sender: Sender, kind: str, length: int) -> None:
    """Promise 18."""
    address = sender.begin()
    with sender.patching(address, 0, SIZE) as connection:
        connection.send(WAV[:length])
        if kind == "half closed":
            connection.socket.shutdown(socket.SHUT_WR)
            assert connection.answer().status == 400
        elif kind == "reset":
            if length > SMALL:
                wait_until(lambda: not is_free(address), seconds=20, what="the writer")
            else:
                # A reset may overtake what the server's machine has not taken yet.
                time.sleep(0.3)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    if kind == "reset" and length > SMALL:
        wait_until_free(address)
        assert 0 < sender.offset(address) <= length
    else:
        wait_until(lambda: received(address) == length, seconds=20, what="the bytes")
        assert sender.offset(address) == length
    sender.finish(address)


@pytest.mark.parametrize("length", [SMALL, PIECE])
def test_what_came_before_a_client_stalled_is_kept(sender: Sender, length: int) -> None:
    """Promise 18."""
    address = sender.begin()
    with sender.patching(address, 0, SIZE) as connection:
        connection.send(WAV[:length])
        assert connection.answer().status in (400, 408)
    assert sender.offset(address) == length
    sender.finish(address)


def test_under_a_checksum_half_a_piece_is_not_kept(sender: Sender) -> None:
    """Promises 18, 20."""
    address = sender.begin()
    digest = hashlib.sha1(WAV, usedforsecurity=False).digest()
    with sender.patching(address, 0, SIZE, f"Upload-Checksum: sha1 {b64(digest)}") as connection:
        connection.send(WAV[:PIECE])
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.answer().status == 400
    assert sender.offset(address) == 0
    assert sender.patch(address, 0, WAV, **{"Upload-Checksum": f"sha1 {b64(digest)}"}).status_code == 204


def test_a_body_by_single_bytes_arrives(sender: Sender) -> None:
    address = sender.begin()
    with sender.patching(address, 0, 300) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(300):
            connection.send(WAV[index : index + 1])
        assert connection.answer().status == 204
    sender.finish(address)


def test_a_client_may_ask_before_it_sends(sender: Sender) -> None:
    address = sender.begin()
    with sender.patching(address, 0, SIZE, "Expect: 100-continue") as connection:
        assert connection.answer().status == 100
        connection.send(WAV)
        assert connection.answer().status == 204


def test_a_chunked_body_is_refused_unread(sender: Sender) -> None:
    """Promise 46."""
    address = sender.begin()
    with sender.patching(address, 0, None, "Transfer-Encoding: chunked") as connection:
        connection.send(b"5\r\nRIFFx\r\n0\r\n\r\n")
        assert connection.answer().status == 411
    assert sender.offset(address) == 0


def test_a_chunked_body_beside_a_length_is_refused(sender: Sender) -> None:
    """Promise 46."""
    address = sender.begin()
    with sender.patching(address, 0, 5, "Transfer-Encoding: chunked") as connection:
        connection.send(b"ff\r\n" + WAV[:255] + b"\r\n0\r\n\r\n")
        assert connection.answer().status in (400, 411)
    assert sender.offset(address) == 0


# Connections that go on


def test_a_second_request_behind_the_body_is_the_next_one(sender: Sender) -> None:
    """Promise 21: bytes behind Content-Length are no part of the upload."""
    address = sender.begin()
    with sender.patching(address, 0, SMALL) as connection:
        second = (
            f"PATCH {TUS}{address.rsplit('/', 1)[1]} HTTP/1.1\r\nHost: 127.0.0.1\r\nTus-Resumable: 1.0.0\r\n"
            f"Authorization: Bearer {sender.token}\r\nContent-Type: {MEDIA_TYPE}\r\nUpload-Offset: {SMALL}\r\n"
            f"Content-Length: {PIECE}\r\n\r\n"
        )
        connection.send(WAV[:SMALL] + second.encode() + WAV[SMALL : SMALL + PIECE] + b"HEAD /health HTTP/1.1\r\n")
        first, answer = connection.answer(), connection.answer()
        assert (first.status, first.headers["upload-offset"]) == (204, str(SMALL))
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(SMALL + PIECE))
        connection.send(b"Host: 127.0.0.1\r\n\r\n")
        assert connection._until(b"\r\n").startswith(b"HTTP/1.1 200")
    sender.finish(address)


@pytest.mark.parametrize("length", [SMALL, PIECE])
def test_a_connection_goes_on_after_each_answer(sender: Sender, length: int) -> None:
    address = sender.begin()
    data = WAV[:length]
    wrong = f"Upload-Checksum: sha1 {b64(bytes(20))}"
    asked = [(7, length, (), 409), (0, SIZE + 1, (), 413), (0, length, (wrong,), 460), (0, length, (), 204)]
    with sender.web.connect() as connection:
        for offset, size, headers, status in asked:
            sender.patch_head(connection, address, offset, size, *headers)
            connection.send(WAV + b"x" if size > SIZE else data)
            answer: Answer = connection.answer()
            assert answer.status == status, answer.body
            assert answer.headers["tus-resumable"] == "1.0.0"
    assert sender.offset(address) == length
    sender.finish(address)


def test_metadata_of_eight_kibibytes_is_taken_or_refused_in_words(sender: Sender) -> None:
    for size, expected in ((5_000, {201}), (9_000, {400, 431})):
        said = f"{metadata(filename='a.wav')},note {b64('x' * (size * 3 // 4))}"
        headers = {**sender.headers, "Upload-Length": "9", "Upload-Metadata": said}
        answer = requests.post(f"{sender.web.url}{TUS}", headers=headers, timeout=60)
        assert answer.status_code in expected
        if answer.status_code == 201:
            assert sender.head(answer.headers["Location"]).headers["Upload-Metadata"] == said
        else:
            assert answer.headers["Content-Type"] == "application/problem+json"


# Several writers


def test_a_second_writer_is_refused_while_the_first_one_is_alive(sender: Sender) -> None:
    """Promise 19."""
    address = sender.begin()
    refused = Event()
    with sender.patching(address, 0, SIZE) as connection, ThreadPoolExecutor(1) as threads:

        def send_slowly() -> None:
            sent = 0
            while not refused.wait(0.05):
                connection.send(WAV[sent : sent + 1000])
                sent += 1000
            connection.send(WAV[sent:])

        sending = threads.submit(send_slowly)
        try:
            wait_until(lambda: not is_free(address), seconds=20, what="the writer")
            for answer in (sender.patch(address, 0, WAV), sender.head(address)):
                assert (answer.status_code, answer.headers["Retry-After"]) == (423, "3")
                assert "Upload-Offset" not in answer.headers
        finally:
            refused.set()
            sending.result()
        told = connection.answer()
        assert (told.status, told.headers["upload-offset"]) == (204, str(SIZE))
    assert AudioUpload.objects.count() == 1


def test_the_first_bytes_of_a_slow_client_are_saved_soon(tmp_path: Path) -> None:
    """Promise 18. Also when the connection dies silently before the web server gave the upload a thread."""
    with running_web_server(tmp_path, UPLOAD_STALL_SECONDS="60") as web:
        sender = Sender(web)
        address = sender.begin()
        with sender.patching(address, 0, SIZE) as stalled:
            stalled.send(WAV[:SMALL])
            wait_until(lambda: received(address) == SMALL, seconds=10, what="the first bytes")
            sender.finish(address)


def test_a_new_writer_takes_over_from_one_that_stalls(tmp_path: Path) -> None:
    """Promise 18. What came before a connection died without a word is kept; its later bytes are never stored."""
    with running_web_server(tmp_path, UPLOAD_STALL_SECONDS="60") as web:
        sender = Sender(web)
        address = sender.begin()
        with sender.patching(address, 0, SIZE) as stalled:
            stalled.send(WAV[:PIECE])
            wait_until(lambda: received(address) == PIECE, seconds=6, what="what came before the silence")
            began = time.monotonic()
            assert sender.offset(address) == PIECE
            assert time.monotonic() - began < 12
            sender.finish(address)
            stalled.send(bytes(SIZE - PIECE))
            assert stalled.answer().status in (410, 423, 409, 204)
        upload = AudioUpload.objects.get()
        assert (web.root / upload.storage_path).read_bytes() == WAV


def test_a_session_goes_on_at_another_process_when_one_is_killed(tmp_path: Path) -> None:
    """Two processes take turns; one is killed in the middle of a PATCH."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    shared = str(tmp_path / "audio")
    with (
        running_web_server(tmp_path / "one", AUDIO_STORAGE_PATH=shared) as first,
        running_web_server(tmp_path / "two", AUDIO_STORAGE_PATH=shared) as second,
    ):
        first.root = second.root = Path(shared)
        one = Sender(first)
        two = Sender(second)
        two.token, two.headers = one.token, one.headers
        address = one.begin()
        for turn, sender in enumerate((one, two, one, two)):
            answer = sender.patch(address, turn * SMALL, WAV[turn * SMALL : (turn + 1) * SMALL])
            assert answer.status_code == 204
        with one.patching(address, 4 * SMALL, SIZE - 4 * SMALL) as connection:
            connection.send(WAV[4 * SMALL : 4 * SMALL + PIECE])
            wait_until(lambda: not is_free(address), seconds=20, what="the writer")
            first.worker().send_signal(signal.SIGKILL)
            offset = two.offset(address)
            assert 4 * SMALL <= offset <= 4 * SMALL + PIECE
            two.finish(address)
        assert not QuotaReservation.objects.exists()
        assert [name for name in files_under(Path(shared)) if "vault" not in name] == [
            AudioUpload.objects.get().storage_path
        ]
        assert not UploadSession.objects.open().exists()

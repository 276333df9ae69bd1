"""Slow clients beside others, at a server with two threads for requests and four for uploads.

Slow clients come from 127.0.0.2, everybody else from 127.0.0.1.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.prepared import migrated_sqlite
from tests.running.programs import BIN, Program, environment, started, token_of_new_user
from tests.servers import accepts_connections, free_port, wait_until

SLOW = 40
STALL_SECONDS = 4
AUDIO_BYTES = 8 * 1024**2


class Site:
    def __init__(self, program: Program, token: str) -> None:
        self.program = program
        self.port = int(program.env["PORT"])
        self.token = token

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            client.request(method, path, body, {"Authorization": f"Bearer {self.token}", **headers})
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()

    def upload(self, content: bytes) -> tuple[int, dict[str, str]]:
        status, body = self.ask(
            "POST", "/api/v1/uploads/", content, **{"Content-Disposition": 'attachment; filename="a.wav"'}
        )
        return status, json.loads(body)

    def slow_client(self) -> socket.socket:
        client = socket.socket()
        # A small window, so that an answer is not taken in one go by this machine.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.bind(("127.0.0.2", 0))
        client.settimeout(30)
        client.connect(("127.0.0.1", self.port))
        return client


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("slow")
    env = environment(
        VAR_DIR=migrated_sqlite(directory / "var"),
        PORT=str(free_port()),
        WEB_THREADS="2",
        WEB_TRANSFERS="4",
        REQUEST_SECONDS="30",
        UPLOAD_STALL_SECONDS=str(STALL_SECONDS),
        LOG_FORMAT="json",
        THROTTLE_ANONYMOUS="100000/min",
    )
    token = token_of_new_user(env)
    command = [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
    with started(command, env, directory / "log") as program:
        wait_until(lambda: accepts_connections(int(env["PORT"])), what="the web server")
        yield Site(program, token)


@pytest.fixture(scope="module")
def audio(wav_bytes: bytes) -> bytes:
    """More than is read before an upload gets a thread, and than sockets keep."""
    samples = (wav_bytes[44:] * (AUDIO_BYTES // len(wav_bytes[44:]) + 1))[:AUDIO_BYTES]
    size = len(samples)
    return wav_bytes[:4] + (size + 36).to_bytes(4, "little") + wav_bytes[8:40] + size.to_bytes(4, "little") + samples


@pytest.fixture(scope="module")
def file_path(site: Site, audio: bytes) -> str:
    status, stored = site.upload(audio)
    assert status == 201, stored
    return f"/api/v1/uploads/{stored['id']}/content/"


def slow_heads(site: Site) -> bytes:
    return b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


def slow_sign_in(site: Site) -> bytes:
    return (
        b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 500\r\n\r\nusername="
    )


def slow_upload(site: Site) -> bytes:
    """The first 16 KiB come at once, so that it gets a thread if there is one."""
    return (
        b"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50000000\r\n"
        b'Content-Disposition: attachment; filename="a.wav"\r\n'
        b"Authorization: Bearer " + site.token.encode() + b"\r\n\r\n" + b"RIFF" + bytes(20_000)
    )


def slow_upload_of_strangers(site: Site) -> bytes:
    return slow_upload(site).replace(site.token.encode(), b"unknown")


def slow_small_upload(site: Site) -> bytes:
    return slow_upload(site).replace(b"50000000", b"50000")


@pytest.mark.parametrize(
    "begin",
    [slow_heads, slow_sign_in, slow_upload, slow_upload_of_strangers, slow_small_upload],
    ids=lambda f: f.__name__,
)
def test_clients_that_send_slowly_do_not_stop_others(site: Site, audio: bytes, begin: Callable[[Site], bytes]) -> None:
    """Promise 26."""
    with ExitStack() as stack:
        slow = [stack.enter_context(site.slow_client()) for _ in range(SLOW)]
        for client in slow:
            client.sendall(begin(site))
        assert_others_are_served(site, audio)


def test_clients_that_listen_slowly_do_not_stop_others(site: Site, audio: bytes, file_path: str) -> None:
    """Promise 26."""
    asked = f"GET {file_path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {site.token}\r\n\r\n".encode()
    with ExitStack() as stack:
        slow = [stack.enter_context(site.slow_client()) for _ in range(SLOW)]
        for client in slow:
            client.sendall(asked)
        for client in slow:
            assert client.recv(1) == b"H"
        assert_others_are_served(site, audio)
        status, content = site.ask("GET", file_path)
        assert (status, content) == (200, audio)


def assert_others_are_served(site: Site, audio: bytes) -> None:
    assert site.ask("GET", "/health")[0] in (200, 503)
    assert site.ask("GET", "/sign-in/")[0] == 200
    assert site.ask("GET", "/api/v1/uploads/")[0] == 200
    status, stored = site.upload(audio[:-44] + bytes(44))
    assert status == 201, stored
    site.ask("DELETE", f"/api/v1/uploads/{stored['id']}/")


def test_a_slow_but_steady_upload_arrives(site: Site, audio: bytes) -> None:
    """Promise 26. Slower than its window, and above the least rate."""
    content = audio[:44] + audio[44 : 44 + 2 * 1024**2]
    head = (
        f"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(content)}\r\n"
        f'Content-Disposition: attachment; filename="steady.wav"\r\nAuthorization: Bearer {site.token}\r\n\r\n'
    ).encode()
    with site.slow_client() as client:
        client.sendall(head + content[:20_000])
        step = len(content) // (2 * STALL_SECONDS)
        for start in range(20_000, len(content), step):
            time.sleep(1)
            client.sendall(content[start : start + step])
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 201, answer.read()


def test_an_upload_below_the_least_rate_is_told_so(site: Site) -> None:
    """Promise 26."""
    with site.slow_client() as client:
        client.sendall(slow_upload(site))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["code"]) == (408, "request_timeout")

"""gunicorn with the project's configuration and no other program beside it."""

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.prepared import migrated_sqlite
from tests.running.programs import BIN, Program, environment, started
from tests.servers import accepts_connections, free_port, wait_until

STALL_SECONDS = 1
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    directory = tmp_path_factory.mktemp("web")
    env = environment(
        VAR_DIR=migrated_sqlite(directory / "var"),
        PORT=str(free_port()),
        UPLOAD_STALL_SECONDS=str(STALL_SECONDS),
        REQUEST_SECONDS=str(STALL_SECONDS),
        WEB_THREADS="2",
        LOG_FORMAT="json",
        HOME=str(directory),
    )
    command = [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
    with started(command, env, directory / "log") as program:
        program.wait_for("Booting worker")
        yield program


def connect(web: Program) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(web.env["PORT"])), timeout=30)


def read_answer(client: socket.socket) -> bytes:
    """One answer that has a Content-Length."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = client.recv(4096)
        assert piece, received
        received += piece
    head, body = received.split(b"\r\n\r\n", 1)
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < length:
        body += client.recv(4096)
    return head


def status_of(client: socket.socket) -> int:
    return int(read_answer(client).split()[1])


def test_clients_that_stall_in_their_headers_hold_no_thread_for_long(web: Program) -> None:
    """Promise 26."""
    with connect(web) as first, connect(web) as second, connect(web) as other:
        for stalled in (first, second):
            stalled.sendall(b"GET /health HTTP/1.1\r\nHost: 127")
        other.sendall(HEALTH)
        assert read_answer(other).startswith(b"HTTP/1.1 ")
        assert [status_of(stalled) for stalled in (first, second)] == [408, 408]
    assert web.output().count("A client stalled") == 2
    assert "Traceback" not in web.output()


def test_a_connection_may_rest_longer_than_a_stall_between_two_requests(web: Program) -> None:
    with connect(web) as client:
        client.sendall(HEALTH)
        read_answer(client)
        readable, _, _ = select.select([client], [], [], 2 * STALL_SECONDS)
        assert not readable, "the server closed the connection"
        client.sendall(HEALTH)
        read_answer(client)


def test_two_requests_sent_at_once_get_two_answers(web: Program) -> None:
    with connect(web) as client:
        client.sendall(HEALTH + HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while piece := client.recv(4096):
            received += piece
    assert received.count(b"HTTP/1.1 ") == 2


def exchange(web: Program, sent: bytes) -> bytes:
    """Everything that comes until the server closes."""
    with connect(web) as client:
        client.sendall(sent)
        received = b""
        while piece := client.recv(65536):
            received += piece
    return received


CLOSING = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 414),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\n" + b"X-Long: a\r\n" * 20_000, 431),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: a word\r\n\r\n", 417),
        (b"POST /health HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: new, chunked\r\n\r\n", 501),
    ],
)
def test_a_request_that_cannot_be_read_gets_a_problem_document_that_is_harmless(
    web: Program, sent: bytes, status: int
) -> None:
    head, body = exchange(web, sent).split(b"\r\n\r\n", 1)
    assert json.loads(body)["status"] == status == int(head.split()[1])
    for header in (b"X-Content-Type-Options: nosniff", b"X-Frame-Options: DENY", b"Content-Security-Policy: "):
        assert header in head
    assert b"Content-Type: application/problem+json" in head


def test_one_empty_line_in_front_of_a_request_is_ignored(web: Program) -> None:
    assert exchange(web, b"\r\n" + CLOSING).startswith(b"HTTP/1.1 ")


def test_a_head_answers_without_a_body_and_the_connection_goes_on(web: Program) -> None:
    received = exchange(web, HEALTH.replace(b"GET", b"HEAD") + CLOSING)
    first, second, body = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 ") and second.startswith(b"HTTP/1.1 ")
    assert json.loads(body)["checks"]


def test_a_body_that_nobody_reads_does_not_become_the_next_request(web: Program) -> None:
    body = b"GET /health HTTP/1.1\r\n\r\n" * 10_000
    head = b"POST /nothing/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    for unread in (body[:100], body):
        received = exchange(web, head % len(unread) + unread + CLOSING)
        assert received.count(b"HTTP/1.1 ") == 2, received


def test_a_client_that_waits_for_a_word_before_it_sends_gets_it(web: Program) -> None:
    body = b"username=a&password=b"
    with connect(web) as client:
        client.sendall(
            b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % len(body)
        )
        word = b"HTTP/1.1 100 Continue\r\n\r\n"
        assert client.recv(len(word), socket.MSG_WAITALL) == word
        client.sendall(body)
        assert status_of(client) == 403


def test_a_body_of_unknown_length_is_refused_unread(web: Program) -> None:
    head = b"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    received = exchange(web, head + b"5\r\nhello\r\n0\r\n\r\n")
    assert (received.split()[1], received.count(b"HTTP/1.1 ")) == (b"411", 1)


@pytest.mark.parametrize("length", [b"Transfer-Encoding: chunked", b"Content-Length: 1000000000"])
def test_an_answer_that_is_the_last_of_its_connection_says_so(web: Program, length: bytes) -> None:
    """Else a client sends its next request where nobody reads it."""
    head = b"POST /nothing/ HTTP/1.1\r\nHost: 127.0.0.1\r\n" + length + b"\r\n\r\n"
    with connect(web) as client:
        client.sendall(head + b"0\r\n\r\n" + bytes(20_000))
        received = client.recv(65536)
    assert b"\r\nConnection: close\r\n" in received, received


def test_an_answer_names_no_version_that_the_server_does_not_speak(web: Program) -> None:
    assert exchange(web, CLOSING.replace(b"HTTP/1.1", b"HTTP/1.9")).startswith(b"HTTP/1.1 ")


def test_a_form_that_ends_too_early_never_reaches_a_view(web: Program) -> None:
    head = b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nusername=a"
    with connect(web) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_clients_that_never_close_do_not_hold_the_server(web: Program) -> None:
    """Promise 26."""
    with ExitStack() as stack:
        for _ in range(40):
            client = stack.enter_context(connect(web))
            client.sendall(CLOSING)
            read_answer(client)
        began = time.monotonic()
        with connect(web) as other:
            other.sendall(HEALTH)
            read_answer(other)
        assert time.monotonic() - began < 20


@pytest.mark.parametrize("name", ["SCRIPT_NAME", "Script-Name", "PATH_INFO"])
def test_no_header_moves_the_addresses_of_pages(web: Program, name: str) -> None:
    sent = CLOSING.replace(b"\r\n\r\n", f"\r\n{name}: /health\r\n\r\n".encode())
    assert b'"checks"' in exchange(web, sent)


def test_gunicorn_writes_its_lines_in_the_format_of_all_others(web: Program) -> None:
    lines = web.output().splitlines()
    assert any("Listening at" in line for line in lines)
    for line in lines:
        json.loads(line)


def test_it_opens_no_control_socket(web: Program) -> None:
    with connect(web) as client:
        client.sendall(HEALTH)
        read_answer(client)
    assert list(Path(web.env["HOME"]).rglob("*.ctl")) == []


def test_a_server_that_stops_refuses_new_clients_while_it_finishes_an_upload(web: Program, tmp_path: Path) -> None:
    env = {**web.env, "PORT": str(free_port()), "UPLOAD_STALL_SECONDS": "30", "REQUEST_SECONDS": "30"}
    command = [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
    with started(command, env, tmp_path / "log") as stopping:
        stopping.wait_for("Booting worker")
        with connect(stopping) as client:
            client.sendall(b"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n01234")
            with connect(stopping) as other:
                other.sendall(CLOSING)
                read_answer(other)
            stopping.process.terminate()
            wait_until(lambda: not accepts_connections(int(env["PORT"])), what="the end of the listener")
            client.sendall(b"56789")
            assert b"\r\nConnection: close" in read_answer(client)

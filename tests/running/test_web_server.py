"""gunicorn with the project's configuration and no other program beside it."""

import json
import select
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.running.programs import BIN, Program, environment, ran, started
from tests.servers import free_port

STALL_SECONDS = 1
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    directory = tmp_path_factory.mktemp("web")
    env = environment(
        VAR_DIR=str(directory / "var"),
        PORT=str(free_port()),
        UPLOAD_STALL_SECONDS=str(STALL_SECONDS),
        WEB_THREADS="2",
        LOG_FORMAT="json",
        HOME=str(directory),
    )
    migrated = ran([sys.executable, "manage.py", "migrate"], env)
    assert migrated.returncode == 0, migrated.stderr
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


def test_clients_that_stall_in_their_headers_hold_no_thread_for_long(web: Program) -> None:
    with connect(web) as first, connect(web) as second, connect(web) as other:
        for stalled in (first, second):
            stalled.sendall(b"GET /health HTTP/1.1\r\nHost: 127")
        other.sendall(HEALTH)
        assert read_answer(other).startswith(b"HTTP/1.1 ")
        assert [first.recv(1), second.recv(1)] == [b"", b""]
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

"""What 200 slow clients of each kind cost the others: a page, a list and an upload, to the same without them.

Those of resumable uploads send a byte a second each; the others stand still.
"""

import http.client
import json
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from urllib.parse import urlsplit

from benchmarks.client import wav_header
from benchmarks.figures import Figure, report
from benchmarks.web import Site, running_site

SLOW = 200
ROUNDS = 5
LISTS = 100
FILE_BYTES = 8 * 1024**2
FIRST_BYTES = 20_000
AT_MOST = 3.0
Slow = Callable[[], AbstractContextManager[None]]


def main() -> int:
    with running_site() as site:
        content = wav_header(FILE_BYTES).ljust(FILE_BYTES, b"\1")
        site.upload(content)
        file = only_file(site)
        kinds = {
            "heads": b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
            "sign-in forms": (
                b"POST /sign-in/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                b"Content-Length: 500\r\n\r\nusername="
            ),
            "uploads": (
                b"POST /api/v1/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50000000\r\n"
                b'Content-Disposition: attachment; filename="a.wav"\r\n'
                b"Authorization: Bearer " + site.token.encode() + b"\r\n\r\nRIFF"
            ),
            "downloads": (
                f"GET /api/v1/uploads/{file}/content/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"Authorization: Bearer {site.token}\r\n\r\n"
            ).encode(),
        }
        figures = [beside(site, content, kind, partial(slow_clients, site, begin)) for kind, begin in kinds.items()]
        figures.append(beside_list(site, partial(trickling, site)))
        return report(figures)


def beside_list(site: Site, slow: Slow) -> Figure:
    def listed() -> float:
        began = time.perf_counter()
        ask(site, "/api/v1/uploads/")
        return time.perf_counter() - began

    listed()
    idle = statistics.median(listed() for _ in range(LISTS))
    with slow():
        busy = statistics.median(listed() for _ in range(LISTS))
    words = f"{busy * 1000:.1f} ms to {idle * 1000:.1f} ms"
    return Figure(f"a list beside {SLOW} resumable uploads of a byte a second", words, busy / idle, at_most=2.0)


def beside(site: Site, content: bytes, kind: str, slow: Slow) -> Figure:
    def round_trip() -> float:
        began = time.perf_counter()
        ask(site, "/sign-in/")
        ask(site, "/api/v1/uploads/")
        site.upload(content)
        return time.perf_counter() - began

    round_trip()
    idle = statistics.median(round_trip() for _ in range(ROUNDS))
    with slow():
        busy = statistics.median(round_trip() for _ in range(ROUNDS))
    words = f"{busy * 1000:.0f} ms to {idle * 1000:.0f} ms"
    return Figure(f"a page, a list and an upload beside {SLOW} slow {kind}", words, busy / idle, at_most=AT_MOST)


@contextmanager
def slow_clients(site: Site, begin: bytes) -> Iterator[None]:
    """They sent the beginning, and then neither send nor take anything."""
    with ExitStack() as stack:
        for _ in range(SLOW):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.bind(("127.0.0.2", 0))
            client.connect(("127.0.0.1", site.port))
            client.sendall(begin)
        yield


@contextmanager
def trickling(site: Site) -> Iterator[None]:
    """Each begins with enough bytes to be given a thread."""
    stopped = threading.Event()
    with ExitStack() as stack:
        clients = []
        for _ in range(SLOW):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", site.port)))
            path = urlsplit(site.begin_tus(FILE_BYTES)).path
            client.sendall(
                f"PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {site.token}\r\n"
                "Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
                f"Content-Length: {FILE_BYTES}\r\n\r\n".encode()
                + wav_header(FILE_BYTES).ljust(FIRST_BYTES, b"\1")
            )
            clients.append(client)
        sender = threading.Thread(target=send_bytes, args=(clients, stopped))
        sender.start()
        stack.callback(sender.join)
        stack.callback(stopped.set)
        yield


def send_bytes(clients: list[socket.socket], stopped: threading.Event) -> None:
    while not stopped.wait(1):
        for client in clients:
            # The server cuts off those who are too slow for too long.
            with suppress(OSError):
                client.send(b"\1")


def only_file(site: Site) -> str:
    (row,) = ask(site, "/api/v1/uploads/")["results"]
    return str(row["id"])


def ask(site: Site, path: str) -> dict[str, list[dict[str, str]]]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {site.token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
        return json.loads(body) if "json" in answer.headers["Content-Type"] else {}
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())

"""What 200 slow clients of each kind cost the others: a page, a list and an upload, to the same without them."""

import http.client
import json
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.client import wav_header
from benchmarks.figures import Figure, report
from benchmarks.web import Site, running_site

SLOW = 200
ROUNDS = 5
FILE_BYTES = 8 * 1024**2
AT_MOST = 3.0


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
        return report([beside(site, content, kind, begin) for kind, begin in kinds.items()])


def beside(site: Site, content: bytes, kind: str, begin: bytes) -> Figure:
    def round_trip() -> float:
        began = time.perf_counter()
        ask(site, "/sign-in/")
        ask(site, "/api/v1/uploads/")
        site.upload(content)
        return time.perf_counter() - began

    round_trip()
    idle = statistics.median(round_trip() for _ in range(ROUNDS))
    with slow_clients(site, begin):
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

"""Small requests: one file's row with a token, over 16 connections, with the connection pool and without it."""

import http.client
import json
import socket
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from benchmarks.client import MIB, Client
from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.web import Site, running_site

CONNECTIONS = 16
PER_CONNECTION = 60
ROUNDS = 5


def main() -> int:
    with ExitStack() as stack:
        pooled = stack.enter_context(running_site())
        plain = stack.enter_context(running_site(DJANGO_SETTINGS_MODULE="benchmarks.without_pool"))
        with Client(64 * MIB) as client:
            paths = {site.port: f"/api/v1/uploads/{only_upload(client, site)}/" for site in (pooled, plain)}
        process = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))

        def rate(site: Site) -> float:
            return process.submit(requests_a_second, site.port, site.token, paths[site.port]).result()

        rates = by_turns(ROUNDS, pooled=lambda: rate(pooled), plain=lambda: rate(plain))
    words = f"{statistics.median(rates['pooled']):.0f} to {statistics.median(rates['plain']):.0f} requests/s"
    ratio = median_ratio(rates["pooled"], rates["plain"])
    return report([Figure("GET of one file, pooled connections to a new one each", words, ratio)])


def only_upload(client: Client, site: Site) -> str:
    _, (upload_id,) = client.raw(site.port, site.token).result()
    return upload_id


def requests_a_second(port: int, token: str, path: str) -> float:
    asked = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        began = time.perf_counter()
        list(threads.map(lambda _: ask(port, asked), range(CONNECTIONS)))
        return CONNECTIONS * PER_CONNECTION / (time.perf_counter() - began)


def ask(port: int, request: bytes) -> None:
    """Send the request PER_CONNECTION times over one connection, each when the one before was answered."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(PER_CONNECTION):
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = answer.read()
            if answer.status != 200 or "checksum_sha256" not in json.loads(body):
                raise RuntimeError(f"{answer.status}: {body[:500]!r}")


if __name__ == "__main__":
    sys.exit(main())

"""A page of files, and what looks at all files, with 1,000 and with 1,000,000 of them on PostgreSQL.

A page is asked for through the whole of Django, without a socket. Both databases lie on one server, and requests to
them take turns. Who has few files has the oldest ones, which is the hardest place to find them in.
"""

import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from benchmarks import rows
from benchmarks.figures import Figure, median_ratio, report
from tests.servers import running_postgres

SMALL, LARGE = 1000, 1_000_000
ROUNDS = 40
AT_MOST = 2
DEEP_PAGE = 10_000
LISTS = (
    ("everything", "nearly all the files are one's own", ""),
    ("little", "one file of a thousand is one's own", ""),
    ("three", "three of a thousand, in three workspaces", ""),
    ("staff", "staff", ""),
    ("everything", "?status=failed", "?status=failed"),
    ("three", "?status=failed, in three workspaces", "?status=failed"),
    ("staff", "?status=deleted, staff", "?status=deleted"),
    ("everything", "?workspace=", "?workspace=everything"),
    ("staff", "?workspace= of few, staff", "?workspace=little"),
)


def main() -> int:
    with running_postgres() as url, tempfile.TemporaryDirectory() as var:
        rows.prepare(url, var)
        rows.make_database("small", SMALL)
        rows.make_database("large", LARGE)
        figures = [*map(page_figure, LISTS), deep_page_figure(), *map(work_figure, periodic_work().items())]
        rows.use_database("postgres")
        return report(figures)


def page_figure(case: tuple[str, str, str]) -> Figure:
    username, words, query = case
    path = f"/api/v1/uploads/{query}"
    seconds: dict[str, list[float]] = {"small": [], "large": []}
    queries = {}
    for _ in range(ROUNDS):
        for database, taken in seconds.items():
            rows.use_database(database)
            client = client_of(username)
            client.get(path)
            with counted_queries() as spent:
                began = time.perf_counter()
                answer = client.get(path)
                taken.append(time.perf_counter() - began)
            queries[database] = len(spent)
            if answer.status_code != 200 or len(answer.json()["results"]) != 50:
                raise RuntimeError(f"{path} of {username}: {answer.status_code} {answer.content[:500]!r}")
    if queries["small"] != queries["large"]:
        raise RuntimeError(f"{path} of {username} takes {queries} queries")
    ratio = median_ratio(seconds["large"], seconds["small"])
    took = f"{1000 * statistics.median(seconds['large']):.1f} ms, {queries['large']} queries"
    return Figure(f"page of 50 of 1,000,000 to one of 1,000: {words}", took, ratio, at_most=AT_MOST)


def deep_page_figure() -> Figure:
    """Page 10,000 is reached by the cursor that page 9,999 would give, which is made of its last row."""
    from audiotricks.keyset import cursor_at
    from uploads.models import AudioUpload

    rows.use_database("large")
    client = client_of("everything")
    ordering = ("-uploaded_at", "-id")
    own = AudioUpload.objects.listed().filter(workspace__slug="everything").order_by(*ordering)
    cursor = cursor_at(own[50 * (DEEP_PAGE - 1) - 1], ordering, backwards=False)
    deep = f"/api/v1/uploads/?{urlencode({'cursor': cursor})}"
    seconds: dict[str, list[float]] = {"/api/v1/uploads/": [], deep: []}
    for _ in range(ROUNDS):
        for path, taken in seconds.items():
            began = time.perf_counter()
            answer = client.get(path)
            taken.append(time.perf_counter() - began)
            if len(answer.json()["results"]) != 50:
                raise RuntimeError(answer.content[:500])
    ratio = median_ratio(seconds[deep], seconds["/api/v1/uploads/"])
    took = f"{1000 * statistics.median(seconds[deep]):.1f} ms"
    return Figure("page 10,000 by its cursor to page 1, of 1,000,000", took, ratio, at_most=AT_MOST)


def periodic_work() -> dict[str, Callable[[], object]]:
    """What beat runs, or staff ask for. Where tasks were lost, they go to a broker in memory."""
    from audiotricks.celery import app
    from uploads.upkeep import sweeps, usage

    app.conf.broker_url = "memory://"

    return {
        "recalculation of all quotas, 1,000,000 files": usage.recalculate,
        "/storage/stats, 1,000,000 files": usage.storage_stats,
        "sweep of stale work, 1,000,000 files": sweeps.sweep_stale_work,
        "sweep of stale reservations, 1,000,000 files": sweeps.sweep_stale_reservations,
        "purge of the trash, 1,000,000 files, none due": sweeps.purge_trash,
    }


def work_figure(case: tuple[str, Callable[[], object]]) -> Figure:
    words, work = case
    rows.use_database("large")
    work()
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return Figure(words, f"{1000 * statistics.median(seconds):.0f} ms")


def client_of(username: str) -> Any:
    """A client with a session of this user in the present database."""
    from django.contrib.auth import get_user_model
    from django.test import Client

    client = Client()
    client.force_login(get_user_model().objects.get(username=username))
    return client


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    from django.db import connection

    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(re.sub(r"\s+", " ", sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield statements


if __name__ == "__main__":
    sys.exit(main())

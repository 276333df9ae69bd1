"""PostgreSQL stops and comes back while requests are answered."""

import http.client
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
import pytest

from tests.running.programs import BIN, Program, environment, ran, started, token_of_new_user
from tests.servers import accepts_connections, free_port, restartable_postgres, wait_until

PASSWORD = "a long enough secret"
SESSION_OF_STAFF = (
    "from django.contrib.auth.models import User; from django.test import Client; "
    f"user = User.objects.create_superuser('boss', password='{PASSWORD}'); "
    "client = Client(); client.force_login(user); print(client.cookies['sessionid'].value)"
)


class Site:
    def __init__(self, program: Program, database: Any, token: str, session: str) -> None:
        self.program = program
        self.database = database
        self.port = int(program.env["PORT"])
        self.token = {"Authorization": f"Bearer {token}"}
        self.session = {"Cookie": f"sessionid={session}", "Accept": "text/html"}

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> http.client.HTTPResponse:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        client.request(method, path, body, headers)
        answer = client.getresponse()
        answer.content = answer.read()  # type: ignore[attr-defined]
        client.close()
        return answer

    def requests(self) -> list[tuple[str, str, bytes | None, dict[str, str]]]:
        """By token and by session, reading and writing, the API, pages and the administration."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        tried = urlencode({"username": "boss", "password": PASSWORD}).encode()
        return [
            ("GET", "/api/v1/uploads/", None, self.token),
            ("GET", "/api/v1/uploads/", None, {**self.session, "Accept": "*/*"}),
            ("POST", "/api/v1/workspaces/", b'{"name": "x"}', {**self.token, "Content-Type": "application/json"}),
            ("GET", "/", None, self.session),
            ("GET", "/files.csv", None, self.session),
            ("GET", "/upload/", None, self.session),
            ("GET", "/account/", None, self.session),
            ("GET", "/admin/", None, self.session),
            ("GET", "/admin/uploads/audioupload/", None, self.session),
            ("POST", "/api/v1/tokens/", tried, {**form, "Authorization": "Basic Ym9zczpib3Nz"}),
            ("GET", "/storage/stats", None, {**self.session, "Accept": "application/json"}),
        ]

    def statuses(self) -> list[int]:
        with ThreadPoolExecutor(11) as threads:
            return [answer.status for answer in threads.map(lambda asked: self.ask(*asked), self.requests())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("away")
    with restartable_postgres() as database:
        env = environment(
            VAR_DIR=str(directory / "var"), DATABASE_URL=database.get_uri(), PORT=str(free_port()), LOG_FORMAT="json"
        )
        migrated = ran([sys.executable, "manage.py", "migrate"], env)
        assert migrated.returncode == 0, migrated.stderr
        token = token_of_new_user(env)
        made = ran([sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", SESSION_OF_STAFF], env)
        assert made.returncode == 0, made.stderr
        command = [str(BIN / "gunicorn"), "-c", "gunicorn.conf.py", "audiotricks.wsgi"]
        with started(command, env, Path(directory) / "log") as program:
            wait_until(lambda: accepts_connections(int(env["PORT"])), what="the web server")
            yield Site(program, database, token, made.stdout.split()[-1])


def test_while_the_database_is_away_every_request_says_so_and_its_retry_works(site: Site, wav_bytes: bytes) -> None:
    """In the middle of an upload too; and it heals by itself."""
    before = site.statuses()
    assert {status for status in before if status >= 500} == set()
    key = {"Idempotency-Key": "once"}
    disposition = {"Content-Disposition": 'attachment; filename="a.wav"'}
    headers = {**site.token, **disposition, **key}
    content = wav_bytes[:40] + (2_000_000).to_bytes(4, "little") + bytes(2_000_000)

    begun = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    begun.putrequest("POST", "/api/v1/uploads/")
    for name, value in {**headers, "Content-Length": str(len(content))}.items():
        begun.putheader(name, value)
    begun.endheaders(content[:1_000_000])
    wait_until(lambda: has_begun(site), what="the upload to be on its way")
    site.database.stop()
    try:
        begun.send(content[1_000_000:])
        answer = begun.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (503, "temporarily_unavailable")
        begun.close()
        with ThreadPoolExecutor(11) as threads:
            for asked, answer in zip(
                site.requests(), threads.map(lambda asked: site.ask(*asked), site.requests()), strict=True
            ):
                assert answer.status == 503, asked
                assert int(answer.headers["Retry-After"]) > 0
                is_page = "text/html" in asked[3].get("Accept", "") and not asked[1].startswith("/api/")
                kind = "text/html" if is_page else "application/problem+json"
                assert answer.headers["Content-Type"].startswith(kind), asked
    finally:
        site.database.ensure_postgres_running()
    wait_until(lambda: site.statuses() == before or None, what="the same answers as before")
    wait_until(
        lambda: site.ask("POST", "/api/v1/uploads/", content, headers).status == 201,
        what="the upload, under the same key",
    )
    assert [line for line in site.program.output().splitlines() if '"status": 500' in line] == []


def has_begun(site: Site) -> bool:
    with psycopg.connect(site.database.get_uri()) as connection:
        return connection.execute("SELECT 1 FROM audio_uploads WHERE status = 'receiving'").fetchone() is not None

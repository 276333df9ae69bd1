"""``manage.py run``: what `make run` calls."""

import argparse
import json
import shlex
import signal
import socket
import sqlite3
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.prepared import migrated_sqlite
from tests.running.programs import MARK, Program, environment, ran, started
from tests.servers import free_port, wait_until

RUN = [sys.executable, "manage.py", "run"]
PATIENCE = 60


def curl(line: str) -> tuple[requests.Response, dict[str, str]]:
    """Do what the printed line says, without needing curl; the answer, and the headers for more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-F", action="append", default=[])
    parser.add_argument("url")
    given = parser.parse_args(shlex.split(line))
    assert given.program == "curl"
    headers = dict(header.split(": ", 1) for header in given.H)
    fields = [field.split("=", 1) for field in given.F]
    parts: list[tuple[str, Any]] = [
        (name, (Path(value[1:]).name, Path(value[1:]).read_bytes()) if value.startswith("@") else (None, value))
        for name, value in fields
    ]
    return requests.post(given.url, headers=headers, files=parts, timeout=30), headers


def status_of(port: int, upload: str, headers: dict[str, str]) -> str:
    answer = requests.get(f"http://127.0.0.1:{port}/api/v1/uploads/{upload}/", headers=headers, timeout=10)
    return str(answer.json()["status"])


def wait_until_ready(program: Program) -> str:
    """The printed curl line."""
    program.wait_for("AudioTricks is ready")
    line = program.wait_for("curl ").strip()
    program.wait_for("ctrl-C stops it")
    return line


def test_it_comes_up_takes_a_file_to_completed_stops_and_comes_up_again(tmp_path: Path) -> None:
    """Promise 59, of web, worker and beat."""
    port = free_port()
    env = environment(VAR_DIR=str(tmp_path / "var"), PORT=str(port))
    with started(RUN, env, tmp_path / "first") as program:
        line = wait_until_ready(program)
        answer, headers = curl(line)
        assert answer.status_code == 201, answer.text
        wait_until(
            lambda: status_of(port, answer.json()["id"], headers) == "completed", what="the file to be completed"
        )

        assert program.signal_and_wait(signal.SIGINT) == 0
        assert program.family() == []

    remembered = tmp_path / "var" / "demo-login.json"
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    login = json.loads(remembered.read_text())
    told = (tmp_path / "first").read_text()
    assert login["user_password"] in told and login["admin_password"] in told

    with started(RUN, env, tmp_path / "second") as program:
        program.wait_for("ctrl-C stops it")
        told = program.output()
        assert str(remembered) in told
        assert not [secret for secret in ("user_password", "admin_password", "token") if login[secret] in told]
        assert json.loads(remembered.read_text()) == login
        assert status_of(port, answer.json()["id"], headers) == "completed"

        assert_a_second_one_says_who_runs_here(program, env)
        for name in ("worker", "beat", "web"):
            assert_it_comes_back_alone(program, name, port)
        answer, headers = curl(line)
        wait_until(
            lambda: status_of(port, answer.json()["id"], headers) == "completed",
            seconds=PATIENCE,
            what="the second file to be completed",
        )
        assert program.signal_and_wait(signal.SIGINT) == 0
        assert program.family() == []


def assert_it_comes_back_alone(program: Program, name: str, port: int) -> None:
    """Promise 59. The others are the processes that they were."""
    before = program.children()
    before[name].kill()

    def back() -> bool:
        now = program.children()
        return set(now) == set(before) and now[name].pid != before[name].pid

    wait_until(back, what=f"{name} to be started again")
    now = program.children()
    assert {other: now[other].pid for other in now if other != name} == {
        other: before[other].pid for other in before if other != name
    }
    assert f"{name} ended (killed by SIGKILL); it is started again" in program.output()
    wait_until(lambda: health_status(port) == "ok", seconds=PATIENCE, what="all to be well")


def health_status(port: int) -> str:
    try:
        return str(requests.get(f"http://127.0.0.1:{port}/health", timeout=10).json()["status"])
    except requests.ConnectionError:
        return "away"


def assert_a_second_one_says_who_runs_here(program: Program, env: dict[str, str]) -> None:
    for given in ({}, {"PORT": str(free_port())}):
        second = ran(RUN, env | given)
        assert second.returncode != 0 and second.stdout == ""
        (line,) = second.stderr.strip().splitlines()
        assert f"already: process {program.process.pid}, at http://127.0.0.1:{env['PORT']}/." in line


def test_nothing_is_left_when_it_is_terminated_while_it_starts(tmp_path: Path) -> None:
    env = environment(VAR_DIR=migrated_sqlite(tmp_path / "var"), PORT=str(free_port()))
    with started(RUN, env, tmp_path / "log") as program:
        wait_until(lambda: len(program.children()) == 3, seconds=PATIENCE, what="web, worker and beat")
        assert program.signal_and_wait(signal.SIGTERM) == 0
        assert program.family() == []


def test_of_several_that_start_at_the_same_moment_one_runs_beside_a_migrate(tmp_path: Path) -> None:
    env = environment(VAR_DIR=str(tmp_path / "var"))
    with ExitStack() as stack:
        runs = [
            stack.enter_context(started(RUN, env | {"PORT": str(free_port()), MARK: str(index)}, tmp_path / str(index)))
            for index in range(3)
        ]
        migrate = stack.enter_context(started([*RUN[:-1], "migrate"], env, tmp_path / "migrate"))
        assert migrate.process.wait(timeout=PATIENCE) == 0, migrate.output()
        wait_until(lambda: any("ctrl-C" in each.output() for each in runs), seconds=PATIENCE, what="one that runs")
        (alone,) = [each for each in runs if each.process.poll() is None]
        for other in runs:
            if other is not alone:
                assert other.process.returncode == 1
                assert len(other.output().strip().splitlines()) == 1, other.output()
                assert f"process {alone.process.pid}" in other.output()
        assert alone.signal_and_wait(signal.SIGTERM) == 0
    assert len((tmp_path / "var" / "secret_key").read_text()) > 50


def test_a_secret_key_that_a_power_cut_emptied_is_made_again_and_all_agree_on_it(tmp_path: Path) -> None:
    key = tmp_path / "secret_key"
    key.touch()
    code = "from audiotricks.settings import SECRET_KEY; print(SECRET_KEY)"
    env = environment(VAR_DIR=str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: ran([sys.executable, "-c", code], env), range(4)))
    assert [run.stderr for run in runs] == [""] * 4
    assert {run.stdout.strip() for run in runs} == {key.read_text()}
    assert len(key.read_text()) > 50


def test_without_demo_accounts_it_says_how_the_first_one_is_made(tmp_path: Path) -> None:
    env = environment(VAR_DIR=migrated_sqlite(tmp_path / "var"), PORT=str(free_port()), DEMO_ACCOUNTS="false")
    with started(RUN, env, tmp_path / "log") as program:
        program.wait_for("make the first one with `manage.py createsuperuser`")
        assert not (tmp_path / "var" / "demo-login.json").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"TRASH_DAYS": "soon"}, "TRASH_DAYS='soon' is not a whole number."),
        ({"LOG_FORMAT": "xml"}, "LOG_FORMAT='xml' is not one of: json, text."),
        ({"PORT": "99999"}, "PORT=99999 must be between 1 and 65535."),
        ({"DATABASE_URL": "mysql://127.0.0.1/x"}, "DATABASE_URL must begin with postgresql:// or sqlite://."),
        ({"VAR_DIR": "{file}/var"}, "{file}/var cannot be made: Not a directory."),
        ({"AUDIO_STORAGE_PATH": "{file}/audio"}, "AUDIO_STORAGE_PATH: {file} is not a folder."),
        ({"DEBUG": "true", "ALLOWED_HOSTS": "audio.example.com"}, "DEBUG is on while ALLOWED_HOSTS names"),
        ({"DATABASE_URL": "sqlite:///{file}"}, "The database cannot be used: file is not a database"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:{free}/x"}, "The database cannot be used:"),
        ({"PORT": "{taken}"}, "Port {taken} on 127.0.0.1 cannot be used: Address already in use."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_work_is_said_in_one_line(tmp_path: Path, wrong: dict[str, str], words: str) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder, and not a database either" * 10)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        places = {"file": file, "taken": taken.getsockname()[1], "free": free_port()}
        given = {name: value.format(**places) for name, value in wrong.items()}
        ended = ran(RUN, environment(**{"VAR_DIR": str(tmp_path / "var"), "PORT": str(free_port()), **given}))
    assert ended.returncode != 0
    assert ended.stdout == ""
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert words.format(**places) in lines[0]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot signal the death of a parent")
def test_killed_outright_it_leaves_no_process_and_a_whole_database(tmp_path: Path) -> None:
    env = environment(VAR_DIR=migrated_sqlite(tmp_path), PORT=str(free_port()))
    with started(RUN, env, tmp_path / "log") as program:
        wait_until_ready(program)
        program.signal_and_wait(signal.SIGKILL)
        wait_until(lambda: program.family() == [], what="web, worker and beat to end")
    with sqlite3.connect(tmp_path / "audiotricks.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

"""``manage.py run``: what `make run` calls."""

import argparse
import json
import shlex
import signal
import socket
import sqlite3
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.running.programs import Program, environment, ran, started
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
    first_login = remembered.read_text()
    with started(RUN, env, tmp_path / "second") as program:
        assert wait_until_ready(program) == line
        assert remembered.read_text() == first_login
        login = json.loads(first_login)
        assert login["user_password"] in program.output()
        assert login["admin_password"] in program.output()
        assert status_of(port, answer.json()["id"], headers) == "completed"

        # Killed outright, the worker cannot stop its own children.
        program.children()["worker"].kill()
        assert program.process.wait(timeout=20) != 0
        assert program.family() == []
        assert "worker ended by itself" in program.output()


def test_nothing_is_left_when_it_is_terminated_while_it_starts(tmp_path: Path) -> None:
    with started(RUN, environment(VAR_DIR=str(tmp_path / "var"), PORT=str(free_port())), tmp_path / "log") as program:
        wait_until(lambda: len(program.children()) == 3, seconds=PATIENCE, what="web, worker and beat")
        assert program.signal_and_wait(signal.SIGTERM) == 0
        assert program.family() == []


def test_an_account_that_was_there_before_keeps_its_password(tmp_path: Path) -> None:
    env = environment(VAR_DIR=str(tmp_path), PORT=str(free_port()))
    code = (
        "import pathlib; from django.core.management import call_command; "
        "from django.contrib.auth.models import User; from quotas.demo import prepare_demo; "
        "call_command('migrate', verbosity=0); "
        "User.objects.create_user('admin', password='chosen by hand'); "
        f"login, _ = prepare_demo(pathlib.Path({str(tmp_path)!r})); "
        "print(login.admin_password == '', User.objects.get(username='admin').check_password('chosen by hand'))"
    )
    made = ran([sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", code], env)
    assert made.stdout.splitlines()[-1:] == ["True True"], made.stderr


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
    with started(RUN, environment(VAR_DIR=str(tmp_path), PORT=str(free_port())), tmp_path / "log") as program:
        wait_until_ready(program)
        program.signal_and_wait(signal.SIGKILL)
        wait_until(lambda: program.family() == [], what="web, worker and beat to end")
    with sqlite3.connect(tmp_path / "audiotricks.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)

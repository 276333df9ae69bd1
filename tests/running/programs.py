"""Starting our programs as an operator does, and seeing to it that none is left."""

import ast
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

from tests.servers import wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
BIN = Path(sys.executable).parent
MARK = "AUDIOTRICKS_TEST_RUN"
#: Hides packages that only developers have, which others import where they are there: a quarter of a second a start.
ABSENT = Path(__file__).parent / "absent"


@cache
def names_in_settings() -> set[str]:
    """The variables that settings.py reads through the helpers of audiotricks.env."""
    tree = ast.parse((ROOT / "audiotricks" / "settings.py").read_text())
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.islower()
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def environment(**given: str) -> dict[str, str]:
    """This process's environment without any setting of ours, then what is given, and a mark to find descendants by."""
    kept = {name: value for name, value in os.environ.items() if name not in names_in_settings()}
    path = f"{BIN}{os.pathsep}{kept['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ABSENT), MARK: secrets.token_hex(8), **given}


class Program:
    """A program that runs in the source folder, with its output in a file."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.env = env
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, words: str, *, seconds: float = 60) -> str:
        """The line of output that holds the words."""

        def line() -> str | None:
            found = next((line for line in self.output().splitlines() if words in line), None)
            if not found and self.process.poll() is not None:
                raise AssertionError(f"it ended before {words!r}:\n{self.output()}")
            return found

        return str(wait_until(line, seconds=seconds, what=f"{words!r} in {self.log}"))

    def family(self) -> list[psutil.Process]:
        """Every process with our mark in its environment, orphans too; zombies are not counted."""
        return [
            process
            for process in psutil.process_iter()
            if environment_of(process).get(MARK) == self.env[MARK] and process.status() != psutil.STATUS_ZOMBIE
        ]

    def children(self) -> dict[str, psutil.Process]:
        """Web, worker and beat by name, of ``manage.py run``."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                words = child.cmdline()
                # One that was just forked still has the words of its parent.
                for name, word in {"web": "gunicorn", "worker": "worker", "beat": "beat"}.items():
                    if word in words:
                        found[name] = child
        return found

    def signal_and_wait(self, number: signal.Signals, *, seconds: float = 20) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=seconds)


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return {}


@contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[Program]:
    """The program; whatever is left of it when the test ends, failed or not, is killed by its pid."""
    program = Program(command, env, log)
    try:
        yield program
    finally:
        for process in program.family():
            process.kill()
        program.process.wait(timeout=20)


def ran(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)


def token_of_new_user(env: dict[str, str]) -> str:
    """An API token of a user who has just been made in the database that the environment names."""
    code = (
        "import json; from datetime import timedelta; from django.contrib.auth.models import User; "
        "from accounts.tokens import create_token; "
        "user = User.objects.create_user('somebody'); "
        "print(json.dumps(create_token(user, name='test', expires_in=timedelta(days=1))[1]))"
    )
    made = ran([sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", code], env)
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout.splitlines()[-1]))

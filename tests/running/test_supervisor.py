"""Together or not at all, shown with small programs instead of the real ones."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.running.programs import Program, environment, started
from tests.servers import wait_until

SUPERVISE = """
import json, os, sys
from audiotricks.supervisor import Supervisor
commands = json.loads(sys.argv[1])
print("ended:", Supervisor(commands, environment=os.environ, grace_seconds=1).run(lambda: None) or "nothing")
"""
# Each says that it is there once it can be stopped.
OBEDIENT = ["sh", "-c", "echo up; exec sleep 600"]
STUBBORN = ["sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 600; done"]
WITH_ORPHANS = ["sh", "-c", "sleep 601 & sleep 602 & echo up; exec sleep 603"]


@contextmanager
def supervised(tmp_path: Path, *commands: list[str]) -> Iterator[Program]:
    named = json.dumps({f"program{index}": command for index, command in enumerate(commands)})
    with started([sys.executable, "-c", SUPERVISE, named], environment(), tmp_path / "log") as program:
        wait_until(lambda: program.output().count("up") == len(commands), what="the programs to be there")
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_them(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path, OBEDIENT, OBEDIENT, WITH_ORPHANS) as program:
        assert program.signal_and_wait(number) == 0
        assert program.family() == []
        assert "ended: nothing" in program.output()


def test_one_that_ends_takes_the_others_along_and_is_named(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, ["sh", "-c", "echo up; exit 0"]) as program:
        program.process.wait(timeout=20)
        assert program.family() == []
        assert "ended: program1" in program.output()


def test_one_that_is_killed_takes_the_others_and_its_own_children_along(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, WITH_ORPHANS) as program:
        victim = next(process for process in program.family() if process.cmdline() == ["sleep", "603"])
        victim.kill()
        program.process.wait(timeout=20)
        assert program.family() == []
        assert "ended: program1" in program.output()


def test_one_that_ignores_the_signal_is_killed_in_the_end(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, STUBBORN) as program:
        program.signal_and_wait(signal.SIGTERM)
        assert program.family() == []


def test_a_signal_reaches_the_program_and_not_its_children(tmp_path: Path) -> None:
    """A Celery worker lets its children finish; they die at once of a SIGTERM of their own."""
    child = "trap 'echo child was stopped; exit' TERM; echo up; while :; do sleep 0.05; done"
    parent = ["bash", "-c", f"trap 'echo parent was stopped; exit' TERM; ( {child} ) & wait"]
    with supervised(tmp_path, parent) as program:
        program.signal_and_wait(signal.SIGTERM)
        assert "parent was stopped" in program.output()
        assert "child was stopped" not in program.output()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot signal the death of a parent")
def test_programs_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, OBEDIENT) as program:
        program.signal_and_wait(signal.SIGKILL)
        wait_until(lambda: program.family() == [], what="the programs to end")

"""Programs that are kept running together, shown with small ones instead of the real ones."""

import json
import re
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
from audiotricks.running.supervisor import Supervisor
commands = json.loads(sys.argv[1])
report = lambda line: print(line, flush=True)
pauses = [0.1, 0.2, 0.3]
supervisor = Supervisor(commands, environment=os.environ, report=report, grace_seconds=1, restart_pauses=pauses)
print("given up:", supervisor.run(lambda: None) or "nothing")
"""
# Each says that it is there once it can be stopped.
OBEDIENT = ["sh", "-c", "echo up; exec sleep 600"]
STUBBORN = ["sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 600; done"]
WITH_ORPHANS = ["sh", "-c", "sleep 601 & sleep 602 & echo up; exec sleep 603"]


@contextmanager
def supervised(tmp_path: Path, *commands: list[str]) -> Iterator[Program]:
    named = json.dumps({f"program{index}": command for index, command in enumerate(commands)})
    with started([sys.executable, "-c", SUPERVISE, named], environment(), tmp_path / "log") as program:
        wait_until(lambda: program.output().count("up\n") >= len(commands), what="the programs to be there")
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_of_them(tmp_path: Path, number: signal.Signals) -> None:
    with supervised(tmp_path, OBEDIENT, OBEDIENT, WITH_ORPHANS) as program:
        assert program.signal_and_wait(number) == 0
        assert program.family() == []
        assert "given up: nothing" in program.output()


def test_one_that_ends_is_started_again_and_the_others_go_on(tmp_path: Path) -> None:
    """Promise 59. Its children go with it."""
    with supervised(tmp_path, OBEDIENT, WITH_ORPHANS) as program:
        before = {" ".join(process.cmdline()): process for process in program.family()}
        before["sleep 603"].kill()
        wait_until(lambda: program.output().count("up\n") == 3, what="the program to be there again")
        now = {" ".join(process.cmdline()): process.pid for process in program.family()}
        assert {name for name in before if before[name].pid != now.get(name)} == {"sleep 601", "sleep 602", "sleep 603"}
        assert "program1 ended (killed by SIGKILL); it is started again in 0.1 s." in program.output()
        assert program.signal_and_wait(signal.SIGTERM) == 0
        assert program.family() == []


def test_one_that_ends_again_and_again_is_given_up_and_named(tmp_path: Path) -> None:
    """Promise 59 has an end."""
    with supervised(tmp_path, OBEDIENT, ["sh", "-c", "echo up; exit 3"]) as program:
        program.process.wait(timeout=20)
        assert program.family() == []
        told = [line for line in program.output().splitlines() if line != "up"]
        assert told == [
            *(f"program1 ended (exit status 3); it is started again in {pause} s." for pause in ("0.1", "0.2", "0.3")),
            "given up: program1",
        ]


def test_one_that_cannot_be_started_is_tried_again_like_one_that_ended(tmp_path: Path) -> None:
    """Promise 59. A system without room for another process does not end those that run."""
    named = json.dumps({"there": OBEDIENT, "missing": [str(tmp_path / "missing")]})
    with started([sys.executable, "-c", SUPERVISE, named], environment(), tmp_path / "log") as program:
        program.process.wait(timeout=20)
        told = program.output()
    for pause in ("0.1", "0.2", "0.3"):
        assert re.search(rf"^missing could not start \(.*\); it is started again in {pause} s\.$", told, re.MULTILINE)
    assert told.endswith("given up: missing\n")


def test_a_signal_in_the_pause_before_a_new_start_ends_all(tmp_path: Path) -> None:
    with supervised(tmp_path, OBEDIENT, ["sh", "-c", "echo up; exit 3"]) as program:
        program.wait_for("in 0.3 s")
        program.signal_and_wait(signal.SIGTERM)
        assert program.family() == []


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

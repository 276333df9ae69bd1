"""Runs several programs as one: start, restarts, stop."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_SECONDS = 0.1
#: The pauses before a program is started again, for each end in a row; after one more it is given up.
RESTART_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
#: A program that ran for so long works: its next end is the first one in a row.
STEADY_SECONDS = 60.0
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass
class Child:
    """Counts its quick ends in a row."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    ends: int = 0


class Supervisor:
    """Runs ``commands`` (name to arguments) until SIGINT, SIGTERM or SIGHUP, or until one is given up.

    A program that ends is restarted after the next of ``restart_pauses``, then given up; a run of ``steady_seconds``
    resets the count. ``report`` gets a line about each end.

    At the end programs get SIGTERM (alone, since a Celery worker lets its children finish), and after ``grace_seconds``
    their process groups SIGKILL. On Linux they also get SIGTERM when the supervisor is killed.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        environment: Mapping[str, str],
        report: Callable[[str], None],
        grace_seconds: float = 10,
        restart_pauses: Sequence[float] = RESTART_PAUSES,
        steady_seconds: float = STEADY_SECONDS,
    ) -> None:
        self.children = [Child(name, command) for name, command in commands.items()]
        self.environment = environment
        self.report = report
        self.grace_seconds = grace_seconds
        self.restart_pauses = restart_pauses
        self.steady_seconds = steady_seconds
        self.signalled = False

    def run(self, each_round: Callable[[], None]) -> str:
        """``each_round`` is called ten times a second. Return the name of the program that was given up, or ''."""
        handlers = {
            number: signal.signal(number, self._note_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            while not self.signalled:
                for child in self.children:
                    if not self._keep_running(child):
                        return child.name
                each_round()
                time.sleep(POLL_SECONDS)
            return ""
        finally:
            self._stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def _keep_running(self, child: Child) -> bool:
        """False when the program is given up."""
        now = time.monotonic()
        if child.process is None:
            if now < child.start_at:
                return True
            child.started_at = now
            try:
                child.process = self._start(child.command)
            except (OSError, subprocess.SubprocessError) as error:
                # The system may be short of processes just now.
                return self._note_end(child, f"could not start ({error})")
            return True
        if (status := child.process.poll()) is None:
            return True
        kill_group(child.process.pid)
        child.process = None
        return self._note_end(child, f"ended ({how_it_ended(status)})")

    def _note_end(self, child: Child, what: str) -> bool:
        """False when the program is given up."""
        now = time.monotonic()
        child.ends = 1 if now - child.started_at >= self.steady_seconds else child.ends + 1
        if child.ends > len(self.restart_pauses):
            return False
        pause = self.restart_pauses[child.ends - 1]
        child.start_at = now + pause
        self.report(f"{child.name} {what}; it is started again in {pause:g} s.")
        return True

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """In its own session, so that ctrl-C reaches only the supervisor."""
        return subprocess.Popen(  # noqa: S603 - our own programs
            command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()) if LIBC else None,
        )

    def _stop(self) -> None:
        processes = [child.process for child in self.children if child.process]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + self.grace_seconds
        while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        for process in processes:
            kill_group(process.pid)
            process.wait()


def how_it_ended(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


def end_with_parent(parent: int) -> None:
    """Request SIGTERM when the parent dies; runs between fork and exec. Linux only."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def kill_group(leader: int) -> None:
    """ProcessLookupError: the group is gone. PermissionError: zombies on macOS."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)

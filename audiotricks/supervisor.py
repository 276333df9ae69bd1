"""Several programs as one: they start together, and when one ends or a signal comes, all end."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_SECONDS = 0.1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Supervisor:
    """Runs ``commands`` (name to arguments) until one of them ends, or until SIGINT, SIGTERM or SIGHUP.

    Then each gets SIGTERM, and after ``grace_seconds`` whatever is left of its process group gets SIGKILL. SIGTERM
    goes to the program alone and not to its group: a Celery worker must be able to let its children finish. On Linux
    the programs get SIGTERM too when the supervisor itself is killed.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], *, environment: Mapping[str, str], grace_seconds: float = 10
    ) -> None:
        self.commands = commands
        self.environment = environment
        self.grace_seconds = grace_seconds
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.signalled = False

    def run(self, each_round: Callable[[], None]) -> str:
        """Run until the end, calling ``each_round`` ten times a second; the name of what ended by itself, or ''."""
        handlers = {
            number: signal.signal(number, self._note_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            for name, command in self.commands.items():
                self.processes[name] = self._start(command)
            ended = ""
            while not self.signalled and not (ended := self._ended()):
                each_round()
                time.sleep(POLL_SECONDS)
            return ended
        finally:
            self._stop()
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """A session of its own keeps the terminal's ctrl-C from reaching the program before the supervisor."""
        return subprocess.Popen(  # noqa: S603 - our own programs
            command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=partial(end_with_parent, os.getpid()) if LIBC else None,
        )

    def _ended(self) -> str:
        return next((name for name, process in self.processes.items() if process.poll() is not None), "")

    def _stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + self.grace_seconds
        while any(process.poll() is None for process in self.processes.values()):
            if time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        for process in self.processes.values():
            kill_group(process.pid)
            process.wait()


def end_with_parent(parent: int) -> None:
    """Ask Linux for a SIGTERM when the parent dies; runs in the child between fork and exec."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def kill_group(leader: int) -> None:
    """End what a program left behind: a worker that was killed leaves its children.

    A group that is gone is a ProcessLookupError; one of zombies only is a PermissionError on macOS.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)

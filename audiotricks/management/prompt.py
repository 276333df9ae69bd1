"""Errors, progress and interruption of commands."""

import logging
import signal
import sys
import time
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.utils.translation import gettext as _
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

#: The exit status of argparse.
WRONG_USAGE = 2
#: The exit status of shells: 128 plus the signal's number.
INTERRUPTED = 130
#: Between two lines of progress without a terminal.
SECONDS_BETWEEN_LINES = 10


class ProseCommand(BaseCommand):
    """Keeps line breaks of ``help`` and ``epilog``."""

    epilog = ""

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        return super().create_parser(
            prog_name, subcommand, epilog=self.epilog, formatter_class=RawDescriptionHelpFormatter, **options
        )


def usage_error(message: str) -> CommandError:
    return CommandError(message, returncode=WRONG_USAGE)


def user_named(username: str) -> User:
    """Raises CommandError."""
    user = User.objects.filter(username=username).first()
    if user is None:
        raise usage_error(_("There is no user called %(name)s.") % {"name": username})
    return user


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop``; a second one ends the process."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        stop()

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def only_warnings_logged(*, verbosity: int) -> Iterator[None]:
    """Below verbosity 2."""
    root = logging.getLogger()
    before = root.level
    if verbosity < 2:
        root.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        root.setLevel(before)


class Progress:
    """A bar on a terminal; else a line every SECONDS_BETWEEN_LINES.

    ``unit`` is ``B`` or a plural noun. ``line`` has placeholders ``done`` and ``total``; without it there are no lines.
    """

    def __init__(self, stream: OutputWrapper, *, total: int | None, unit: str, line: str = "") -> None:
        self._stream = stream
        self._line = line
        self._total = total
        self._done = 0
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self._bar: Any = None
        if stream.isatty():
            unit_scale = unit == "B"
            self._bar = tqdm(
                total=total, unit="B" if unit_scale else f" {unit}", unit_scale=unit_scale, unit_divisor=1024
            )

    def __enter__(self) -> "Progress":
        self._logs = logging_redirect_tqdm() if self._bar is not None else nullcontext()
        self._logs.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._logs.__exit__(*error)
        if self._bar is not None:
            self._bar.close()

    @property
    def is_bar(self) -> bool:
        return self._bar is not None

    def advance(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._line and time.monotonic() > self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            self._stream.write(self._line % {"done": self._done, "total": self._total})

    def aside(self) -> AbstractContextManager[Any]:
        """For lines beside the bar."""
        return nullcontext() if self._bar is None else tqdm.external_write_mode(file=sys.stderr)

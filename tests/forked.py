"""Processes of ours whose death or exit code a test is about, without the two seconds that a start of Django takes.

One process imports everything once and connects to nothing. What it is asked to run it runs in a child of its own.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from tests.running.programs import ROOT

#: What starts take most of their time for.
IMPORTED = ("tests.uploads.dying", "objectstore.s3", "objectstore.gcs", "objectstore.azure")


class Prepared:
    """Runs one function at a time; ``folder`` is for what it prints."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._requests: IO[bytes] = process.stdin
        self._answers: IO[bytes] = process.stdout
        self._folder = folder

    def run(self, function: Callable[..., object], *args: object) -> subprocess.CompletedProcess[str]:
        """Calls the function, of a module's top level, with the settings of the present test."""
        out, err = self._folder / "out", self._folder / "err"
        name = f"{function.__module__}:{function.__qualname__}"
        pickle.dump((name, args, overridden_settings(), str(out), str(err)), self._requests)
        self._requests.flush()
        code = pickle.load(self._answers)
        return subprocess.CompletedProcess([name, *map(str, args)], code, out.read_text(), err.read_text())

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``manage.py`` with these arguments."""
        return self.run(manage, *arguments)


def overridden_settings() -> dict[str, Any]:
    """What tests and fixtures changed, the latest change of each setting."""
    from django.conf import UserSettingsHolder, settings

    found: dict[str, Any] = {}
    layer = settings._wrapped
    while isinstance(layer, UserSettingsHolder):
        for name, value in vars(layer).items():
            if name.isupper():
                found.setdefault(name, value)
        layer = layer.default_settings
    return found


def manage(*arguments: str) -> None:
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *arguments])


@contextmanager
def prepared_process(env: dict[str, str], folder: Path) -> Iterator[Prepared]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.forked"], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Prepared(process, folder)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=20)


def serve() -> None:
    import django

    django.setup()
    for name in IMPORTED:
        import_module(name)
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if (pid := os.fork()) == 0:
            run_in_child(*request)
        _, status = os.waitpid(pid, 0)
        pickle.dump(os.waitstatus_to_exitcode(status), sys.stdout.buffer)
        sys.stdout.buffer.flush()


def run_in_child(name: str, args: tuple[Any, ...], settings: dict[str, Any], out: str, err: str) -> None:
    """Does not return."""
    from django.test import override_settings

    code = 1
    try:
        for descriptor, path in ((0, os.devnull), (1, out), (2, err)):
            flags = os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(path, flags), descriptor)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        override_settings(**settings).enable()
        module, function = name.split(":")
        getattr(import_module(module), function)(*args)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()

"""What code that took over a decoder could still do: next to nothing."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from media import confinement, sandbox
from media.formats import audio_format
from tests import audio


def attempt(program: str, *, calls_only: bool = False) -> str:
    """What a program of Python prints that runs where a decoder does, with its file open and nothing given up later.

    ``calls_only``: without Landlock and as the same user, as on kernels that have only the filter.
    """
    confine = "confinement.filter_calls(ctypes.CDLL(None))" if calls_only else "confinement.confine()"
    no_new = "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)"
    whole = f"""
import ctypes, os, resource, signal, socket, subprocess, sys, threading
from media import confinement
{no_new}
{confine}
""" + textwrap.dedent(program)
    command = [sys.executable, "-E", "-B", "-c", whole]
    done = subprocess.run(command, cwd=sandbox.PROJECT, env={}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def refused(*statements: str, calls_only: bool = False) -> list[str]:
    """The errors that the statements end with."""
    program = "\n".join(
        f"""
try:
    {statement}
    print("done")
except OSError as error:
    print(error.strerror)
"""
        for statement in statements
    )
    return attempt(program, calls_only=calls_only).splitlines()


needs_seccomp = pytest.mark.skipif("seccomp" not in confinement.available(), reason="the kernel has no seccomp filter")
needs_landlock = pytest.mark.skipif("Landlock" not in confinement.available(), reason="the kernel has no Landlock")


@needs_seccomp
def test_no_socket_no_program_no_process_and_no_other_process() -> None:
    """Promise 45. By the filter alone, as any user."""
    parent = f"int({os.getpid()})"
    assert (
        refused(
            "socket.socket()",
            "socket.socketpair()",
            "os.execv('/bin/true', ['true'])",
            "os.fork()",
            "subprocess.run(['/bin/true'])",
            f"os.kill({parent}, signal.SIGTERM)",
            f"resource.prlimit({parent}, resource.RLIMIT_CPU)",
            "os.setuid(0)",
            calls_only=True,
        )
        == ["Operation not permitted"] * 8
    )


@needs_seccomp
def test_no_memory_of_another_process() -> None:
    """Promise 45. The worker's own memory holds every secret."""
    program = f"""
    libc = ctypes.CDLL(None, use_errno=True)
    for call in (lambda: libc.ptrace(16, {os.getpid()}, None, None), lambda: libc.process_vm_readv({os.getpid()}, 0, 0, 0, 0, 0)):
        print(call(), os.strerror(ctypes.get_errno()))
    """  # noqa: E501
    assert attempt(program, calls_only=True).splitlines() == ["-1 Operation not permitted"] * 2


@needs_seccomp
def test_no_file_is_written_made_renamed_or_removed(tmp_path: Path) -> None:
    """Promise 45."""
    file = tmp_path / "file"
    file.write_text("ours")
    tmp_path.chmod(0o777)
    file.chmod(0o666)
    assert (
        refused(
            f"open({str(file)!r}, 'w')",
            f"open({str(file)!r}, 'r+')",
            f"open({str(tmp_path / 'new')!r}, 'x')",
            f"os.rename({str(file)!r}, {str(tmp_path / 'new')!r})",
            f"os.unlink({str(file)!r})",
            f"os.mkdir({str(tmp_path / 'new')!r})",
            f"os.symlink('x', {str(tmp_path / 'new')!r})",
            f"os.chmod({str(file)!r}, 0o777)",
            f"os.truncate({str(file)!r}, 0)",
            calls_only=True,
        )
        == ["Operation not permitted"] * 9
    )
    assert file.read_text() == "ours"


@needs_landlock
def test_no_file_is_read(tmp_path: Path) -> None:
    """Promise 45. Not the secret key, not the database, not another recording."""
    secret = tmp_path / "secret_key"
    secret.write_text("secret")
    tmp_path.chmod(0o755)
    names = [secret, Path("/etc/passwd"), Path("/proc/self/environ"), sandbox.PROJECT / "manage.py", Path(os.__file__)]
    assert refused(*[f"open({str(name)!r})" for name in names]) == ["Permission denied"] * len(names)


@needs_seccomp
def test_threads_signals_to_itself_and_an_abort_still_work() -> None:
    """A decoder may have threads, and its crash is told by the signal that ended it."""
    program = """
    done = []
    thread = threading.Thread(target=lambda: done.append(1))
    thread.start()
    thread.join()
    signal.signal(signal.SIGUSR1, lambda *_: done.append(2))
    os.kill(os.getpid(), signal.SIGUSR1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    print(done)
    """
    assert attempt(program) == "[1, 2]"
    command = "import os; from media import confinement; confinement.confine(); os.abort()"
    done = subprocess.run([sys.executable, "-c", command], cwd=sandbox.PROJECT, env={}, capture_output=True)
    assert done.returncode == -signal.SIGABRT


def test_what_the_kernel_has_is_used() -> None:
    program = "import sys; from media import confinement; sys.stdout.write(' '.join(confinement.confine()))"
    command = [sys.executable, "-E", "-B", "-c", program]
    held = subprocess.run(command, cwd=sandbox.PROJECT, env={}, capture_output=True, text=True, check=True).stdout
    assert set(confinement.available()) <= set(held.split())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_a_decoder_of_root_is_nobody(tmp_path: Path) -> None:
    assert attempt("print(os.getresuid(), os.getgroups())") == "(65534, 65534, 65534) []"


@pytest.mark.parametrize("extension", sorted(set(audio.EXTENSIONS) - {"oga", "aif"}))
def test_every_format_is_still_decoded_and_described(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"audio.{extension}"
    path.write_bytes(audio.audio_bytes(extension))
    demuxer = audio_format(path.name).demuxer
    found = sandbox.sandbox.run("examine", path, demuxer=demuxer).take(is_last=False)
    assert found["decoded"] > 0
    assert found["sample_rate"] > 0

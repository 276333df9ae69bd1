"""The process that decodes: what it may use, what it knows, and how it ends."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from media import sandbox
from media.errors import ImageTooLarge, MediaCrashed, MediaError, MediaMemoryLimit, MediaTimeLimit, UndecodableAudio
from tests import audio

MIB = 1024**2


def children() -> set[int]:
    """The processes that this one has started and that have not been waited for."""
    tasks = Path("/proc/self/task")
    return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        os.sched_yield()
    return found


@contextmanager
def waiting_process(tmp_path: Path, **options: Any) -> Iterator[tuple[int, Future[Any]]]:
    """A decoding process that has set its limits and waits for ever: its file is a pipe that nobody writes."""
    pipe = tmp_path / "audio.mp3"
    os.mkfifo(pipe)
    before = children()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(sandbox.run, "decode", pipe, demuxer="mp3", **options)
        pid = wait_for(lambda: children() - before, "the process").pop()
        wait_for(lambda: limits_of(pid)["Max address space"][0] != "unlimited", "the last of its limits")
        yield pid, future


def limits_of(pid: int) -> dict[str, tuple[str, str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def test_the_limits_are_set_in_the_process(tmp_path: Path) -> None:
    """Promise 45. Memory, processor, file size, open files and core dumps are bounded, and hard."""
    with waiting_process(tmp_path, memory_bytes=900 * MIB, seconds=31) as (pid, _):
        limits = limits_of(pid)
        os.kill(pid, signal.SIGKILL)
    assert limits["Max address space"] == (str(900 * MIB), str(900 * MIB))
    assert limits["Max cpu time"] == ("31", "31")
    assert limits["Max file size"] == ("0", "0")
    assert limits["Max core file size"] == ("0", "0")
    assert limits["Max open files"] == ("64", "64")


def test_the_process_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 45. Neither the environment nor Django's settings are there to be read."""
    monkeypatch.setenv("SECRET_KEY", "not-for-decoders")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:not-for-decoders@127.0.0.1/x")
    with waiting_process(tmp_path) as (pid, _):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        session = os.getsid(pid)
        os.kill(pid, signal.SIGKILL)
    assert {entry.split(b"=")[0] for entry in environment.split(b"\0") if entry} == {b"LC_ALL", b"PATH"}
    assert session == pid


@pytest.mark.parametrize("module", ["decode", "facts", "artwork", "image", "tags", "truncation", "limits", "__main__"])
def test_what_decodes_does_not_import_django(module: str) -> None:
    """Promise 45. Without Django there are no settings, no database and no broker to reach."""
    program = f"import sys, media.{module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-E", "-c", program]
    done = subprocess.run(command, cwd=sandbox.PROJECT, env={}, capture_output=True, text=True, check=True)
    assert not {"django", "celery", "audiotricks", "quotas", "structlog"} & set(done.stdout.split())


def test_nothing_can_be_opened_once_the_file_is() -> None:
    """Promise 45. No socket, no second file: a playlist or a reference inside the audio cannot be followed."""
    program = """
import os, socket
from media.limits import forbid_new_files
forbid_new_files()
for attempt in (socket.socket, lambda: open("/etc/hostname"), lambda: os.pipe()):
    try:
        attempt()
    except OSError as error:
        print(error.errno)
"""
    command = [sys.executable, "-E", "-c", program]
    done = subprocess.run(command, cwd=sandbox.PROJECT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EMFILE)] * 3


@pytest.mark.parametrize("demuxer", ["mp3", "aac", "wav", "mov", "matroska", "hls", "concat"])
def test_a_playlist_is_never_followed(demuxer: str, tmp_path: Path) -> None:
    """Promise 45. Not over the network and not to another file, even if FFmpeg were told that it is a playlist."""
    target = tmp_path / "target.mp3"
    target.write_bytes(audio.make_mp3())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/target.mp3"
        playlists = {
            "hls-http": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
            "hls-file": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{target}\n#EXT-X-ENDLIST\n",
            "concat-file": f"ffconcat version 1.0\nfile {target}\n",
            "concat-protocol": f"concat:{target}|{target}\n",
        }
        for name, playlist in playlists.items():
            path = tmp_path / f"{name}.mp3"
            path.write_text(playlist)
            with pytest.raises(MediaError):
                sandbox.run("decode", path, demuxer=demuxer)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_file_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """Promise 45. After its time the process is killed and waited for, whatever it is doing."""
    started = time.monotonic()
    with waiting_process(tmp_path, seconds=1) as (pid, future):
        with pytest.raises(MediaTimeLimit) as refusal:
            future.result(timeout=20)
        assert not Path(f"/proc/{pid}").exists()
    assert refusal.value.code == "media_time_limit"
    # The alarm that the process sets for itself comes five seconds later.
    assert 1 <= time.monotonic() - started < 5


def test_a_process_that_closes_its_output_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Promise 45. What took over the process can neither hold its caller nor outlive its time."""
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\nexec 1>&- 2>&-\nread forever < " + str(tmp_path / "pipe") + "\n")
    stub.chmod(0o700)
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(sandbox.sys, "executable", str(stub))
    with pytest.raises(MediaTimeLimit):
        sandbox.run("decode", stub, seconds=1)


def test_the_time_limit_of_the_settings_counts(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_TIME_LIMIT_SECONDS = 1
    with waiting_process(tmp_path) as (_, future), pytest.raises(MediaTimeLimit):
        future.result(timeout=20)


@pytest.mark.parametrize("memory_bytes", [24 * MIB, 60 * MIB, 120 * MIB])
def test_a_file_that_takes_too_much_memory_is_given_up(memory_bytes: int, tmp_path: Path) -> None:
    """Promise 45. Wherever the memory ends - the interpreter, a library, the decoder - the error says so."""
    path = tmp_path / "audio.png"
    path.write_bytes(audio.make_png(4096, 4096))
    with pytest.raises(MediaMemoryLimit):
        sandbox.run("image", path, memory_bytes=memory_bytes)


def test_the_memory_limit_of_the_settings_counts(tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_MEMORY_BYTES = 60 * MIB
    path = tmp_path / "audio.mp3"
    path.write_bytes(audio.make_mp3())
    with pytest.raises(MediaMemoryLimit):
        sandbox.run("decode", path, demuxer="mp3")


def test_a_bomb_costs_bounded_memory_and_time(tmp_path: Path) -> None:
    """Promise 44. A hundred million pixels are refused with less memory than they would take."""
    path = tmp_path / "bomb.png"
    path.write_bytes(audio.make_png_bomb(10_000, 10_000))
    started = time.monotonic()
    with pytest.raises(ImageTooLarge):
        sandbox.run("image", path, memory_bytes=256 * MIB, seconds=10)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_crashes_is_a_typed_error(number: signal.Signals, tmp_path: Path) -> None:
    """Promise 45. A crash is the end of that process and of nothing else."""
    with waiting_process(tmp_path) as (pid, future):
        os.kill(pid, number)
        with pytest.raises(MediaCrashed) as refusal:
            future.result(timeout=20)
    assert number.name in refusal.value.detail


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGALRM])
def test_a_process_that_used_up_its_processor_time_is_out_of_time(number: signal.Signals, tmp_path: Path) -> None:
    with waiting_process(tmp_path) as (pid, future):
        os.kill(pid, number)
        with pytest.raises(MediaTimeLimit):
            future.result(timeout=20)


def test_more_output_than_allowed_is_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "audio.png"
    path.write_bytes(audio.make_png(500, 500))
    with pytest.raises(MediaCrashed):
        sandbox.run("image", path, answer_bytes=100)


def test_a_reason_is_printable_and_bounded() -> None:
    """Promise 49. What a decoder quotes from a file can neither forge a line nor fill the log."""
    reason = json.dumps({"error": {"code": "undecodable_audio", "reason": "a\r\nb\x1b[31m\u202e" + "x" * 10_000}})
    with pytest.raises(UndecodableAudio) as refusal:
        sandbox.parse(reason.encode(), b"", 0, 60)
    assert refusal.value.detail.startswith("a  b [31m x")
    assert len(refusal.value.detail) == sandbox.REASON_LENGTH


def test_a_file_that_is_not_there_is_no_fault_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sandbox.run("decode", tmp_path / "missing.mp3", demuxer="mp3")


def test_threads_decode_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "audio.mp3"
    path.write_bytes(audio.make_mp3())
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: sandbox.run("decode", path, demuxer="mp3")[0]["decoded"], range(8)))
    assert len(set(results)) == 1
    assert results[0] > 0
    assert threading.active_count() < 8

"""The process that decodes: what it may use, what it knows, how it ends, and the server that it is forked from."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from media.errors import ImageTooLarge, MediaCrashed, MediaError, MediaMemoryLimit, MediaTimeLimit, UndecodableAudio
from media.sandbox import PROJECT, REASON_LENGTH, Answer, Sandbox
from tests import audio

MIB = 1024**2
WAIT = "import signal; signal.pause()"


def children(parent: int | str = "self") -> set[int]:
    """The processes that this one has started and that have not been waited for."""
    tasks = Path(f"/proc/{parent}/task")
    return {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    """A sandbox that is used by these tests alone."""
    box = Sandbox()
    yield box
    box.stop()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 20
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        os.sched_yield()
    return found


def looks(box: Sandbox) -> set[int]:
    """The processes that look into files now."""
    with suppress(OSError):
        return {pid for server in list(box.busy) for pid in children(server.process.pid)}
    return set()


@contextmanager
def waiting_process(box: Sandbox, tmp_path: Path, **options: Any) -> Iterator[tuple[int, Future[Answer]]]:
    """A decoding process that has set its limits and waits for ever: its file is a pipe that nobody writes."""
    pipe = tmp_path / f"{uuid4()}.mp3"
    os.mkfifo(pipe)
    before = looks(box)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(box.run, "examine", pipe, demuxer="mp3", **options)
        pid = wait_for(lambda: looks(box) - before, "the process").pop()
        wait_for(lambda: limits_of(pid)["Max address space"][0] != "unlimited", "the last of its limits")
        yield pid, future


def examined(box: Sandbox, path: Path, demuxer: str = "mp3") -> dict[str, Any]:
    return box.run("examine", path, demuxer=demuxer).take(is_last=False)


@pytest.fixture
def mp3(tmp_path: Path) -> Path:
    path = tmp_path / "audio.mp3"
    path.write_bytes(audio.make_mp3())
    return path


def limits_of(pid: int) -> dict[str, tuple[str, str]]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): (line[26:47].strip(), line[47:68].strip()) for line in lines}


def test_the_limits_are_set_in_the_process(box: Sandbox, tmp_path: Path) -> None:
    """Promise 45. Memory, processor, file size, open files and core dumps are bounded, and hard."""
    with waiting_process(box, tmp_path, memory_bytes=900 * MIB, seconds=31) as (pid, _):
        limits = limits_of(pid)
        first_to_go = Path(f"/proc/{pid}/oom_score_adj").read_text()
        os.kill(pid, signal.SIGKILL)
    assert limits["Max address space"] == (str(900 * MIB), str(900 * MIB))
    assert limits["Max cpu time"] == ("31", "31")
    assert limits["Max file size"] == ("0", "0")
    assert limits["Max core file size"] == ("0", "0")
    assert limits["Max open files"] == ("64", "64")
    assert int(first_to_go) == 1000


def test_the_process_knows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 45. Neither the environment nor Django's settings are there to be read, nor any file of ours."""
    monkeypatch.setenv("SECRET_KEY", "not-for-decoders")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:not-for-decoders@127.0.0.1/x")
    box = Sandbox()
    with (tmp_path / "secret").open("w") as secret, waiting_process(box, tmp_path) as (pid, _):
        # Of a descriptor that programs would inherit, too.
        os.set_inheritable(secret.fileno(), True)
        (server,) = box.busy
        processes = (pid, server.process.pid)
        environments = [Path(f"/proc/{each}/environ").read_bytes() for each in processes]
        sessions = [os.getsid(each) for each in processes]
        descriptors = [descriptors_of(each) for each in processes]
        os.kill(pid, signal.SIGKILL)
    for environment in environments:
        assert {entry.split(b"=")[0] for entry in environment.split(b"\0") if entry} == {b"LC_ALL", b"PATH"}
    assert sessions == [server.process.pid] * 2
    # The answer and standard error, while it opens its file; the server's socket and its copies.
    assert descriptors[0] == {1: "pipe", 2: "pipe"}
    assert descriptors[1] == {0: "socket", 1: "socket", 2: "socket"}


def descriptors_of(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for entry in folder.iterdir():
        # The folder itself is open only while it is read.
        with suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink()).partition(":")[0]
    return found


@pytest.mark.parametrize("module", ["decode", "examine", "artwork", "image", "tags", "truncation", "__main__"])
def test_what_decodes_does_not_import_django(module: str) -> None:
    """Promise 45. Without Django there are no settings, no database and no broker to reach."""
    program = f"import sys, media.{module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-E", "-c", program]
    done = subprocess.run(command, cwd=PROJECT, env={}, capture_output=True, text=True, check=True)
    assert not {"django", "celery", "accounts", "audiotricks", "objectstore", "quotas", "structlog"} & set(
        done.stdout.split()
    )


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
    done = subprocess.run(command, cwd=PROJECT, env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(errno.EMFILE)] * 3


@pytest.mark.parametrize("demuxer", ["mp3", "aac", "wav", "mov", "matroska", "hls", "concat"])
def test_a_playlist_is_never_followed(box: Sandbox, demuxer: str, tmp_path: Path) -> None:
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
                examined(box, path, demuxer)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_file_that_takes_too_long_is_given_up(box: Sandbox, tmp_path: Path, mp3: Path) -> None:
    """Promise 45. After its time the process is killed and waited for, whatever it is doing."""
    examined(box, mp3)
    started = time.monotonic()
    with waiting_process(box, tmp_path, seconds=1) as (pid, future):
        with pytest.raises(MediaTimeLimit) as refusal:
            future.result(timeout=20).take(is_last=False)
        assert not Path(f"/proc/{pid}").exists()
    assert refusal.value.code == "media_time_limit"
    # The alarm that the process sets for itself comes five seconds later.
    assert 1 <= time.monotonic() - started < 5
    assert examined(box, mp3)["decoded"] > 0


def server_that_forks_into(code: str) -> Sandbox:
    """A sandbox whose processes run this code instead of a look."""
    program = f"""
import os, signal, socket, sys
import media.__main__ as server
def look(order, answer, errors):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    os.dup2(answer, 1)
    os.closerange(2, 64)
    {code}
server.look = look
server.main()
"""
    return Sandbox([sys.executable, "-E", "-c", program])


def test_a_process_that_closes_its_output_is_given_up(mp3: Path) -> None:
    """Promise 45. What took over the process can neither hold its caller nor outlive its time."""
    box = server_that_forks_into("os.close(1); signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()")
    with pytest.raises(MediaTimeLimit):
        box.run("examine", mp3, seconds=1).take(is_last=False)
    assert not box.busy and not box.idle


def test_the_time_limit_of_the_settings_counts(box: Sandbox, tmp_path: Path, settings: Any) -> None:
    settings.MEDIA_TIME_LIMIT_SECONDS = 1
    with waiting_process(box, tmp_path) as (_, future), pytest.raises(MediaTimeLimit):
        future.result(timeout=20).take(is_last=False)


def test_facts_outlive_a_crash_that_comes_with_the_picture(mp3: Path) -> None:
    """What was said before is the answer; a last part may be cut and is not."""
    line = b'{"result": {"duration": "1.000"}}\n'
    box = server_that_forks_into(f"os.write(1, {2 * line!r}); os.kill(os.getpid(), signal.SIGSEGV)")
    answer = box.run("examine", mp3)
    assert answer.take(is_last=False) == {"duration": "1.000"}
    with pytest.raises(MediaCrashed):
        answer.take(is_last=True)


def test_a_server_that_does_not_start_is_no_fault_of_the_file(mp3: Path) -> None:
    """An installation that cannot decode is not the end of a file: the worker tries again later."""
    for program, seconds, words in (
        ("raise ImportError('no decoder')", 60, "no decoder"),
        (WAIT, 0.1, "did not start"),
    ):
        with pytest.raises(OSError, match=words):
            Sandbox([sys.executable, "-c", program], start_seconds=seconds).run("examine", mp3)


def test_a_killed_server_is_replaced_without_a_word(mp3: Path) -> None:
    """Promise 45."""
    box = Sandbox()
    examined(box, mp3)
    (first,) = box.idle
    first.process.kill()
    assert examined(box, mp3)["decoded"] > 0
    (second,) = box.idle
    assert first is not second and not first.is_running
    box.stop()


def test_a_server_that_is_killed_during_a_look_has_its_file_looked_into_again(tmp_path: Path) -> None:
    box = Sandbox()
    with waiting_process(box, tmp_path) as (pid, future):
        (first,) = box.busy
        os.killpg(first.process.pid, signal.SIGKILL)
        second = wait_for(lambda: looks(box) - {pid}, "another look").pop()
        os.killpg(os.getsid(second), signal.SIGKILL)
        with pytest.raises(MediaCrashed):
            future.result(timeout=20)


def test_a_fork_of_ours_has_servers_of_its_own(tmp_path: Path, mp3: Path) -> None:
    """Promise 45. As a worker's children: none speaks into the socket of another."""
    box = Sandbox()
    with waiting_process(box, tmp_path) as (busy, _):
        examined(box, mp3)
        (idle,), (running,) = box.idle, box.busy
        child = os.fork()
        if not child:
            try:
                closed = all(server.control.fileno() == -1 for server in (idle, running))
                fine = closed and not box.idle and not box.busy and examined(box, mp3)["decoded"] > 0
                fine = fine and box.idle[0].process.pid not in (idle.process.pid, running.process.pid)
                box.stop()
            finally:
                os._exit(0 if fine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert idle.is_running and Path(f"/proc/{busy}").exists()
        assert examined(box, mp3)["decoded"] > 0
        os.kill(busy, signal.SIGKILL)
    box.stop()


def test_a_server_ends_with_its_caller(mp3: Path) -> None:
    """However that ends: no process of ours is left behind."""
    program = f"""
import os, django
from django.conf import settings
settings.configure(MEDIA_MEMORY_BYTES=2**31, MEDIA_TIME_LIMIT_SECONDS=60)
from media.sandbox import sandbox
sandbox.run("examine", {str(mp3)!r}, demuxer="mp3").take(is_last=False)
print(sandbox.idle[0].process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    server = Path(f"/proc/{int(done.stdout.split()[-1])}/cmdline")
    wait_for(lambda: not server.exists() or not server.read_bytes(), "the end of the server")


def test_looks_leave_nothing_behind(box: Sandbox, tmp_path: Path, mp3: Path) -> None:
    """Promise 45. No descriptor here, none in the server, and no process."""
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")

    def held() -> list[object]:
        (server,) = box.idle
        return [descriptors_of(os.getpid()), descriptors_of(server.process.pid), children(server.process.pid)]

    examined(box, mp3)
    before = held()
    for _ in range(5):
        examined(box, mp3)
        with pytest.raises(MediaError):
            examined(box, broken, "wav")
    assert held() == before
    with waiting_process(box, tmp_path, seconds=1) as (_, future):
        assert future.result(timeout=20).status is None
    examined(box, mp3)
    assert len(descriptors_of(os.getpid())) == len(before[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("memory_bytes", [24 * MIB, 60 * MIB, 120 * MIB])
def test_a_file_that_takes_too_much_memory_is_given_up(box: Sandbox, memory_bytes: int, tmp_path: Path) -> None:
    """Promise 45. Wherever the memory ends - the interpreter, a library, the decoder - the error says so."""
    path = tmp_path / "audio.png"
    path.write_bytes(audio.make_png(4096, 4096))
    with pytest.raises(MediaMemoryLimit):
        box.run("image", path, memory_bytes=memory_bytes).take(is_last=True)


def test_the_memory_limit_of_the_settings_counts(box: Sandbox, mp3: Path, settings: Any) -> None:
    settings.MEDIA_MEMORY_BYTES = 60 * MIB
    with pytest.raises(MediaMemoryLimit):
        examined(box, mp3)


def test_a_bomb_costs_bounded_memory_and_time(box: Sandbox, tmp_path: Path) -> None:
    """Promise 44. A hundred million pixels are refused with less memory than they would take."""
    path = tmp_path / "bomb.png"
    path.write_bytes(audio.make_png_bomb(10_000, 10_000))
    started = time.monotonic()
    with pytest.raises(ImageTooLarge):
        box.run("image", path, memory_bytes=256 * MIB, seconds=10).take(is_last=True)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_decoder_that_crashes_is_a_typed_error(
    box: Sandbox, number: signal.Signals, tmp_path: Path, mp3: Path
) -> None:
    """Promise 45. A crash ends that process and nothing else; the next look has another layout of memory."""
    with waiting_process(box, tmp_path) as (pid, future):
        (server,) = box.busy
        os.kill(pid, number)
        with pytest.raises(MediaCrashed) as refusal:
            future.result(timeout=20).take(is_last=False)
    assert number.name in refusal.value.detail
    assert not server.is_running
    assert examined(box, mp3)["decoded"] > 0


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGALRM])
def test_a_process_that_used_up_its_processor_time_is_out_of_time(
    box: Sandbox, number: signal.Signals, tmp_path: Path
) -> None:
    with waiting_process(box, tmp_path) as (pid, future):
        os.kill(pid, number)
        with pytest.raises(MediaTimeLimit):
            future.result(timeout=20).take(is_last=False)


def test_more_output_than_allowed_is_a_crash(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "audio.png"
    path.write_bytes(audio.make_png(500, 500))
    with pytest.raises(MediaCrashed):
        box.run("image", path, answer_bytes=100)


def test_a_reason_is_printable_and_bounded() -> None:
    """Promise 49. What a decoder quotes from a file can neither forge a line nor fill the log."""
    reason = json.dumps({"error": {"code": "undecodable_audio", "reason": "a\r\nb\x1b[31m\u202e" + "x" * 10_000}})
    with pytest.raises(UndecodableAudio) as refusal:
        Answer(60, 0, bytearray(reason.encode() + b"\n")).take(is_last=True)
    assert refusal.value.detail.startswith("a  b [31m x")
    assert len(refusal.value.detail) == REASON_LENGTH


def test_a_file_that_is_not_there_is_no_fault_of_the_file(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        box.run("examine", tmp_path / "missing.mp3", demuxer="mp3")


def test_threads_decode_in_parallel(tmp_path: Path, mp3: Path) -> None:
    """Each with a server of its own, and as many servers as there were threads at once."""
    box = Sandbox()
    with waiting_process(box, tmp_path) as (first, _), waiting_process(box, tmp_path) as (second, _):
        assert os.getsid(first) != os.getsid(second)
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda _: examined(box, mp3)["decoded"], range(8)))
        for pid in (first, second):
            os.kill(pid, signal.SIGKILL)
    assert len(set(results)) == 1
    assert results[0] > 0
    assert len(box.idle) <= 2 and not box.busy
    box.stop()

"""``python -m audiotricks.upload``: several files, resumed over several runs, without Django."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from audiotricks import upload
from tests.audio import make_mp3, make_wav
from tests.browser.line import line_to
from tests.browser.site import Site, running_site
from tests.running.programs import ROOT
from tests.servers import wait_until

PROGRAM = ROOT / "audiotricks" / "upload.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "long.wav"
    path.write_bytes(make_wav(seconds=600, seed=700))
    return path


class Client:
    """The program with the standard library alone, a state of its own, and the demo user's token."""

    def __init__(self, site: Site, home: Path) -> None:
        self.site = site
        self.env = {"XDG_STATE_HOME": str(home), "AUDIOTRICKS_TOKEN": site.login["token"]}

    def command(self, *arguments: object, address: str | None = None) -> list[str]:
        url = address or self.site.address
        return [sys.executable, "-I", "-S", str(PROGRAM), url, "--workspace", "demo", *map(str, arguments)]

    def run(self, *arguments: object, address: str | None = None) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, address=address)
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
        assert self.site.login["token"] not in done.stdout + done.stderr
        return done


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Client:
    return Client(site, tmp_path / "state")


def is_stored(site: Site, path: Path) -> bool:
    found = [row for row in site.get("uploads/?workspace=demo")["results"] if row["original_filename"] == path.name]
    return bool(found) and site.content(found[0]["id"]) == path.read_bytes()


def test_it_needs_nothing_but_the_standard_library_and_runs_as_a_module_too(tmp_path: Path) -> None:
    alone = shutil.copy(PROGRAM, tmp_path)
    for command in ([sys.executable, "-I", "-S", alone], [sys.executable, "-S", "-m", "audiotricks.upload"]):
        done = subprocess.run([*command, "--help"], cwd=ROOT, env={}, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "") and "exit codes" in done.stdout


def test_several_files_are_stored_whole_and_found_there_the_next_time(client: Client, tmp_path: Path) -> None:
    paths = [tmp_path / f"song {number} ü.mp3" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(make_mp3(seed=710 + number))
    done = client.run(*paths)
    assert (done.returncode, done.stderr, done.stdout.count("stored  ")) == (0, "", 5)
    assert all(is_stored(client.site, path) for path in paths)
    assert f"{client.site.address}/files/" in done.stdout

    again = client.run(*paths)
    assert (again.returncode, again.stdout.count("already there")) == (0, 5)
    forced = client.run("--force", paths[0])
    assert (forced.returncode, forced.stdout.count("stored  ")) == (0, 1)


def test_a_network_that_breaks_off_is_waited_for(client: Client, long_file: Path) -> None:
    with line_to(client.site.address) as line:
        line.cut_after = 3_000_000
        program = subprocess.Popen(client.command(long_file, address=line.address), env=client.env)
        wait_until(lambda: line.is_cut, what="the cut")
        line.mend()
        assert program.wait(60) == 0
        assert line.sent_bytes < long_file.stat().st_size * 1.3
    assert is_stored(client.site, long_file)


def test_what_arrived_before_a_run_ended_is_not_sent_again_by_the_next_one(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "next time.wav"
    path.write_bytes(make_wav(seconds=600, seed=701))
    with line_to(client.site.address) as line:
        line.cut_after = 5_000_000
        first = client.run("--patience", 0, path, address=line.address)
        assert first.returncode == 3
        assert "next time.wav" in first.stderr and "Run the same command again" in first.stderr
        line.mend()
        sent = line.sent_bytes
        assert client.run(path, address=line.address).returncode == 0
        assert line.sent_bytes - sent < path.stat().st_size - 4_000_000
    assert is_stored(client.site, path)
    assert json.loads((tmp_path / "state" / "audiotricks" / "uploads.json").read_text()) == {}


def test_it_is_interrupted_cleanly_and_resumes(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "interrupted.wav"
    path.write_bytes(make_wav(seconds=600, seed=702))
    with line_to(client.site.address) as line:
        line.cut_after = 2_000_000
        program = subprocess.Popen(
            client.command(path, address=line.address), env=client.env, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: line.is_cut, what="the cut")
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=30)
        assert program.returncode == 130 and "Run the same command again to resume." in errors
        assert "Traceback" not in errors
        line.mend()
        assert client.run(path, address=line.address).returncode == 0


def test_what_is_refused_is_told_in_the_servers_words_and_the_rest_is_stored(client: Client, tmp_path: Path) -> None:
    notes, words, song = tmp_path / "notes.txt", tmp_path / "words.mp3", tmp_path / "song.mp3"
    notes.write_text("words")
    words.write_text("hello world " * 500)
    song.write_bytes(make_mp3(seed=720))
    done = client.run(notes, words, song)
    assert done.returncode == 1
    assert "Files that end in .txt are not accepted." in done.stderr and "this is a text file" in done.stderr
    assert "stored" in done.stdout and is_stored(client.site, song)


def test_a_wrong_token_a_wrong_address_and_a_wrong_command_line_have_their_exit_codes(
    client: Client, tmp_path: Path
) -> None:
    song = tmp_path / "song.mp3"
    song.write_bytes(make_mp3(seed=721))
    wrong = client.run("--token", "x" * 40, song)
    assert (wrong.returncode, "does not accept this token" in wrong.stderr) == (1, True)
    nobody = client.run("--patience", 0, song, address="http://127.0.0.1:9")
    assert (nobody.returncode, "refused" in nobody.stderr) == (3, True)
    assert client.run(tmp_path / "absent.mp3").returncode == 2
    assert client.run(tmp_path).returncode == 2
    assert client.run(song, address="vault.example.org").returncode == 2
    del client.env["AUDIOTRICKS_TOKEN"]
    assert "AUDIOTRICKS_TOKEN" in client.run(song).stderr


@pytest.mark.parametrize("token", ["first\nsecond", "first\rsecond", "pässword", "…", " \n"])
def test_a_token_that_no_request_can_carry_is_a_wrong_command_line(client: Client, tmp_path: Path, token: str) -> None:
    song = tmp_path / "song.mp3"
    song.write_bytes(make_mp3(seed=722))
    client.env |= {"AUDIOTRICKS_TOKEN": token, "PYTHONUTF8": "1"}
    done = client.run("--jobs", 1, song)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: The token" in done.stderr and "Traceback" not in done.stderr


def test_a_token_may_end_in_the_end_of_its_line(client: Client, tmp_path: Path) -> None:
    song = tmp_path / "end of line.mp3"
    song.write_bytes(make_mp3(seed=723))
    client.env["AUDIOTRICKS_TOKEN"] += "\r\n"
    assert client.run(song).returncode == 0
    assert is_stored(client.site, song)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:abc",
        "http://127.0.0.1:99999",
        "http://[::1",
        "http://:80",
        "http://me:secret@127.0.0.1",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/ü",
    ],
)
def test_an_address_that_no_server_can_have_is_a_wrong_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    song = tmp_path / "song.mp3"
    song.write_bytes(b"song")
    with pytest.raises(SystemExit) as end:
        upload.main(["--token", "x", "--patience", "0", address, str(song)])
    assert end.value.code == 2
    assert "error: URL must" in capsys.readouterr().err


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three files for a run in this process, with a state of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    paths = [tmp_path / f"song {number}.mp3" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return [str(path) for path in paths]


def run_here(*arguments: str) -> int:
    return upload.main(["--token", "x", "--jobs", "1", "http://127.0.0.1:9", *arguments])


@pytest.mark.parametrize("body", ["[]", "[[]]", "[null]", '[{"a": 1}]', '[{"verdict": []}]', "{}", "<html>"])
def test_a_server_that_is_not_an_audiotricks_is_told_in_words(
    songs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    answer = upload.Answer(200, Message(), body.encode())  # type: ignore[arg-type]
    monkeypatch.setattr(upload.Server, "ask", lambda *_, **__: answer)
    assert run_here(*songs) == upload.Exit.REFUSED
    told = capsys.readouterr()
    assert told.err.count("This is not the address of an AudioTricks server.") == len(songs)
    assert (told.out, told.err.count("\n")) == ("", len(songs))


@pytest.mark.parametrize("error", [ValueError("a reason\nin two lines"), KeyError("upload"), RecursionError()])
def test_whatever_fails_for_one_file_is_its_failure_and_the_others_go_on(
    songs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def run(sending: upload.Sending) -> str:
        if sending.name == "song 0.mp3":
            raise error
        return f"stored  {sending.name}"

    monkeypatch.setattr(upload.Sending, "run", run)
    assert run_here(*songs) == upload.Exit.REFUSED
    told = capsys.readouterr()
    assert told.out == "stored  song 1.mp3\nstored  song 2.mp3\n"
    assert told.err.startswith("not stored     song 0.mp3  ") and told.err.count("\n") == 1
    assert type(error).__name__ in told.err


def test_a_file_without_an_outcome_does_not_count_as_stored(songs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: upload.Sending) -> str:
        raise upload.Interrupted  # It ends the thread in silence.

    monkeypatch.setattr(upload.Sending, "run", run)
    assert run_here(*songs) == upload.Exit.REFUSED


def test_a_name_that_the_output_cannot_show_is_stored_all_the_same(client: Client, tmp_path: Path) -> None:
    song = tmp_path / "歌.mp3"
    song.write_bytes(make_mp3(seed=724))
    command = [argument for argument in client.command(song) if argument != "-I"]
    env: dict[str, Any] = client.env | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "stored         ?.mp3" in done.stdout


def test_a_terminal_shows_a_bar(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "bar\x1b[31m.wav"
    path.write_bytes(make_wav(seconds=600, seed=703))
    terminal, inside = pty.openpty()
    shown = b""
    with line_to(client.site.address) as line:
        # It stands still in the middle until the bar was seen there: on a fast machine it may be over before that.
        line.cut_after = 5_000_000
        command = client.command("--patience", 30, path, address=line.address)
        program = subprocess.Popen(command, env=client.env, stdout=inside, stderr=inside, stdin=inside)
        os.close(inside)
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
                if line.is_cut and b"[####" in shown:
                    line.mend()
        except OSError:
            pass  # The end of a terminal.
        finally:
            os.close(terminal)
        assert program.wait(30) == 0
    assert b"[####" in shown and b"% " in shown and b" of " in shown
    assert b"stored" in shown and b"\x1b[31m" not in shown

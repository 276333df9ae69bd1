"""``import_audio`` as a process of its own: exit codes, ctrl-C, a terminal, the embedded database."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from quotas.models import Workspace
from tests.audio import make_wav
from tests.factories import MembershipFactory
from tests.forked import Prepared
from tests.prepared import migrated_sqlite
from tests.running.programs import ROOT, environment, ran, started
from tests.uploads.life import assert_books_balance, environment_of_this_test, new_workspace
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db(transaction=True)

MANAGE = [sys.executable, "manage.py"]


@pytest.fixture
def workspace(db: None) -> Workspace:
    workspace = new_workspace()
    MembershipFactory(workspace=workspace)
    return workspace


def fill(folder: Path, count: int) -> None:
    for number in range(count):
        (folder / f"{number:03}.wav").write_bytes(make_wav(seed=number))


def test_ctrl_c_leaves_whole_files_and_nothing_else_and_the_next_run_goes_on(
    workspace: Workspace, shelf: Path, audio_root: Path, tmp_path: Path, prepared: Prepared
) -> None:
    """Promise 5. What was acknowledged is stored, the rest is as if it had never been begun."""
    fill(shelf, 150)
    env = environment_of_this_test(audio_root, CELERY_BROKER_URL="memory://")
    command = ["import_audio", str(shelf), "--workspace", workspace.slug, "--cleanup", "--parallel", "2"]
    with started([*MANAGE, *command], env, tmp_path / "log") as program:
        program.wait_for("stored: ")
        code = program.signal_and_wait(signal.SIGINT)
        output = program.output()
    assert code == 130, output
    assert "Stopped before the end." in output and "Traceback" not in output
    stored = AudioUpload.objects.count()
    assert 0 < stored < 150
    assert set(AudioUpload.objects.values_list("status", flat=True)) == {Status.UPLOADED}
    assert len(list(shelf.iterdir())) == 150 - stored == 150 - output.count("stored: ")
    assert_books_balance(workspace)

    done = prepared.manage(*command)
    assert done.returncode == 0, done.stderr
    assert AudioUpload.objects.count() == 150 and not list(shelf.iterdir())
    assert_books_balance(workspace)


def test_exit_codes(workspace: Workspace, shelf: Path, prepared: Prepared) -> None:
    fill(shelf, 1)
    importing = ["import_audio", "--workspace", workspace.slug]
    (shelf / "text.wav").write_text("text" * 50)
    done = prepared.manage(*importing, str(shelf))
    assert done.returncode == 1 and "FAILED: " in done.stderr and "1 file FAILED." in done.stdout
    gone = prepared.manage(*importing, str(shelf / "gone"))
    assert gone.returncode == 2 and "There is no" in gone.stderr and "Traceback" not in gone.stderr


def test_a_terminal_sees_a_bar_and_only_the_lines_that_matter(
    workspace: Workspace, shelf: Path, audio_root: Path
) -> None:
    fill(shelf, 3)
    (shelf / "text.wav").write_text("text" * 50)
    env = environment_of_this_test(audio_root, CELERY_BROKER_URL="memory://")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [*MANAGE, "import_audio", str(shelf), "--workspace", workspace.slug]
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 65_536):
                seen += piece
        except OSError:  # how Linux tells that nobody has the other end any more
            pass
        os.close(ours)
        assert process.stdout is not None
        out = process.stdout.read().decode()
    assert process.returncode == 1
    assert b"100%" in seen and seen.count(b"FAILED: ") == 1 and b"stored: " not in seen
    assert "Stored 3 files" in out


PROGRAM = """
import sys
import django; django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from quotas.workspaces import create_workspace

assert connection.vendor == "sqlite"
create_workspace(User.objects.create_user("olga"), name="Shelf")
for _ in range(2):
    call_command("import_audio", sys.argv[1], workspace="shelf", json=True, parallel=8)
"""


def test_the_embedded_database_takes_files_side_by_side(shelf: Path, tmp_path: Path) -> None:
    """Promise 27, Promise 28. One writer at a time, and nobody is turned away."""
    fill(shelf, 40)
    env = environment(
        VAR_DIR=str(migrated_sqlite(tmp_path / "var")),
        CELERY_BROKER_URL="memory://",
        DJANGO_SETTINGS_MODULE="audiotricks.settings",
    )
    done = ran([sys.executable, "-c", PROGRAM, str(shelf)], env)
    assert done.returncode == 0, done.stderr
    first, second = (line["summary"] for line in map(json.loads, done.stdout.splitlines()) if "summary" in line)
    assert (first["stored"], first["duplicate"]) == (40, 0)
    assert (second["stored"], second["duplicate"]) == (0, 40)
    kept = [path for path in (tmp_path / "var" / "audio" / "audio").rglob("*") if path.is_file()]
    assert len(kept) == 40

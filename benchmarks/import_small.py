"""1,000 small WAVs imported and completed on the embedded default, against a shell loop.

The loop does ``ffprobe``, ``sha256sum``, ``cp`` and ``sync -d`` for each file, two at a time. Ours is ``import_audio``
into what ``make run`` started, until the last file is completed. IMPORT_FILES and IMPORT_ROUNDS change the numbers.
"""

import os
import random
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import psutil

from benchmarks.client import wav_header
from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.web import temporary_directory
from tests.running.programs import ROOT, Program, environment, started
from tests.servers import free_port

FILES = int(os.environ.get("IMPORT_FILES", "1000"))
ROUNDS = int(os.environ.get("IMPORT_ROUNDS", "3"))
FILE_BYTES = 32 * 1024
LONGEST_SECONDS = 1800.0
LOOP = """
find "$1" -name '*.wav' -print0 | xargs -0 -P 2 -n 1 sh -ec '
  name="${1##*/}"
  ffprobe -v error -of json -show_format -show_streams "$1" > "$0/$name.json"
  sha256sum "$1" > "$0/$name.sha256"
  cp "$1" "$0/$name"
  sync -d "$0/$name"
' "$2"
"""


def main() -> int:
    if shutil.which("ffprobe") is None:
        print("import_small: there is no ffprobe to compare with (Debian's package ffmpeg has it)", file=sys.stderr)
        return report([])
    with temporary_directory() as directory:
        env = environment(VAR_DIR=str(directory / "var"), PORT=str(free_port()), LOG_FORMAT="json")
        with started([sys.executable, "manage.py", "run"], env, directory / "log") as program:
            program.wait_for("ctrl-C stops it")
            folders = folders_of_files(directory)
            computing: dict[str, list[float]] = {"loop": [], "ours": []}
            sides = {"loop": partial(loop, directory / "copied"), "ours": partial(imported, env, directory / "var")}

            def timed(name: str) -> float:
                folder = next(folders)
                before = cpu_seconds(program)
                began = time.perf_counter()
                sides[name](folder)
                seconds = time.perf_counter() - began
                computing[name].append(cpu_seconds(program) - before)
                shutil.rmtree(folder)
                return seconds

            seconds = by_turns(ROUNDS, loop=lambda: timed("loop"), ours=lambda: timed("ours"))
            program.signal_and_wait(signal.SIGTERM)

    def words(name: str) -> str:
        each = 1000 / FILES
        return (
            f"{statistics.median(seconds[name]):.1f} s; of a processor"
            f" {each * statistics.median(computing[name]):.0f} ms a file"
        )

    return report(
        [
            Figure(f"shell loop: ffprobe, sha256sum, cp, sync -d of {FILES:,} WAVs, two at a time", words("loop")),
            Figure(
                f"{FILES:,} small WAVs imported and completed, to the loop",
                words("ours"),
                median_ratio(seconds["loop"], seconds["ours"]),
                at_least=1.0,
            ),
            Figure(
                "the same by processor seconds",
                words("ours"),
                median_ratio(computing["loop"], computing["ours"]),
            ),
        ]
    )


def folders_of_files(directory: Path) -> Iterator[Path]:
    """Folders of new files; no two files of a run are alike."""
    for number in count():
        folder = directory / f"files-{number}"
        folder.mkdir()
        noise = random.Random(number)
        for name in range(FILES):
            (folder / f"{name:04d}.wav").write_bytes(wav_header(FILE_BYTES) + noise.randbytes(FILE_BYTES)[44:])
        os.sync()
        yield folder


def loop(copied: Path, folder: Path) -> None:
    copied.mkdir()
    subprocess.run(["sh", "-ec", LOOP, "sh", str(folder), str(copied)], check=True)
    copies = sum(1 for path in copied.iterdir() if path.suffix == ".wav")
    if copies != FILES:
        raise RuntimeError(f"the loop made {copies} copies of {FILES} files")
    shutil.rmtree(copied)


def imported(env: dict[str, str], var: Path, folder: Path) -> None:
    before = completed(var)
    command = [sys.executable, "manage.py", "import_audio", str(folder), "--workspace", "demo", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: completed(var) - before >= FILES)


def completed(var: Path) -> int:
    with closing(sqlite3.connect(f"file:{var / 'audiotricks.sqlite3'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT status, count(*) FROM audio_uploads GROUP BY status").fetchall()
    counts = dict(rows)
    if counts.get("failed"):
        raise RuntimeError(f"{counts['failed']} files failed")
    return int(counts.get("completed", 0))


def wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError("the files were not completed in time")
        time.sleep(0.1)


def cpu_seconds(program: Program) -> float:
    """What our children used that ended, and the product's processes with theirs."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = psutil.Process(program.process.pid)
    running = [sum(process.cpu_times()[:4]) for process in (ours, *ours.children(recursive=True))]
    return ended.ru_utime + ended.ru_stime + sum(running)


if __name__ == "__main__":
    sys.exit(main())

"""Saving 1 GiB in the local storage, against a loop that writes the same pieces to a file and syncs it."""

import os
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.web import temporary_directory

MIB = 1024**2
SIZE = 1024 * MIB
ROUNDS = 5
NOISE = random.Random(1).randbytes(64 * MIB)


def main() -> int:
    with temporary_directory() as folder, tempfile.TemporaryDirectory() as var:
        os.environ.update(
            VAR_DIR=var, DATABASE_URL=f"sqlite:///{var}/none", DJANGO_SETTINGS_MODULE="audiotricks.settings"
        )
        seconds = by_turns(ROUNDS, bare=lambda: bare(folder), ours=lambda: ours(folder))
    rate = f"{SIZE / 1e6 / statistics.median(seconds['ours']):.0f} MB/s"
    return report(
        [Figure("local save of 1 GiB to write and fsync", rate, median_ratio(seconds["bare"], seconds["ours"]))]
    )


def pieces() -> Iterator[memoryview]:
    with memoryview(NOISE) as view:
        for start in range(0, SIZE, MIB):
            yield view[start % len(NOISE) :][:MIB]


def bare(folder: Path) -> float:
    path = folder / "bare"
    began = perf_counter()
    with path.open("xb", buffering=0) as file:
        for piece in pieces():
            file.write(piece)
        os.fsync(file.fileno())
    seconds = perf_counter() - began
    path.unlink()
    return seconds


def ours(folder: Path) -> float:
    from objectstore.content import StreamedContent
    from objectstore.local import LocalStorage

    storage = LocalStorage(folder)
    began = perf_counter()
    storage.save("audio/one/audio.wav", StreamedContent(pieces()))
    seconds = perf_counter() - began
    if storage.stat("audio/one/audio.wav").size != SIZE:
        raise RuntimeError("the object has another size")
    storage.delete("audio/one/audio.wav")
    return seconds


if __name__ == "__main__":
    sys.exit(main())

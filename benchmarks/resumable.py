"""Resumable uploads beside the official Node server of tus, and beside a bare loop that receives, hashes and writes.

Both get the same bytes from the same client. The processor time of each server tells them apart on a machine that is
too busy for its clock to.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from benchmarks.client import MIB, Client
from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.receiver import Receiver
from benchmarks.upload import bare, cpu_seconds, forget_peak, peak_bytes
from benchmarks.web import Site, running_site, temporary_directory
from tests.tus_clients import running_tus_server

ROUNDS = 5
FILE_BYTES = 512 * MIB
SHORT_BYTES = 64 * MIB
AT_ONCE = 8
TUS = "/api/v1/tus/"
CleanUp = Callable[[], None]


def main() -> int:
    with (
        running_site() as site,
        temporary_directory() as directory,
        running_tus_server(directory) as (peer, process),
    ):
        figures = one_patch(site, peer, process, directory)
        figures += eight(site, peer, directory)
        figures += memory(site)
    return report(figures)


def send(client: Client, url: str, token: str, *, at_once: int = 1, sha256: bool = False) -> tuple[float, list[str]]:
    """Seconds until the last upload was answered, and the ids of files of ours."""
    return client.tus(url, token, at_once, sha256=sha256).result()


def sent_to_us(client: Client, site: Site, *, at_once: int = 1, sha256: bool = False) -> tuple[float, CleanUp]:
    url = f"http://127.0.0.1:{site.port}{TUS}"
    seconds, ids = send(client, url, site.token, at_once=at_once, sha256=sha256)

    def remove() -> None:
        for upload_id in ids:
            site.remove(upload_id)

    return seconds, remove


def sent_to_peer(client: Client, url: str, directory: Path, *, at_once: int = 1) -> tuple[float, CleanUp]:
    seconds, _ = send(client, url, "", at_once=at_once)

    def remove() -> None:
        for path in directory.iterdir():
            path.unlink()

    return seconds, remove


def cleaned(run: tuple[float, CleanUp]) -> float:
    seconds, clean_up = run
    clean_up()
    return seconds


def one_patch(site: Site, peer: str, process: psutil.Process, directory: Path) -> list[Figure]:
    with Receiver(md5=False) as receiver, Client(FILE_BYTES) as client:
        runs: dict[str, Callable[[], tuple[float, CleanUp]]] = {
            "peer": lambda: sent_to_peer(client, peer, directory),
            "ours": lambda: sent_to_us(client, site),
            "limit": lambda: (bare(client, receiver, site.var, sync=False), lambda: None),
            "hashed": lambda: sent_to_us(client, site, sha256=True),
        }
        processes = {"peer": process, "ours": site.worker, "limit": receiver.process, "hashed": site.worker}
        computing: dict[str, list[float]] = {name: [] for name in runs}

        def timed(name: str) -> float:
            before = cpu_seconds(processes[name])
            seconds, clean_up = runs[name]()
            computing[name].append(cpu_seconds(processes[name]) - before)
            clean_up()
            return seconds

        seconds = by_turns(ROUNDS, **{name: partial(timed, name) for name in runs})

    def figure(name: str, what: str, to: str, at_least: float | None = None) -> Figure:
        rate = FILE_BYTES / 1e6 / statistics.median(seconds[name])
        took = f"{rate:.0f} MB/s, {statistics.median(computing[name]):.2f} s of a processor"
        return Figure(what, took, median_ratio(seconds[to], seconds[name]), at_least=at_least)

    return [
        figure("peer", "the official Node server: one PATCH of 512 MiB", "peer"),
        figure("ours", "ours: one PATCH of 512 MiB, to the Node server", "peer", 1.0),
        figure("limit", "the limit: bare loop that receives 512 MiB, SHA-256, write", "limit"),
        figure("hashed", "ours with a SHA-256 that is verified, to the limit", "limit", 0.9),
    ]


def eight(site: Site, peer: str, directory: Path) -> list[Figure]:
    with Client(SHORT_BYTES) as client:
        seconds = by_turns(
            ROUNDS,
            peer=lambda: cleaned(sent_to_peer(client, peer, directory, at_once=AT_ONCE)),
            ours=lambda: cleaned(sent_to_us(client, site, at_once=AT_ONCE)),
        )
    rates = {name: AT_ONCE * SHORT_BYTES / 1e6 / statistics.median(taken) for name, taken in seconds.items()}
    words = f"{rates['ours']:.0f} MB/s to {rates['peer']:.0f}"
    ratio = median_ratio(seconds["peer"], seconds["ours"])
    return [Figure("eight PATCHes of 64 MiB in parallel, to the Node server", words, ratio, at_least=0.9)]


def memory(site: Site) -> list[Figure]:
    """Of a worker that has carried uploads before."""
    worker = site.worker
    with Client(SHORT_BYTES) as client:
        forget_peak(worker)
        resident, io = worker.memory_info().rss, worker.io_counters()
        cleaned(sent_to_us(client, site, at_once=AT_ONCE))
        extra = (peak_bytes(worker) - resident) / MIB / AT_ONCE
        after = worker.io_counters()
    written = (after.write_chars - io.write_chars) / (AT_ONCE * SHORT_BYTES)
    return [
        Figure("extra memory of each of eight uploads, to 16 MiB", f"{extra:.1f} MiB", extra / 16, at_most=1),
        Figure("written for eight uploads, to their size", f"{written:.3f}", written, at_most=1.02),
    ]


if __name__ == "__main__":
    sys.exit(main())

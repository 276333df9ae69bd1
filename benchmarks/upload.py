"""512 MiB over HTTP, hashed, verified and durable, against a bare loop that receives, hashes and writes.

The limit is :mod:`benchmarks.receiver` without a sync; the same loop with one fsync at its end, as the product does it,
is shown beside it. The client is the same process for all, and the bytes come from its memory. The processor time of
the server tells them apart on a machine that is too busy for its clock to.
"""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks.client import MIB, Client, wav_header
from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.receiver import Receiver
from benchmarks.web import Site, running_site

ROUNDS = 5
FILE_BYTES = 512 * MIB
LONG_BYTES = 1024 * MIB
SHORT_BYTES = 64 * MIB
AT_ONCE = 8


def main() -> int:
    with running_site() as site:
        figures = [*throughput(site), *at_once(site)]
    return report([*figures, *footprint()])


def throughput(site: Site) -> list[Figure]:
    with Receiver() as receiver, Client(FILE_BYTES) as client:
        runs: dict[str, Callable[[], float]] = {
            "limit": lambda: bare(client, receiver, site.var, sync=False),
            "synced": lambda: bare(client, receiver, site.var, sync=True),
            "raw": lambda: uploaded(client.raw, site),
            "multipart": lambda: uploaded(client.multipart, site),
        }
        processes = dict.fromkeys(("limit", "synced"), receiver.process) | dict.fromkeys(
            ("raw", "multipart"), site.worker
        )
        computing: dict[str, list[float]] = {name: [] for name in runs}

        def timed(name: str) -> float:
            before = cpu_seconds(processes[name])
            seconds = runs[name]()
            computing[name].append(cpu_seconds(processes[name]) - before)
            return seconds

        seconds = by_turns(ROUNDS, **{name: partial(timed, name) for name in runs})

    def figure(name: str, what: str, at_least: float | None = None) -> Figure:
        rate = FILE_BYTES / 1e6 / statistics.median(seconds[name])
        took = f"{rate:.0f} MB/s, {statistics.median(computing[name]):.2f} s of a processor"
        return Figure(what, took, median_ratio(seconds["limit"], seconds[name]), at_least=at_least)

    return [
        figure("limit", "the limit: bare loop that receives 512 MiB, SHA-256, MD5, write"),
        figure("synced", "bare loop with fsync, to the limit"),
        figure("raw", "upload of 512 MiB, raw body, to the limit", 0.8),
        figure("multipart", "upload of 512 MiB, multipart, to the limit", 0.75),
    ]


def bare(client: Client, receiver: Receiver, folder: Path, *, sync: bool) -> float:
    path = folder / "bare"
    received = receiver.receive(path, sync=sync)
    seconds = client.bare(receiver.port).result()
    received.result()
    path.unlink()
    return seconds


def uploaded(send: Callable[..., Any], site: Site, at_once: int = 1) -> float:
    seconds, ids = send(site.port, site.token, at_once).result()
    for upload_id in ids:
        site.remove(upload_id)
    return seconds


def at_once(site: Site) -> list[Figure]:
    with Client(SHORT_BYTES) as client:
        seconds = by_turns(
            ROUNDS,
            one=lambda: uploaded(client.raw, site),
            eight=lambda: uploaded(client.raw, site, AT_ONCE) / AT_ONCE,
        )
    rate = SHORT_BYTES / 1e6 / statistics.median(seconds["eight"])
    ratio = median_ratio(seconds["one"], seconds["eight"])
    return [Figure("eight uploads of 64 MiB at once, together, to one alone", f"{rate:.0f} MB/s", ratio)]


def footprint() -> list[Figure]:
    """Memory and writing of a new worker during 1 GiB, when a file of a few bytes made it load the code for it."""
    figures = []
    with Client(LONG_BYTES) as client:
        for send, what in ((client.raw, "raw body"), (client.multipart, "multipart")):
            with running_site() as site:
                site.upload(wav_header(1000).ljust(1000, b"\0"))
                figures += footprint_of(send, what, site)
    return figures


def footprint_of(send: Callable[..., Any], what: str, site: Site) -> list[Figure]:
    worker = site.worker
    forget_peak(worker)
    resident, io = worker.memory_info().rss, worker.io_counters()
    uploaded(send, site)
    extra = (peak_bytes(worker) - resident) / MIB
    after = worker.io_counters()
    written = (after.write_chars - io.write_chars) / LONG_BYTES
    on_disk = (after.write_bytes - io.write_bytes) / LONG_BYTES
    return [
        Figure(f"extra memory for 1 GiB, {what}, to 32 MiB", f"{extra:.1f} MiB", extra / 32, at_most=1),
        Figure(
            f"written for 1 GiB, {what}, to its size",
            f"{written:.3f}, to the disk {on_disk:.3f}",
            max(written, on_disk),
            at_most=1.01,
        ),
    ]


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def forget_peak(process: psutil.Process) -> None:
    """Make VmHWM begin again at what is resident now (proc(5), clear_refs)."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def peak_bytes(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())

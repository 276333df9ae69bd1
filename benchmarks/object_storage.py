"""An object store: writing beside boto3's own way, memory both ways, a long list. The server is SeaweedFS, here."""

import gc
import os
import random
import statistics
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, RawIOBase
from time import perf_counter
from typing import Any

import psutil

from benchmarks.figures import Figure, by_turns, median_ratio, report
from benchmarks.upload import forget_peak, peak_bytes

MIB = 1024**2
SIZE = 512 * MIB
LARGE = 1024 * MIB
ROUNDS = 5
NAMES = 10_000
PAGE = 1000
NOISE = random.Random(1).randbytes(64 * MIB)
NAME = "audio/one/audio.wav"
PEER = "audio/one/peer.wav"
EXTRA_BYTES = 64 * MIB


def main() -> int:
    from tests.object_servers.seaweedfs import running_seaweedfs

    with tempfile.TemporaryDirectory() as var:
        os.environ.update(
            VAR_DIR=var, DATABASE_URL=f"sqlite:///{var}/none", DJANGO_SETTINGS_MODULE="audiotricks.settings"
        )
        with running_seaweedfs() as server:
            from objectstore.s3 import S3Storage

            storage = S3Storage(**server.options, bucket_name=server.empty_bucket())
            # First, while the process has had nothing yet that it might keep.
            used = memory(storage)
            return report([speed(storage), *used, listing(storage)])


def speed(storage: Any) -> Figure:
    seconds = by_turns(ROUNDS, boto3=lambda: boto3_alone(storage), ours=lambda: ours(storage, SIZE))
    rate = f"{SIZE / 1e6 / statistics.median(seconds['ours']):.0f} MB/s"
    ratio = median_ratio(seconds["boto3"], seconds["ours"])
    return Figure("512 MiB to S3, hashed, to boto3's upload_fileobj", rate, ratio, at_least=0.9)


def memory(storage: Any) -> list[Figure]:
    def up() -> None:
        store(storage, LARGE)

    def down() -> None:
        with storage.open_range(NAME) as file:
            while file.read(MIB):
                pass

    figures = []
    gc.collect()
    process = psutil.Process()
    resident = process.memory_info().rss
    for way, move in (("to", up), ("from", down)):
        forget_peak(process)
        move()
        extra = peak_bytes(process) - resident
        what = f"extra memory for 1 GiB {way} S3, of {EXTRA_BYTES // MIB} MiB"
        figures.append(Figure(what, f"{extra / MIB:.0f} MiB", extra / EXTRA_BYTES, at_most=1))
    storage.delete(NAME)
    return figures


def listing(storage: Any) -> Figure:
    """What is held while 10,000 names go by, beside what one page of them takes."""
    from django.core.files.base import ContentFile

    def put(number: int) -> None:
        storage.save(f"audio/{number:05}/audio.mp3", ContentFile(b"x"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(NAMES)))
    began = perf_counter()
    go_through(storage, "audio/", NAMES)
    seconds = perf_counter() - began
    page = traced_memory(lambda: go_through(storage, "audio/00", PAGE))
    whole = traced_memory(lambda: go_through(storage, "audio/", NAMES))
    measured = f"{NAMES / seconds:.0f}/s, {whole / MIB:.1f} MiB"
    return Figure("memory to list 10,000 names to that for one page", measured, whole / page, at_most=1.5)


def boto3_alone(storage: Any) -> float:
    from boto3.s3.transfer import TransferConfig
    from django.conf import settings

    config = TransferConfig(
        multipart_threshold=settings.STORAGE_PART_BYTES,
        multipart_chunksize=settings.STORAGE_PART_BYTES,
        max_concurrency=settings.STORAGE_PARALLEL_PARTS,
    )
    client = storage.requests.client
    began = perf_counter()
    client.upload_fileobj(
        BufferedReader(Pieces(SIZE), MIB),
        storage.bucket_name,
        PEER,
        ExtraArgs={"ServerSideEncryption": "AES256"},
        Config=config,
    )
    seconds = perf_counter() - began
    remove(storage, PEER, SIZE)
    return seconds


def ours(storage: Any, size: int) -> float:
    began = perf_counter()
    store(storage, size)
    seconds = perf_counter() - began
    remove(storage, NAME, size)
    return seconds


def store(storage: Any, size: int) -> None:
    """As an upload is: both hashes are computed of the bytes as they pass."""
    from objectstore.content import StreamedContent
    from objectstore.hashing import StreamDigests

    digests = StreamDigests()

    def hashed() -> Iterator[memoryview]:
        for piece in pieces(size):
            digests.update(piece)  # type: ignore[arg-type]
            yield piece
        digests.close()

    def facts() -> dict[str, str]:
        return {"checksum_md5": digests.md5, "checksum_sha256": digests.sha256} if digests.size == size else {}

    storage.save(NAME, StreamedContent(hashed(), expected_bytes=size), metadata=facts)


def pieces(size: int) -> Iterator[memoryview]:
    with memoryview(NOISE) as view:
        for start in range(0, size, MIB):
            yield view[start % len(NOISE) :][:MIB]


class Pieces(RawIOBase):
    """The same bytes as a stream that cannot be rewound, as those of a connection cannot."""

    def __init__(self, size: int) -> None:
        self._left = pieces(size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = next(self._left, b"")
        buffer[: len(piece)] = piece
        return len(piece)


def remove(storage: Any, name: str, size: int) -> None:
    if storage.stat(name).size != size:
        raise RuntimeError("the object has another size")
    storage.delete(name)


def go_through(storage: Any, prefix: str, expected: int) -> None:
    count = sum(1 for _stat in storage.list(prefix))
    if count != expected:
        raise RuntimeError(f"{count} names were listed")


def traced_memory(action: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    sys.exit(main())

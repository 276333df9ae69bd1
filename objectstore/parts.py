"""Sends content in parallel parts from a few reused buffers."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from queue import SimpleQueue
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, Self, TypeVar

from django.core.files.base import File

Result = TypeVar("Result")

#: Each upload has one buffer to fill and one to send; this limits the further ones of all uploads in a process.
MORE_BUFFERS = BoundedSemaphore(16)
OWN_BUFFERS = 2


class PartReader:
    """Reads ``content.chunks()`` into parts of ``part_bytes``; the last one is shorter. A context manager.

    At most ``parallel`` parts are lent at a time, fewer while other uploads have many: ``next_part`` waits for a
    ``release``. With ``grows_after``, parts double after that many, for streams of unknown length.
    """

    def __init__(self, content: "File[Any]", part_bytes: int, parallel: int, *, grows_after: int = 0) -> None:
        self.ended = False
        self._grows_after = grows_after
        self._read = 0
        self._pieces = iter(content.chunks())
        self._part_bytes = part_bytes
        self._most = parallel + 1
        self._made = 0
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._rest = memoryview(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._made - OWN_BUFFERS):
            MORE_BUFFERS.release()

    def next_part(self) -> bytearray:
        """``ended`` says whether it is the last. Reading errors come out unchanged."""
        if self._grows_after and self._read and self._read % self._grows_after == 0:
            self._part_bytes *= 2
        self._read += 1
        part = self._buffer()
        filled = 0
        while filled < self._part_bytes:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    self.ended = True
                    del part[filled:]
                    return part
                self._rest = memoryview(piece)
            taken = self._rest[: self._part_bytes - filled]
            if len(part) == filled:
                part += taken
            else:
                # A buffer that was used for a smaller part is filled first, and then grows.
                taken = taken[: len(part) - filled]
                with memoryview(part) as used_again:
                    used_again[filled : filled + len(taken)] = taken
            filled += len(taken)
            self._rest = self._rest[len(taken) :]
        # Only a further read shows whether this is the last part, and an empty last part cannot be sent.
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                self.ended = True
                break
            self._rest = memoryview(piece)
        return part

    def release(self, part: bytearray) -> None:
        self._free.put(part)

    def _buffer(self) -> bytearray:
        if self._free.empty() and self._made < self._most:
            own = self._made < OWN_BUFFERS
            if own or MORE_BUFFERS.acquire(blocking=False):
                self._made += 1
                # It grows as needed, so that a small file takes little memory.
                return bytearray()
        return self._free.get()


def send_parts(
    reader: PartReader, first: bytearray, send: Callable[[int, bytearray], Result], *, parallel: int
) -> list[Result]:
    """Call ``send(number, part)`` for each part, ``parallel`` at a time, numbered from 1; return the results in order.
    Raises the first error once no part is being sent.
    """
    sent: list[Future[Result]] = []

    def send_and_release(number: int, part: bytearray) -> Result:
        try:
            return send(number, part)
        finally:
            reader.release(part)

    with ThreadPoolExecutor(parallel, thread_name_prefix="part") as pool:
        try:
            oldest = 0
            for number, part in enumerate(parts_from(reader, first), start=1):
                sent.append(pool.submit(copy_context().run, send_and_release, number, part))
                for future in sent[oldest:]:
                    if future.done():
                        future.result()
                while oldest < len(sent) and sent[oldest].done():
                    oldest += 1
            return [future.result() for future in sent]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def parts_from(reader: PartReader, first: bytearray) -> Iterator[bytearray]:
    yield first
    while not reader.ended:
        yield reader.next_part()

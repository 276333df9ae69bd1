"""SHA-256 and MD5 of a stream in one pass."""

import hashlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

#: From this size on, a piece is worth a second thread (hashlib releases the interpreter's lock).
PARALLEL_FROM_BYTES = 256 * 1024
READ_BYTES = 1024**2
#: Pieces that may wait for MD5, so that a short delay of one thread does not stop the other.
WAITING_PIECES = 4


class StreamDigests:
    """Size and both digests, with MD5 on its own thread."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()

    def update(self, piece: bytes) -> None:
        if len(piece) >= PARALLEL_FROM_BYTES:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="md5")
            self._wait(leave=WAITING_PIECES - 1)
            self._waiting.append(self._thread.submit(self._md5.update, piece))
        else:
            self._wait()
            self._md5.update(piece)
        self._sha256.update(piece)
        self.size += len(piece)

    def close(self) -> None:
        """The digests stay readable."""
        self._wait()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str:
        return self._md5.hexdigest()

    @property
    def facts(self) -> dict[str, int | str]:
        return {"size": self.size, "sha256": self.sha256, "md5": self.md5}

    def _wait(self, *, leave: int = 0) -> None:
        while len(self._waiting) > leave:
            self._waiting.popleft().result()


def digest_of(pieces: Iterable[bytes]) -> StreamDigests:
    digests = StreamDigests()
    try:
        for piece in pieces:
            digests.update(piece)
    finally:
        digests.close()
    return digests


def digest_of_file(file: BinaryIO) -> StreamDigests:
    """From the present position on."""
    return digest_of(iter(partial(file.read, READ_BYTES), b""))

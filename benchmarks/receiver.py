"""The limit of an upload: one loop that receives, hashes, writes, and does nothing else.

It reads into four buffers by turns; SHA-256 is computed on the loop's own thread and MD5, if it is wanted, on a second
one.
"""

import hashlib
import os
import socket
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import psutil

from benchmarks.client import LENGTH_BYTES, MIB

BUFFERS = 4


class Receiver:
    """Receives on ``port``, in a ``process`` of its own."""

    def __init__(self, *, md5: bool = True) -> None:
        self._md5 = md5
        self._process = ProcessPoolExecutor(1, get_context("spawn"))
        self.port, pid = self._process.submit(_listen).result()
        self.process = psutil.Process(pid)

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.shutdown()

    def receive(self, path: Path, *, sync: bool) -> "Future[None]":
        """Take one connection's bytes to ``path``; with ``sync`` they are on the disk before it is answered."""
        return self._process.submit(_receive, path, sync, self._md5)


_listener: socket.socket


def _listen() -> tuple[int, int]:
    global _listener
    _listener = socket.create_server(("127.0.0.1", 0))
    return int(_listener.getsockname()[1]), os.getpid()


def _receive(path: Path, sync: bool, with_md5: bool) -> None:
    connection, _ = _listener.accept()
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    buffers = [bytearray(MIB) for _ in range(BUFFERS)]
    hashing: list[Future[None]] = []
    with connection, path.open("xb", buffering=0) as file, ThreadPoolExecutor(1) as thread:
        left = int.from_bytes(connection.recv(LENGTH_BYTES, socket.MSG_WAITALL), "big")
        turn = 0
        while left:
            if len(hashing) == BUFFERS:
                hashing.pop(0).result()
            size = connection.recv_into(buffers[turn], min(MIB, left), socket.MSG_WAITALL)
            if not size:
                raise RuntimeError("the client went away")
            with memoryview(buffers[turn])[:size] as piece:
                if with_md5:
                    hashing.append(thread.submit(_update, md5, buffers[turn], size))
                sha256.update(piece)
                file.write(piece)
            left -= size
            turn = (turn + 1) % BUFFERS
        for future in hashing:
            future.result()
        if sync:
            os.fsync(file.fileno())
        md5.digest()
        connection.sendall(sha256.digest())


def _update(digest: "hashlib._Hash", buffer: bytearray, size: int) -> None:
    with memoryview(buffer)[:size] as piece:
        digest.update(piece)

"""A connection to the server that can be cut."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Line:
    """Passes bytes on between a port of its own and the server's, until it is cut."""

    def __init__(self, address: str) -> None:
        self.target = (urlsplit(address).hostname or "", urlsplit(address).port or 80)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.is_cut = False
        #: What clients have sent so far, and after how much of it the line is cut.
        self.sent_bytes = 0
        self.cut_after: int | None = None
        self.ends: list[socket.socket] = []
        self.threads: list[threading.Thread] = []

    def cut(self) -> None:
        """Whatever is under way breaks off; whoever calls is hung up on until ``mend``."""
        self.is_cut = True
        for end in self.ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self.is_cut = False
        self.cut_after = None

    def count(self, sent_bytes: int) -> None:
        self.sent_bytes += sent_bytes
        if self.cut_after is not None and self.sent_bytes > self.cut_after:
            self.cut()

    def start(self, target: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=target, args=args)
        self.threads.append(thread)
        thread.start()

    def accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                if self.is_cut:
                    client.close()
                else:
                    self.start(self.connect, client)

    def connect(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            self.ends += [client, server]
            answers = threading.Thread(target=pass_on, args=(server, client))
            answers.start()
            pass_on(client, server, count=self.count)
            answers.join()


def pass_on(source: socket.socket, sink: socket.socket, *, count: Callable[[int], None] = lambda size: None) -> None:
    with suppress(OSError):
        while piece := source.recv(64 * 1024):
            sink.sendall(piece)
            count(len(piece))
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def line_to(address: str) -> Iterator[Line]:
    line = Line(address)
    with line.listener:
        line.start(line.accept)
        try:
            yield line
        finally:
            # Closing alone would not wake a thread that waits in accept.
            with suppress(OSError):
                line.listener.shutdown(socket.SHUT_RDWR)
            line.cut()
            for thread in line.threads:
                thread.join()

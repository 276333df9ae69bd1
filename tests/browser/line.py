"""A line to the server that can be cut, as a train does it in a tunnel."""

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
            pass_on(client, server)
            answers.join()


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(64 * 1024):
            sink.sendall(piece)
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

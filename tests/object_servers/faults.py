"""A proxy in front of an object store that does what networks and providers do on bad days, when it is told to.

It changes nothing that a client signs: the head of a request reaches the server as it was sent, with the client's own
``Host``. Only ``Expect: 100-continue``, which is for the next hop, is answered here.
"""

import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, BinaryIO, Literal, Self
from urllib.parse import urlsplit

PIECE_BYTES = 64 * 1024
RESET = struct.pack("ii", 1, 0)
#: A server that answers nothing at all for so many seconds fails the test that asked it.
SERVER_SECONDS = 30


@dataclass(frozen=True)
class Fault:
    """What becomes of a request, and of the answer to it.

    With a ``status`` the server never hears of the request. In the middle of a body, or at once where there is none,
    it can be ``cut`` (the connection ends there), ``reset``, or ``stall``ed (nothing comes any more, until the client
    hangs up). ``corrupt`` is one byte of the body. ``refused`` requests are reset before they are read; of ``lost``
    answers the client gets nothing, when the server has done what it was asked for. ``meanwhile`` is called then,
    before the client can send the request again.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    request: Literal["", "refused", "cut", "reset", "stall", "corrupt"] = ""
    answer: Literal["", "lost", "cut", "reset", "stall", "corrupt"] = ""
    meanwhile: Callable[[], object] | None = None


@dataclass
class Exchange:
    """One request that arrived. Sizes are those of bodies in bytes, as far as they were declared before."""

    method: str
    target: str
    sent_bytes: int
    answered_bytes: int = 0
    status: int = 0


@dataclass
class Rule:
    fault: Fault
    method: str
    target: re.Pattern[str]
    after: int
    times: int | None
    matched: int = 0
    fired: int = 0

    def fires(self, exchange: Exchange) -> bool:
        if self.method not in ("", exchange.method) or not self.target.search(exchange.target):
            return False
        self.matched += 1
        if self.matched <= self.after or (self.times is not None and self.fired >= self.times):
            return False
        self.fired += 1
        return True


class HangUp(Exception):
    """The connection with the client ends; as a ``reset``, or as if all were said."""

    def __init__(self, *, reset: bool = True) -> None:
        self.reset = reset


class FaultyProxy:
    """Listens on ``netloc`` of 127.0.0.1 while it is used as a context manager, and ends all it began with it."""

    def __init__(self, server_url: str) -> None:
        server = urlsplit(server_url)
        assert server.hostname is not None
        assert server.port is not None
        self._server = (server.hostname, server.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.netloc = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = server._replace(netloc=self.netloc).geturl()
        self.seen: list[Exchange] = []
        self._rules: list[Rule] = []
        self._lock = Lock()
        self._open: set[socket.socket] = set()
        self._threads = [Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._listener.shutdown(socket.SHUT_RDWR)
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=SERVER_SECONDS)
            assert not thread.is_alive()
        self._listener.close()

    @contextmanager
    def doing(
        self, fault: Fault, *, method: str = "", target: str = "", after: int = 0, times: int | None = None
    ) -> Iterator[Rule]:
        """For requests of this method to a target (path and query) in which this pattern is found: ``fault``.

        The first ``after`` of them are spared, and those that come when it was done ``times`` times.
        """
        rule = Rule(fault, method, re.compile(target), after, times)
        with self._lock:
            self._rules.append(rule)
        try:
            yield rule
        finally:
            with self._lock:
                self._rules.remove(rule)

    @contextmanager
    def watched(self) -> Iterator[list[Exchange]]:
        """The requests that arrive in the block."""
        with self._lock:
            before = len(self.seen)
        seen: list[Exchange] = []
        yield seen
        with self._lock:
            seen += self.seen[before:]

    def _listen(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(client)
                thread = Thread(target=self._serve, args=[client])
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, client.makefile("rb") as reader:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                while head := Head.read(reader):
                    self._exchange(client, reader, head)
            except HangUp as end:
                if end.reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        with self._lock:
            self._open.discard(client)

    def _exchange(self, client: socket.socket, reader: BinaryIO, head: "Head") -> None:
        method, target, _version = head.first.split(" ", 2)
        exchange = Exchange(method, target, head.length or 0)
        with self._lock:
            self.seen.append(exchange)
            fault = next((rule.fault for rule in self._rules if rule.fires(exchange)), Fault())
        if fault.request == "refused":
            raise HangUp
        expected = head.values.pop("expect", None)
        if fault.status:
            if not expected:
                for _piece in head.body(reader):
                    pass
            headers = "".join(f"{name}: {value}\r\n" for name, value in fault.headers.items())
            length = f"Content-Length: {len(fault.body)}\r\n\r\n"
            client.sendall(f"HTTP/1.1 {fault.status} \r\n{headers}{length}".encode())
            if method != "HEAD":
                client.sendall(fault.body)
            raise HangUp(reset=False)
        if expected:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        with ExitStack() as stack:
            server = stack.enter_context(socket.create_connection(self._server, timeout=SERVER_SECONDS))
            answers = stack.enter_context(server.makefile("rb"))
            with self._lock:
                self._open.add(server)
            stack.callback(self._forget, server)
            self._ask(client, reader, head, server, fault.request)
            self._answer(client, answers, method, exchange, fault)
        if head.values.get("connection") == "close":
            raise HangUp(reset=False)

    def _forget(self, server: socket.socket) -> None:
        with self._lock:
            self._open.discard(server)

    def _ask(self, client: socket.socket, reader: BinaryIO, head: "Head", server: socket.socket, fault: str) -> None:
        if fault in ("reset", "stall") and not head.has_body:
            hang(client, reader, fault)
        body = spoilt(head.body(reader), fault, head.length)
        # One who refuses a request need not read all of it, and has an answer nevertheless.
        with suppress(BrokenPipeError, ConnectionResetError):
            server.sendall(head.encoded())
            for piece in body:
                if piece is None:
                    if fault != "cut":
                        hang(client, reader, fault)
                    server.shutdown(socket.SHUT_WR)
                else:
                    server.sendall(piece)
        for _piece in body:
            pass

    def _answer(self, client: socket.socket, answers: BinaryIO, method: str, exchange: Exchange, what: Fault) -> None:
        fault = what.answer
        head = Head.read(answers)
        if head is None:
            raise HangUp
        exchange.status = int(head.first.split(" ")[1])
        if method == "HEAD" or exchange.status in (204, 304):
            head.has_body = False
        exchange.answered_bytes = (PIECE_BYTES if head.length is None else head.length) if head.has_body else 0
        body = head.body(answers)
        if fault == "lost":
            for _piece in body:
                pass
            if what.meanwhile is not None:
                what.meanwhile()
            raise HangUp
        encoded = head.encoded()
        if fault and not head.has_body:
            if fault != "cut":
                client.sendall(encoded[: len(encoded) // 2])
            hang(client, None, fault)
        client.sendall(encoded)
        for piece in spoilt(body, fault, head.length):
            if piece is None:
                hang(client, None, fault)
            else:
                client.sendall(piece)
        if head.values.get("connection") == "close":
            raise HangUp(reset=False)


@dataclass
class Head:
    """The first line and the headers of a message; ``length`` is None where its body comes in chunks."""

    first: str
    values: dict[str, str]
    names: dict[str, str]
    length: int | None
    has_body: bool

    @classmethod
    def read(cls, reader: BinaryIO) -> "Head | None":
        """The next one; None where the connection ended."""
        first = reader.readline()
        values: dict[str, str] = {}
        names: dict[str, str] = {}
        while (line := reader.readline()) not in (b"\r\n", b""):
            name, _colon, value = line.decode("latin-1").partition(":")
            values[name.lower()], names[name.lower()] = value.strip(), name
        if not first or not line:
            return None
        length = None if "chunked" in values.get("transfer-encoding", "") else int(values.get("content-length", "0"))
        return cls(first.decode("latin-1").strip(), values, names, length, length != 0)

    def encoded(self) -> bytes:
        lines = [self.first, *(f"{self.names[name]}: {value}" for name, value in self.values.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def body(self, reader: BinaryIO) -> Iterator[tuple[bytes, bool]]:
        """The body as it comes, and what of it is content; the rest says where chunks end."""
        if not self.has_body:
            return
        if self.length is not None:
            yield from pieces(reader, self.length)
            return
        size = -1
        while size:
            line = reader.readline()
            size = int(line.split(b";")[0], 16)
            yield line, False
            yield from pieces(reader, size)
            yield reader.readline(), False


def pieces(reader: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    while size:
        piece = reader.read(min(size, PIECE_BYTES))
        if not piece:
            raise HangUp
        size -= len(piece)
        yield piece, True


def spoilt(body: Iterator[tuple[bytes, bool]], fault: str, length: int | None) -> Iterator[bytes | None]:
    """What is sent on; None where the fault breaks it off."""
    left = (PIECE_BYTES if length is None else length) // 2
    is_broken = False
    for piece, is_content in body:
        hit = is_content and fault and 0 <= left < len(piece)
        if is_broken:
            # The rest is read, so that the one who sends it can hear an answer.
            continue
        if hit and fault == "corrupt":
            yield piece[:left] + bytes([piece[left] ^ 1]) + piece[left + 1 :]
        elif hit:
            yield piece[:left]
            yield None
            is_broken = True
        else:
            yield piece
        if is_content:
            left -= len(piece)


def hang(client: socket.socket, reader: BinaryIO | None, fault: str) -> None:
    """End the connection with the client as the fault wants it."""
    if fault == "stall":
        stream: Any = reader or client.makefile("rb")
        with suppress(OSError):
            while stream.read(PIECE_BYTES):
                pass
        if reader is None:
            stream.close()
    raise HangUp(reset=fault == "reset")

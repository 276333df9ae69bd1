"""A client connection without a waiting thread."""

import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from gunicorn import util
from gunicorn.config import Config
from gunicorn.http.body import LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import FileWrapper

from audiotricks.webserver.pace import Pace

#: The interval at which a waiting thread checks a client's pace.
STEP_SECONDS = 1.0
#: The longest read from a socket.
MAX_RECV_BYTES = 1024**2
#: Bytes of a response that are made before they are sent.
PIECE_BYTES = 64 * 1024
SENDFILE_BYTES = 8 * 1024**2


class State(Enum):
    IDLE = auto()
    """No byte of the next request has come."""
    READING = auto()
    """The head, or a body that is read before a thread takes the request."""
    QUEUED = auto()
    """An upload that waits for a thread."""
    BUSY = auto()
    """A thread has it."""
    SENDING = auto()
    """The client reads the response slower than it is made."""
    DRAINING = auto()
    """The rest of a refused body is read and discarded."""
    LINGERING = auto()
    """Half closed after the response, so that the client reads it before it sees the end."""
    CLOSED = auto()


class ClientUnreader(SocketUnreader):
    """Reads what the poller has read, then from the socket at the client's pace."""

    def __init__(self, sock: socket.socket, pace: Pace) -> None:
        super().__init__(sock)
        self.pace = pace
        #: Read no more: for the parser in the poller, and after the client's last byte.
        self.ended = True

    @property
    def held(self) -> int:
        return int(self.buf.getbuffer().nbytes)

    def add(self, piece: bytes) -> None:
        self.buf.seek(0, os.SEEK_END)
        self.buf.write(piece)

    def take(self, buffer: memoryview) -> int:
        """Move buffered bytes into ``buffer``; return how many."""
        data = self.take_buffered()
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        self.add(data[count:])
        return count

    def receive_into(self, buffer: memoryview) -> int:
        """Read from the socket, at most as much as ``buffer`` holds; 0 at the client's end. Raises TooSlow."""
        if self.ended:
            return 0
        while True:
            began = time.monotonic()
            try:
                count: int | None = self.sock.recv_into(buffer)
            except TimeoutError:
                count = None
            self.pace.note(time.monotonic() - began, count or 0)
            if count is not None:
                return count

    def discard(self, count: int) -> int:
        """Return how many of ``count`` bytes were buffered."""
        data = self.take_buffered()
        self.add(data[count:])
        return min(count, len(data))

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Raises TooSlow. The socket's time-out must be STEP_SECONDS."""
        if self.ended:
            return b""
        size = min(max(size_hint or 0, self.mxchunk), MAX_RECV_BYTES)
        while True:
            began = time.monotonic()
            try:
                piece: bytes | None = self.sock.recv(size)
            except TimeoutError:
                piece = None
            self.pace.note(time.monotonic() - began, len(piece or b""))
            if piece is not None:
                return piece


class Outbox:
    """The socket of gunicorn's Response, with a buffer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.waiting = bytearray()
        self.written = 0

    def sendall(self, data: bytes) -> None:
        self.waiting += data

    def send(self, data: bytes) -> int:
        self.waiting += data
        return len(data)

    def flush(self) -> bool:
        """False when the client must take some bytes first."""
        while self.waiting:
            try:
                sent = self.sock.send(self.waiting)
            except BlockingIOError:
                return False
            self.written += sent
            del self.waiting[:sent]
        return True

    def taken(self) -> int:
        """Bytes that the client acknowledged; sent ones where unknown."""
        unacknowledged = 0
        with suppress(OSError):
            unacknowledged = struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, b"\0" * 4))[0]
        return self.written - unacknowledged


class Progress(Enum):
    DONE = auto()
    MORE = auto()
    BLOCKED = auto()


class Answer:
    """A response that several threads send piece by piece."""

    def __init__(self, response: Any, environ: dict[str, Any], outbox: Outbox, result: Any) -> None:
        self.response = response
        self.environ = environ
        self.outbox = outbox
        self.result = result
        self.began = time.monotonic()
        self.made = False
        self.pieces: Iterator[bytes] = iter(())
        self.file: int | None = None
        self.offset = self.left = 0
        if isinstance(result, FileWrapper) and self._can_be_sent_by_the_kernel(result):
            self.file = result.filelike.fileno()
            self.offset = os.lseek(self.file, 0, os.SEEK_CUR)
            self.left = response.response_length
            response.send_headers()
        else:
            self.pieces = iter(()) if response._omits_body else iter(result)

    def _can_be_sent_by_the_kernel(self, result: FileWrapper) -> bool:
        response = self.response
        return bool(
            response.can_sendfile()
            and util.has_fileno(result.filelike)
            and response.response_length is not None
            and not response._omits_body
        )

    def advance(self, until: float, *, patience: float = 0) -> Progress:
        """Send one piece or more until the moment ``until``; wait ``patience`` seconds for a slow client."""
        while True:
            if self.file is None and not self.made and not self.outbox.waiting:
                self._make()
            if not self._send():
                if patience and self._is_taken_within(patience):
                    continue
                return Progress.BLOCKED
            if self.made:
                return Progress.DONE
            if time.monotonic() >= until:
                return Progress.MORE

    def _send(self) -> bool:
        if not self.outbox.flush():
            return False
        if self.file is None or self.made:
            return True
        if self.left:
            try:
                sent = os.sendfile(self.outbox.sock.fileno(), self.file, self.offset, min(self.left, SENDFILE_BYTES))
            except BlockingIOError:
                return False
            if not sent:
                raise OSError("the file is shorter than was announced")
            self.outbox.written += sent
            self.offset += sent
            self.left -= sent
        if not self.left:
            self.made = True
        return True

    def _make(self) -> None:
        while len(self.outbox.waiting) < PIECE_BYTES:
            try:
                piece = next(self.pieces)
            except StopIteration:
                self.response.close()
                self.made = True
                return
            self.response.write(piece)

    def _is_taken_within(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self.outbox.sock, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        if hasattr(self.result, "close"):
            self.result.close()


class Connection:
    def __init__(self, cfg: Config, sock: socket.socket, client: Any, server: Any, pace: Pace) -> None:
        self.sock = sock
        self.client = client
        self.server = server
        self.unreader = ClientUnreader(sock, pace)
        self.parser = RequestParser(cfg, sock, client)
        self.parser.unreader = self.unreader
        self.pace = pace
        self.state = State.IDLE
        #: The events that the selector waits for, or 0.
        self.events = 0
        self.deadline = 0.0
        self.head = bytearray()
        self.searched = 0
        # gunicorn's stubs are for another version.
        self.request: Any = None
        #: Body bytes that are read before a thread takes the request.
        self.missing = 0
        #: Whether the application gets a body that ends too early.
        self.streams = False
        self.truncated = False
        self.answer: Answer | None = None
        self.keeps = False
        #: Bytes to discard.
        self.unwanted = 0
        #: The beginning of the wait for the body.
        self.begun = 0.0
        #: The beginning of the wait for the client, and what it had taken then.
        self.since = 0.0
        self.taken = 0
        #: Its share of the worker's sum of held bytes.
        self.held = 0
        self.address = ""

    @property
    def unsent(self) -> int:
        return len(self.answer.outbox.waiting) if self.answer else 0

    @property
    def peer(self) -> str:
        return str(self.client[0]) if isinstance(self.client, tuple) else ""

    def begin_next_request(self) -> None:
        self.parser.mesg = None
        self.request = self.answer = None
        self.head = bytearray(self.unreader.take_buffered())
        self.searched = self.missing = 0
        self.streams = self.truncated = self.keeps = False
        self.unreader.ended = True
        self.address = ""

    def read_into(self, buffer: memoryview) -> int:
        """Read the request's body, whose length is known, into ``buffer`` without a copy; 0 at the end. Never reads
        into the next request. Nothing else may have read a part of the body. Raises TooSlow, OSError.
        """
        body = self.request.body
        wanted = buffer[: body.reader.length]
        if not wanted:
            return 0
        try:
            count = self.unreader.take(wanted) if self.unreader.held else self.unreader.receive_into(wanted)
        except BaseException:
            body.failed = True
            raise
        body.reader.length -= count
        return count

    def is_idle(self, seconds: float) -> bool:
        """Whether no byte of the body comes within ``seconds``; False at the client's end. Raises TooSlow."""
        if self.unreader.held or self.unreader.ended:
            return False
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        began = time.monotonic()
        is_idle = not poll.poll(seconds * 1000)
        waited = time.monotonic() - began
        if is_idle:
            self.pace.note(waited, 0)
        else:
            # Its bytes count together with the wait for them, when they are read.
            self.pace.waited += waited
        return is_idle

    def unread_length(self) -> int | None:
        """None for a body of unknown length."""
        if self.request is None:
            return 0
        reader = self.request.body.reader
        return int(reader.length) if isinstance(reader, LengthReader) else None

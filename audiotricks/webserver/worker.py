"""gunicorn's threaded worker, without threads that wait for clients.

The main thread reads heads and small bodies, discards rests, and waits for slow clients. Complete requests get one of
``threads`` threads, uploads one of WEB_TRANSFERS others; long responses are sent by threads of their own, in turns.

Keeps the main loop of :class:`gunicorn.workers.gthread.ThreadWorker`, and so depends on the pinned gunicorn.
"""

import errno
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string
from gunicorn.config import Config
from gunicorn.http import errors as http_errors
from gunicorn.http import wsgi
from gunicorn.workers.gthread import ThreadWorker

from audiotricks.addresses import is_trusted_proxy, normal_address, sender_address
from audiotricks.database import release_connection
from audiotricks.errors import RequestTimeout, TooManyTransfers
from audiotricks.web.streaming import IS_IDLE, RECEIVE, streams_body, warm_up
from audiotricks.webserver.connection import STEP_SECONDS, Answer, Connection, Outbox, Progress, State
from audiotricks.webserver.pace import Demand, Pace, TooSlow

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
#: Bytes of an upload before it gets a thread.
FIRST_BYTES = 16 * 1024
#: A slower one gets a thread after so long, if half of them are free: its bytes are saved only there.
FIRST_SECONDS = 3.0
#: Bytes of all waiting requests and responses of a process.
MAX_HELD_BYTES = 64 * 1024**2
#: Bytes of a refused body: many clients read only after they have sent everything.
MAX_UNWANTED_BYTES = 64 * 1024**2
LINGER_SECONDS = 2.0
#: A thread's turn at sending one response.
TURN_SECONDS = 0.25
#: How long a sending thread waits for a client before it leaves this to the main thread.
PATIENCE_SECONDS = 0.05
#: States in which a connection may be closed to make room, in this order.
GIVEN_UP = (State.IDLE, State.LINGERING, State.READING, State.DRAINING, State.QUEUED, State.SENDING)
OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Worker(ThreadWorker):
    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        if cfg.is_ssl:
            raise RuntimeError("This server speaks plain HTTP/1.1: end TLS in a proxy in front of it.")

    def init_process(self) -> None:
        self.demand = Demand()
        #: Connections without a thread.
        self.parked: set[Connection] = set()
        self.held_bytes = 0
        self.queue: deque[Connection] = deque()
        self.uploading: Counter[str] = Counter()
        self.next_look = 0.0
        self.uploads = ThreadPoolExecutor(settings.WEB_TRANSFERS, "upload")
        self.senders = ThreadPoolExecutor(settings.WEB_TRANSFERS, "send")
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        warm_up()
        # Imported only after the application has set Django up; the master loads this class without it.
        self.refusal = import_string("audiotricks.webserver.refusals.refusal")

    def run(self) -> None:
        super().run()
        self.uploads.shutdown(wait=False, cancel_futures=True)
        self.senders.shutdown(wait=False, cancel_futures=True)

    # New connections

    def accept(self, listener: Any) -> None:
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in OUT_OF_FILES:
                self.make_room()
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        sock.setblocking(False)
        conn = Connection(self.cfg, sock, client, listener.getsockname(), self.new_pace())
        self.nr_conns += 1
        conn.deadline = time.monotonic() + settings.REQUEST_SECONDS
        self.park(conn, State.READING, selectors.EVENT_READ)
        if self.nr_conns >= self.worker_connections:
            self.make_room()

    def new_pace(self) -> Pace:
        return Pace(settings.TRANSFER_LEAST_BYTES_PER_SECOND, settings.UPLOAD_STALL_SECONDS, self.demand)

    def make_room(self) -> None:
        """Close a connection without a thread: an idle one, else the oldest of the peer with most; a proxy's last."""
        if not self.parked:
            return
        peers = Counter(conn.peer for conn in self.parked)

        def rank(conn: Connection) -> tuple[bool, bool, int, int, float]:
            peer = normal_address(conn.peer)
            idle = conn.state in (State.IDLE, State.LINGERING)
            return not idle, is_trusted_proxy(peer), -peers[conn.peer], GIVEN_UP.index(conn.state), conn.deadline

        self.drop(min(self.parked, key=rank))

    # Waiting connections

    def park(self, conn: Connection, state: State, events: int) -> None:
        """Let the main thread wait for the client, or without events for something else."""
        conn.state = state
        self.parked.add(conn)
        if events == conn.events:
            return
        if not conn.events:
            self.poller.register(conn.sock, events, partial(self.on_ready, conn))
        elif not events:
            self.poller.unregister(conn.sock)
        else:
            self.poller.modify(conn.sock, events, partial(self.on_ready, conn))
        conn.events = events

    def unpark(self, conn: Connection) -> None:
        self.parked.discard(conn)
        if conn.events:
            self.poller.unregister(conn.sock)
            conn.events = 0
        conn.state = State.BUSY

    def on_ready(self, conn: Connection, _sock: Any = None) -> None:
        if conn not in self.parked:
            return
        self.guard(conn, self.READY[conn.state])

    def guard(self, conn: Connection, step: Callable[["Worker", Connection], None]) -> None:
        try:
            step(self, conn)
        except (ConnectionError, TimeoutError):
            self.close(conn)
        except Exception:
            self.log.exception("A connection failed.")
            self.close(conn)

    def hold(self, conn: Connection, count: int) -> None:
        conn.held += count
        self.held_bytes += count
        while self.held_bytes > MAX_HELD_BYTES and (full := [other for other in self.parked if other.held]):
            self.drop(max(full, key=lambda other: other.held))

    # Reading a request

    def read(self, conn: Connection) -> None:
        try:
            piece = conn.sock.recv(READ_BYTES if conn.request is None else min(conn.missing, READ_BYTES))
        except (BlockingIOError, InterruptedError):
            return
        except (ConnectionError, TimeoutError):
            if not (conn.streams and conn.unreader.held):
                raise
            piece = b""
        if conn.state is State.IDLE:
            conn.deadline = time.monotonic() + settings.REQUEST_SECONDS
            conn.state = State.READING
        if conn.request is None:
            if not piece:
                self.close(conn)
                return
            conn.head += piece
            self.hold(conn, len(piece))
            self.look_for_request(conn)
        elif piece:
            conn.unreader.add(piece)
            conn.missing -= len(piece)
            self.hold(conn, len(piece))
            if not conn.missing and conn in self.parked:
                self.dispatch(conn)
        elif conn.streams:
            self.hand_over_truncated(conn)
        else:
            self.close(conn)

    def look_for_request(self, conn: Connection) -> None:
        if conn not in self.parked:
            return
        start = 2 if conn.head.startswith(b"\r\n") else 0
        found = conn.head.find(b"\r\n\r\n", max(start, conn.searched - 3)) >= 0
        conn.searched = len(conn.head)
        if not found and len(conn.head) <= MAX_HEAD_BYTES:
            return
        conn.unreader.add(bytes(conn.head))
        conn.head.clear()
        try:
            conn.request = next(conn.parser)
        except StopIteration:
            self.close(conn)
        except http_errors.NoMoreData:
            self.refuse(conn, http_errors.LimitRequestHeaders("the head is too long"))
        except Exception as error:  # noqa: BLE001 - whatever the parser raises is the client's to know
            self.refuse(conn, error)
        else:
            # A response names the version that this server speaks (RFC 9110, section 6.2).
            conn.request.version = min(conn.request.version, (1, 1))
            self.read_body(conn)

    def read_body(self, conn: Connection) -> None:
        request = conn.request
        assert request is not None
        length = conn.unread_length()
        conn.missing = 0 if length is None else max(0, length - conn.unreader.held)
        expects_word, request._expected_100_continue = request._expected_100_continue, False
        if length is None or not conn.missing:
            self.dispatch(conn)
            return
        conn.streams = streams_body(request.method, request.path)
        if conn.streams or length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            conn.missing = min(conn.missing, max(0, FIRST_BYTES - conn.unreader.held))
        conn.since = conn.begun = time.monotonic()
        conn.taken = conn.unreader.held
        if expects_word:
            conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not conn.missing:
            self.dispatch(conn)

    def hand_over_truncated(self, conn: Connection) -> None:
        conn.truncated = True
        self.unpark(conn)
        self.tpool.submit(self.serve, conn)

    def dispatch(self, conn: Connection) -> None:
        self.unpark(conn)
        length = conn.unread_length()
        if length is not None and length <= conn.unreader.held:
            self.tpool.submit(self.serve, conn)
            return
        conn.unreader.ended = False
        if length is None:
            # No view takes a body of unknown length, so it is refused unread.
            self.tpool.submit(self.serve, conn)
            return
        conn.address = self.address_of(conn)
        conn.deadline = time.monotonic() + settings.UPLOAD_STALL_SECONDS
        self.queue.append(conn)
        self.park(conn, State.QUEUED, 0)
        self.start_uploads()

    def start_uploads(self) -> None:
        """Clients with the fewest uploads go first."""
        while self.queue and self.uploading.total() < settings.WEB_TRANSFERS:
            conn = min(self.queue, key=lambda waiting: self.uploading[waiting.address])
            self.queue.remove(conn)
            self.unpark(conn)
            self.uploading[conn.address] += 1
            self.uploads.submit(self.receive, conn)
        self.demand.pressing = bool(self.queue)

    def address_of(self, conn: Connection) -> str:
        assert conn.request is not None
        forwarded = ",".join(value for name, value in conn.request.headers if name == "X-FORWARDED-FOR")
        return sender_address(conn.peer, forwarded)

    # In a thread

    def receive(self, conn: Connection) -> None:
        # The connection may be at its next request when this thread ends.
        address = conn.address
        try:
            self.serve(conn)
        finally:
            self.method_queue.defer(self.upload_ended, address)

    def upload_ended(self, address: str) -> None:
        self.uploading[address] -= 1
        if not self.uploading[address]:
            del self.uploading[address]
        self.start_uploads()

    def serve(self, conn: Connection) -> None:
        request = conn.request
        assert request is not None
        outbox = Outbox(conn.sock)
        try:
            if not conn.unreader.ended:
                conn.sock.settimeout(STEP_SECONDS)
            create: Any = wsgi.create
            response, environ = create(request, outbox, conn.client, conn.server, self.cfg)
            environ["wsgi.multithread"] = True
            if conn.unread_length():
                environ[RECEIVE] = conn.read_into
                environ[IS_IDLE] = conn.is_idle
            self.count_request(response)
            result = self.wsgi(environ, response.start_response)
            if self.is_last(conn):
                response.force_close()
            conn.answer = Answer(response, environ, outbox, result)
            conn.sock.setblocking(False)
            self.advance(conn, seconds=0)
        except Exception as error:  # noqa: BLE001 - it is logged and answered there
            self.end_badly(conn, error)
        except SystemExit:
            self.method_queue.defer(self.close, conn)
            raise

    def count_request(self, response: wsgi.Response) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.alive = False
        if not self.alive or not self.cfg.keepalive:
            response.force_close()

    def is_last(self, conn: Connection) -> bool:
        """The rest of the body is too long, or its end unknown."""
        assert conn.request is not None
        left = conn.unread_length()
        return left is None or left > MAX_UNWANTED_BYTES or conn.request.body.failed or conn.truncated

    def advance(self, conn: Connection, *, seconds: float, patience: float = 0) -> None:
        answer = conn.answer
        assert answer is not None
        progress = answer.advance(time.monotonic() + seconds, patience=patience)
        if progress is Progress.DONE:
            conn.keeps = not answer.response.should_close()
            answer.close()
            self.log.access(
                answer.response, conn.request, answer.environ, timedelta(seconds=time.monotonic() - answer.began)
            )
            self.method_queue.defer(self.guard, conn, Worker.answered)
            return
        # Another thread continues, which must not wait for this thread's database connection.
        release_connection()
        if progress is Progress.MORE:
            self.senders.submit(self.send, conn)
        else:
            self.method_queue.defer(self.guard, conn, Worker.wait_until_taken)

    def send(self, conn: Connection) -> None:
        try:
            self.advance(conn, seconds=TURN_SECONDS, patience=PATIENCE_SECONDS)
        except Exception as error:  # noqa: BLE001 - it is logged and answered there
            self.end_badly(conn, error)

    def end_badly(self, conn: Connection, error: Exception) -> None:
        """Send an error if no response has begun; otherwise break off, so that the client notices."""
        answer, conn.answer = conn.answer, None
        if answer is not None:
            with suppress(Exception):
                answer.close()
        release_connection()
        # The main thread must not wait for this.
        with suppress(OSError):
            conn.sock.setblocking(False)
        if isinstance(error, ConnectionError):
            self.method_queue.defer(self.close, conn)
        elif answer is not None and answer.response.headers_sent:
            self.log.exception("Error handling request")
            self.method_queue.defer(self.close, conn)
        else:
            self.method_queue.defer(self.guard, conn, lambda worker, conn: worker.refuse(conn, error))

    def abandon(self, conn: Connection) -> None:
        answer, conn.answer = conn.answer, None
        if answer is not None:
            with suppress(Exception):
                answer.close()
            release_connection()

    # After a response

    def wait_until_taken(self, conn: Connection) -> None:
        answer = conn.answer
        assert answer is not None
        conn.since, conn.taken = time.monotonic(), answer.outbox.taken()
        self.park(conn, State.SENDING, selectors.EVENT_WRITE)
        self.bound_unsent()

    def bound_unsent(self) -> None:
        """Drop the largest buffered responses beyond the limit."""
        waiting = [conn for conn in self.parked if conn.state is State.SENDING]
        waiting.sort(key=lambda conn: conn.unsent)
        total = sum(conn.unsent for conn in waiting)
        while total > MAX_HELD_BYTES and len(waiting) > 1:
            total -= waiting[-1].unsent
            self.close(waiting.pop())

    def write(self, conn: Connection) -> None:
        self.note_taken(conn)
        if conn in self.parked:
            self.unpark(conn)
            self.senders.submit(self.send, conn)

    def note_taken(self, conn: Connection) -> None:
        """Drop a client that takes too little."""
        assert conn.answer is not None
        now, taken = time.monotonic(), conn.answer.outbox.taken()
        waited, moved = now - conn.since, taken - conn.taken
        conn.since, conn.taken = now, taken
        try:
            conn.pace.note(waited, moved)
        except TooSlow:
            self.log.info("A client took its answer too slowly and was cut off.")
            self.give_up(conn)

    def answered(self, conn: Connection) -> None:
        self.hold(conn, -conn.held)
        assert conn.request is not None
        conn.answer = None
        left = conn.unread_length()
        conn.keeps = conn.keeps and not self.is_last(conn)
        if left is None:
            conn.unreader.take_buffered()
            conn.unwanted = MAX_UNWANTED_BYTES
        else:
            conn.unwanted = min(left - conn.unreader.discard(left), MAX_UNWANTED_BYTES)
        conn.deadline = time.monotonic() + settings.UPLOAD_STALL_SECONDS
        self.park(conn, State.DRAINING, selectors.EVENT_READ)
        if not conn.unwanted or conn.request.body.failed:
            self.drained(conn)

    def drain(self, conn: Connection) -> None:
        try:
            piece = conn.sock.recv(min(conn.unwanted, READ_BYTES))
        except (BlockingIOError, InterruptedError):
            return
        conn.unwanted -= len(piece)
        if not piece:
            self.close(conn)
        elif not conn.unwanted:
            self.drained(conn) if conn.state is State.DRAINING else self.close(conn)

    def drained(self, conn: Connection) -> None:
        if not conn.keeps:
            self.linger(conn)
            return
        conn.begin_next_request()
        conn.pace = conn.unreader.pace = self.new_pace()
        now = time.monotonic()
        if conn.head:
            conn.deadline = now + settings.REQUEST_SECONDS
            self.park(conn, State.READING, selectors.EVENT_READ)
            self.hold(conn, len(conn.head))
            self.look_for_request(conn)
        else:
            conn.deadline = now + (self.cfg.keepalive if self.alive else LINGER_SECONDS)
            self.park(conn, State.IDLE, selectors.EVENT_READ)

    def linger(self, conn: Connection) -> None:
        """Close the sending side and wait for the client (RFC 9112, section 9.6)."""
        with suppress(OSError):
            conn.sock.shutdown(socket.SHUT_WR)
        conn.unwanted = max(conn.unwanted, READ_BYTES)
        conn.deadline = time.monotonic() + LINGER_SECONDS
        self.park(conn, State.LINGERING, selectors.EVENT_READ)

    def refuse(self, conn: Connection, error: Exception) -> None:
        self.answer_error(conn, error)
        self.hold(conn, -conn.held)
        left = (conn.unread_length() or 0) - len(conn.unreader.take_buffered())
        conn.keeps, conn.unwanted = False, min(left, MAX_UNWANTED_BYTES)
        if conn.unwanted > 0:
            conn.deadline = time.monotonic() + settings.UPLOAD_STALL_SECONDS
            self.park(conn, State.DRAINING, selectors.EVENT_READ)
        else:
            self.linger(conn)

    def answer_error(self, conn: Connection, error: Exception) -> None:
        with suppress(OSError):
            conn.sock.send(self.refusal(error))

    # Deadlines

    def murder_keepalived(self, force: bool = False) -> None:
        """The server must stop now."""
        if force:
            for conn in list(self.parked):
                self.close(conn)

    def murder_pending(self) -> None:
        """Called in each turn of the main loop; checks deadlines once a second."""
        now = time.monotonic()
        if now < self.next_look:
            return
        self.next_look = now + min(1.0, settings.UPLOAD_STALL_SECONDS / 4)
        for conn in list(self.parked):
            if conn in self.parked:
                self.guard(conn, partial(Worker.look_at, now=now))

    def look_at(self, conn: Connection, *, now: float) -> None:
        if conn.state is State.SENDING:
            self.note_taken(conn)
        elif conn.state is State.READING and conn.streams and conn.request is not None:
            self.note_sent(conn, now)
        elif now >= conn.deadline:
            self.give_up(conn)

    def note_sent(self, conn: Connection, now: float) -> None:
        held = conn.unreader.held
        waited, moved = now - conn.since, held - conn.taken
        conn.since, conn.taken = now, held
        try:
            conn.pace.note(waited, moved)
        except TooSlow:
            self.log.info("A client stalled and was cut off.")
            self.hand_over_truncated(conn)
            return
        if held and now - conn.begun >= FIRST_SECONDS and self.uploading.total() < settings.WEB_TRANSFERS / 2:
            self.dispatch(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """While the server stops, a silent client waits until ``deadline`` at most; new ones are refused, or left to
        another worker.
        """
        for listener in self.sockets:
            listener.close()
        for conn in self.parked:
            if conn.state is State.IDLE or (conn.state is State.READING and not conn.head and conn.request is None):
                conn.deadline = min(conn.deadline, deadline)

    def drop(self, conn: Connection) -> None:
        if conn.state is State.QUEUED or (conn.request is not None and conn.state is State.READING):
            self.answer_error(conn, TooManyTransfers())
        self.close(conn)
        self.start_uploads()

    def give_up(self, conn: Connection) -> None:
        if conn.state is State.READING and (conn.head or conn.request is not None):
            self.log.info("A client stalled and was cut off.")
            self.refuse(conn, RequestTimeout())
        elif conn.state is State.QUEUED:
            self.queue.remove(conn)
            self.refuse(conn, TooManyTransfers())
            self.start_uploads()
        else:
            self.close(conn)

    def close(self, conn: Connection) -> None:
        if conn.state is State.CLOSED:
            return
        if conn.state is State.QUEUED:
            self.queue.remove(conn)
        self.unpark(conn)
        conn.state = State.CLOSED
        self.hold(conn, -conn.held)
        self.nr_conns -= 1
        with suppress(OSError):
            conn.sock.close()
        if conn.answer is not None:
            self.senders.submit(self.abandon, conn)

    READY = {
        State.IDLE: read,
        State.READING: read,
        State.SENDING: write,
        State.DRAINING: drain,
        State.LINGERING: drain,
        State.QUEUED: lambda worker, conn: None,
    }

"""The web server, in development as in production.

A gthread worker hands a request's body over as it arrives, so an upload is hashed and written while it comes in.
Its threads wait on sockets and disks most of the time; more workers use more cores.
"""

import ctypes
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.http.message import Request
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from audiotricks import logs, settings

# The master writes before any worker has set Django up.
logs.configure(settings.LOGGING)

#: mallopt(3), where the C library has it (glibc).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_buffers() -> None:
    """Keep memory that the next piece of a body needs again: up to 8 MiB a thread.

    By default glibc gives pieces of 1 MiB back to the kernel at once and gets them anew, page by page: 250,000 page
    faults and twice the system time for 512 MiB. The workers inherit it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 4 * 1024**2)
        library.mallopt(M_TRIM_THRESHOLD, 8 * 1024**2)


keep_buffers()

host = f"[{settings.WEB_HOST}]" if ":" in settings.WEB_HOST else settings.WEB_HOST
bind = f"{host}:{settings.PORT}"
worker_class = "gthread"
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS
worker_connections = 1000
# Each worker opens its own connection pool; one that was opened before the fork would be shared.
preload_app = False
# The heartbeat of a worker, not the time of a request: a thread may stream for hours.
timeout = 60
graceful_timeout = settings.WEB_GRACEFUL_SECONDS
# Longer than nginx keeps its idle connections to us, so that it never sends into one that we are closing.
keepalive = 75
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
# Without a proxy in front, nobody says that a request came by https.
forwarded_allow_ips = ",".join(settings.FORWARDED_ALLOW_IPS) if settings.BEHIND_PROXY else ""
# By default gunicorn takes SCRIPT_NAME and PATH_INFO from headers of these peers; many proxies pass on a client's own.
forwarder_headers = ""
# The heartbeat file in memory where there is such a place: a busy disk must not look like a dead worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
control_socket_disable = True
# How much of a refused body is read and thrown away.
MAX_DRAINED_BYTES = 64 * 1024 * 1024
DRAIN_BYTES = 64 * 1024
# RequestLogMiddleware writes one line for each request, with its ids.
accesslog = None
errorlog = None
loglevel = settings.LOG_LEVEL.lower()


class Logger(glogging.Logger):
    """gunicorn's own messages, in the format of all others."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.propagate = True

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """A client that stalls is no fault of the server: one line and no traceback."""
        if isinstance(sys.exception(), TimeoutError | BlockingIOError):
            self.info("A client stalled and was cut off.")
        else:
            super().exception(msg, *args, **kwargs)


logger_class = Logger


def pre_fork(server: Arbiter, worker: ThreadWorker) -> None:
    """Bound the wait for a request's headers; on Linux an accepted socket inherits it from its listener."""
    seconds = struct.pack("ll", settings.UPLOAD_STALL_SECONDS, 0)
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)


def pre_request(worker: ThreadWorker, req: Request) -> None:
    """Bound each wait for the client from here on, so that a stalled one does not hold a thread for ever.

    gunicorn sets the socket to blocking again before the next request of the same connection.
    """
    if isinstance(req.unreader, SocketUnreader):
        req.unreader.sock.settimeout(settings.UPLOAD_STALL_SECONDS)


def post_request(worker: ThreadWorker, req: Request, environ: dict[str, Any], resp: Response) -> None:
    """Read on behind the answer to a body that was refused, within bounds.

    Many clients listen only once they have sent everything; to close on them would be a reset instead of an answer.
    """
    until = time.monotonic() + settings.UPLOAD_STALL_SECONDS
    left = MAX_DRAINED_BYTES
    with suppress(Exception):
        body = environ["wsgi.input"]
        while left > 0 and time.monotonic() < until and not body.failed:
            piece = body.read(min(left, DRAIN_BYTES))
            if not piece:
                return
            left -= len(piece)

"""gunicorn's settings, for development and production."""

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

from gunicorn import glogging
from gunicorn.config import Config

from audiotricks import settings
from audiotricks.running import logs

# gunicorn loads the worker class, which needs the settings, before the application.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "audiotricks.settings")

# The master logs before a worker has set Django up.
logs.configure(settings.LOGGING)

#: mallopt(3), where the C library has it (glibc).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_buffers() -> None:
    """Let each thread keep up to 8 MiB for the next piece of a body: glibc would return pieces of 1 MiB to the kernel
    at once, which doubles the system time of 512 MiB. Workers inherit it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 4 * 1024**2)
        library.mallopt(M_TRIM_THRESHOLD, 8 * 1024**2)


keep_buffers()


def allow_open_files() -> None:
    """Raise the soft limit of open files, often 1,024, to the hard limit: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


allow_open_files()

host = f"[{settings.WEB_HOST}]" if ":" in settings.WEB_HOST else settings.WEB_HOST
bind = f"{host}:{settings.PORT}"
worker_class = "audiotricks.webserver.worker.Worker"
workers = settings.WEB_WORKERS
threads = settings.WEB_THREADS
worker_connections = 1000
# A connection pool from before the fork would be shared by workers.
preload_app = False
# The heartbeat of a worker, not the time of a request, which may stream for hours.
timeout = 60
graceful_timeout = settings.WEB_GRACEFUL_SECONDS
# Longer than nginx keeps its idle connections, so that it never sends into a closing one.
keepalive = 75
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190
# Without a proxy, no header can say that a request came by https.
forwarded_allow_ips = ",".join(settings.FORWARDED_ALLOW_IPS) if settings.BEHIND_PROXY else ""
# gunicorn would take SCRIPT_NAME and PATH_INFO from headers of these peers, and many proxies pass on a client's own.
forwarder_headers = ""
# In memory where possible, so that a busy disk does not look like a dead worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
control_socket_disable = True
# RequestLogMiddleware writes one line for each request, with its ids.
accesslog = None
errorlog = None
loglevel = settings.LOG_LEVEL.lower()


class Logger(glogging.Logger):
    """gunicorn's messages in our log format."""

    def setup(self, cfg: Config) -> None:
        super().setup(cfg)
        self.error_log.propagate = True


logger_class = Logger

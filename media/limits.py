"""What the decoding process may use. It sets these limits itself, before it opens its file.

They are hard: an unprivileged process cannot raise them again.
"""

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

OPEN_FILES = 64
LEAST_BYTES = 8 * 1024**2
# The caller kills at the wall-clock limit; if it is dead by then, the alarm does.
ALARM_GRACE_SECONDS = 5


def apply_limits(memory_bytes: int, seconds: int) -> None:
    """Bound address space, processor and wall-clock time; no file can be written, no core dumped.

    The address space includes the loaded libraries. macOS refuses to bound it. Raises MemoryError.
    """
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_CPU, seconds)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    signal.alarm(seconds + ALARM_GRACE_SECONDS)
    if sys.platform.startswith("linux"):
        lower(resource.RLIMIT_AS, memory_bytes)
        # With less than this, code that is not ours may crash instead of raising MemoryError.
        bytes(LEAST_BYTES)


def go_first() -> None:
    """Where a machine runs out of memory, Linux kills this process before any other."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def forbid_new_files() -> None:
    """From here on no file, socket or pipe can be opened.

    A playlist, a reference to another file or a URL inside the audio fails here, if it got past the demuxer.
    """
    lower(resource.RLIMIT_NOFILE, 0)


def lower(kind: int, value: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))

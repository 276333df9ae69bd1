"""Hard limits that the decoding process sets for itself."""

import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

OPEN_FILES = 64
LEAST_BYTES = 8 * 1024**2
# The caller kills at the wall-clock limit; if the caller is dead, this alarm does.
ALARM_GRACE_SECONDS = 5


def apply_limits(memory_bytes: int, seconds: int) -> None:
    """Bound address space (not on macOS), processor and wall-clock time; forbid written files and core dumps. Raises
    MemoryError.
    """
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_CPU, seconds)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    signal.alarm(seconds + ALARM_GRACE_SECONDS)
    if sys.platform.startswith("linux"):
        lower(resource.RLIMIT_AS, memory_bytes)
        # With less, foreign code may crash instead of raising MemoryError.
        bytes(LEAST_BYTES)


def go_first() -> None:
    """Make Linux kill this process first without memory."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def forbid_new_files() -> None:
    """A playlist, reference or URL inside the audio then fails."""
    lower(resource.RLIMIT_NOFILE, 0)


def lower(kind: int, value: int) -> None:
    """Unless it is lower already."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))

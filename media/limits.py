"""What the decoding process may use: set by itself in its first lines, before anything large is imported.

The limits are hard: an unprivileged process cannot raise them again, whatever a file makes it do.
"""

import resource
import signal
import sys

OPEN_FILES = 64
# Beyond the wall-clock limit the parent kills; if the parent is dead by then, the alarm does.
ALARM_GRACE_SECONDS = 5


def apply_limits(memory_bytes: int, seconds: int) -> None:
    """Bound address space, processor and wall-clock time; no file can be written, no core dumped.

    macOS refuses to bound the address space; there the other limits remain.
    """
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_CPU, seconds)
    lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    signal.alarm(seconds + ALARM_GRACE_SECONDS)
    if sys.platform.startswith("linux"):
        lower(resource.RLIMIT_AS, memory_bytes)


def forbid_new_files() -> None:
    """From here on no file, socket or pipe can be opened: the input is open already, and nothing else is needed.

    A playlist, a reference to another file or a URL inside the audio fails here, if it got past the demuxer.
    """
    lower(resource.RLIMIT_NOFILE, 0)


def lower(kind: int, value: int) -> None:
    """Lower a limit for good; one that is lower already stays."""
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))

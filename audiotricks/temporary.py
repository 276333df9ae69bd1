import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from django.conf import settings

# The folder may be shared with others.
OURS = "audiotricks-"


@contextmanager
def temporary_file(kind: str) -> Iterator[IO[bytes]]:
    """Removed after the block; ``remove_leftovers`` removes it after a kill."""
    with tempfile.NamedTemporaryFile(prefix=f"{OURS}{kind}-", dir=made_folder(), delete=False) as file:
        try:
            yield file
        finally:
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)


def free_bytes() -> int:
    """Raises OSError where it is unknown."""
    return shutil.disk_usage(made_folder()).free


def made_folder() -> Path:
    folder = Path(settings.TEMP_AUDIO_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def remove_leftovers(older_than: datetime) -> int:
    removed = 0
    for path in Path(settings.TEMP_AUDIO_DIR).glob(f"{OURS}*"):
        try:
            if path.stat().st_mtime < older_than.timestamp():
                path.unlink()
                removed += 1
        except OSError:
            # Gone already, or not removable: harmless.
            continue
    return removed

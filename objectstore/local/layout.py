"""The folders of objects."""

from collections.abc import Sequence
from pathlib import Path


def folders_of(path: Path, name: str) -> Sequence[Path]:
    """Return the folders that an object lies in, its own first and the storage's root last."""
    return path.parents[: name.count("/") + 1]


def prune(path: Path, name: str) -> None:
    """Remove the folders of an object that are empty now, short of the root."""
    for folder in folders_of(path, name)[:-1]:
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return

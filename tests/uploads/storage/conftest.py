"""The backends that must all keep the same contract; another one joins by a line in BACKENDS."""

from collections.abc import Callable
from pathlib import Path

import pytest

from uploads.storage.base import AudioStorage
from uploads.storage.local import LocalStorage


def local_backend(tmp_path: Path) -> AudioStorage:
    return LocalStorage(tmp_path / "vault")


BACKENDS: dict[str, Callable[[Path], AudioStorage]] = {"local": local_backend}


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AudioStorage:
    """An empty storage of each kind."""
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "vault")

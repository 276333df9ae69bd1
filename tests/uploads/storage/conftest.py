"""The backends that must all keep the same contract; another one joins by a line in BACKENDS."""

from pathlib import Path
from typing import Any

import pytest

from tests.object_servers.fixtures import ALIASES, configure
from uploads.storage.base import AudioStorage
from uploads.storage.local import LocalStorage

BACKENDS = ("local", *ALIASES)


@pytest.fixture(params=BACKENDS)
def storage(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> AudioStorage:
    """An empty storage of each kind."""
    if request.param == "local":
        return LocalStorage(tmp_path / "vault")
    return configure(settings, request.getfixturevalue(f"{request.param}_server"))


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "vault")

"""The backends that must all keep the same contract; another one joins by a line in BACKENDS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from objectstore.base import AudioStorage
from objectstore.gcs import GCSStorage
from objectstore.local import LocalStorage
from objectstore.retry import retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import ALIASES, configure
from tests.objectstore.gcs_between import AT_ONCE, PART, Between

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


@pytest.fixture
def gcs(settings: Any, gcs_server: ObjectServer) -> Iterator[GCSStorage]:
    """An empty bucket; more than 256 KiB are several parts."""
    settings.STORAGE_PART_BYTES = PART
    storage = configure(settings, gcs_server)
    assert isinstance(storage, GCSStorage)
    with retry_policy(AT_ONCE):
        yield storage


@pytest.fixture
def between(gcs: GCSStorage) -> Between:
    return Between(gcs)

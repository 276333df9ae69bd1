"""Fixtures for tests about files."""

from pathlib import Path
from typing import Any

import pytest

from objectstore import get_storage
from objectstore.base import AudioStorage
from quotas.models import Workspace
from tests.object_servers.fixtures import ALIASES, configure
from tests.uploads.direct import MEBIBYTE, use_storage
from tests.uploads.life import new_workspace, validating_only


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder outside the vault, for files that are to come in."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


@pytest.fixture
def without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    validating_only(monkeypatch)


@pytest.fixture(params=["local", "s3", "gcs", "azure"])
def any_storage(request: pytest.FixtureRequest, settings: Any) -> AudioStorage:
    """Each kind of storage in turn, as the one that new files go to."""
    if request.param != "local":
        configure(settings, request.getfixturevalue(f"{request.param}_server"))
        settings.AUDIO_STORAGE = request.param
    return get_storage(request.param)


@pytest.fixture(params=ALIASES)
def bucket(request: pytest.FixtureRequest, settings: Any) -> AudioStorage:
    """Each provider in turn, as the one that new files go to, in parts as small as they may be."""
    settings.STORAGE_PART_BYTES = 5 * MEBIBYTE
    return use_storage(request.param, request, settings)

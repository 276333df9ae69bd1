"""Each server starts when the first test asks for it, once in each process that runs tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.storage import storages

from objectstore.base import AudioStorage
from tests.object_servers import ObjectServer

ALIASES = ("s3", "gcs", "azure")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectServer]:
    from tests.object_servers.seaweedfs import running_seaweedfs

    with running_seaweedfs() as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[ObjectServer]:
    from tests.object_servers.gcs import running_gcs

    with running_gcs() as server:
        yield server


@pytest.fixture(scope="session")
def azure_server() -> Iterator[ObjectServer]:
    from tests.object_servers.azurite import running_azurite

    with running_azurite() as server:
        yield server


def configure(settings: Any, server: ObjectServer, **options: Any) -> AudioStorage:
    """Make the server's storage, with an empty bucket, one that is configured; returns it."""
    entry = server.entry(server.empty_bucket(), **options)
    settings.STORAGES = {**settings.STORAGES, server.alias: entry}
    storage = storages[server.alias]
    assert isinstance(storage, AudioStorage)
    return storage

"""S3 as others than Amazon understand it: what they document, or are known to do, in front of a real server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.files.base import ContentFile

from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.providers import GARAGE, Provider, ProviderProxy, running_as
from tests.uploads.storage.test_storage_contract import MIB, NAME, get, noise
from uploads.storage.s3 import S3Storage

LARGE = noise(5 * MIB + 1000)
Become = Callable[..., tuple[S3Storage, ProviderProxy]]


@pytest.fixture
def become(s3_server: ObjectServer, settings: Any) -> Iterator[Become]:
    """A storage at this provider, with an empty bucket and parts of 5 MiB."""
    settings.STORAGE_PART_BYTES = 5 * MIB
    with ExitStack() as stack:

        def started(provider: Provider, **options: Any) -> tuple[S3Storage, ProviderProxy]:
            server, proxy = stack.enter_context(running_as(provider, s3_server))
            storage = configure(settings, server, **options)
            assert isinstance(storage, S3Storage)
            return storage, proxy

        yield started


def test_a_checksum_of_checksums_without_a_type_is_not_that_of_the_content(become: Become) -> None:
    """Garage: every file of several parts would be called damaged."""
    storage, _proxy = become(GARAGE)
    storage.save(NAME, ContentFile(LARGE))
    head = storage._requests.head(NAME)
    assert "ChecksumCRC32" in head
    assert "ChecksumType" not in head
    assert "crc32" not in storage.stat(NAME).checksums
    assert get(storage) == LARGE


def test_a_checksum_of_one_part_without_a_type_is_compared(become: Become) -> None:
    storage, _proxy = become(GARAGE)
    storage.save(NAME, ContentFile(b"abc"))
    assert storage.stat(NAME).checksums == {"md5": "900150983cd24fb0d6963f7d28e17f72", "crc32": "352441c2"}

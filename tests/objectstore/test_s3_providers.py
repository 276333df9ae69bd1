"""S3 as others than Amazon understand it: what they document, or are known to do, in front of a real server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.core.files.base import ContentFile

from objectstore.checksums import base64_of, md5
from objectstore.errors import LifecycleUnsupported, ObjectExists
from objectstore.s3 import S3Storage
from objectstore.s3.requests import UPLOADS
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.providers import (
    GARAGE,
    LOCKED,
    OLD_B2,
    OLD_CEPH,
    PLAIN,
    R2,
    Provider,
    ProviderProxy,
    running_as,
)
from tests.objectstore.test_storage_contract import MIB, NAME, OTHER, get, noise

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
    """Promise 14. Garage: every file of several parts would be called damaged."""
    storage, _proxy = become(GARAGE)
    storage.save(NAME, ContentFile(LARGE))
    head = storage.requests.head(NAME)
    assert "ChecksumCRC32" in head
    assert "ChecksumType" not in head
    assert "crc32" not in storage.stat(NAME).checksums
    assert get(storage) == LARGE


def test_a_checksum_of_one_part_without_a_type_is_compared(become: Become) -> None:
    storage, _proxy = become(GARAGE)
    storage.save(NAME, ContentFile(b"abc"))
    assert storage.stat(NAME).checksums == {"md5": "900150983cd24fb0d6963f7d28e17f72", "crc32": "352441c2"}


# Checksums


def sent_headers(proxy: ProviderProxy) -> set[str]:
    return {name for seen in proxy.seen for name in (*seen.headers, *seen.target.lower().replace("&", "?").split("?"))}


def test_a_server_without_checksums_over_the_whole_is_asked_for_those_of_the_parts(become: Become) -> None:
    """R2: the server still compares each part."""
    storage, proxy = become(R2, encryption="none")
    for name in (NAME, OTHER):
        storage.save(name, ContentFile(LARGE))
        assert "crc32" not in storage.stat(name).checksums
        assert get(storage, name) == LARGE
    asked = [seen.headers["x-amz-checksum-type"] for seen in proxy.seen if "x-amz-checksum-type" in seen.headers]
    assert asked == ["FULL_OBJECT", "COMPOSITE", "COMPOSITE"]
    assert all("x-amz-checksum-crc32" in seen.headers for seen in proxy.seen if "partNumber" in seen.target)


def test_when_required_sends_nothing_newer_than_md5(become: Become) -> None:
    """Old B2 answers 501 to any header of the newer checksums, that of a HEAD among them."""
    storage, proxy = become(OLD_B2, encryption="none", request_checksum="when_required", conditional_writes=False)
    storage.save(NAME, ContentFile(b"abc"), metadata=lambda: {"audio_id": "0b7f"})
    calls = iter([{}, {"file_size": "1"}, {"file_size": "1"}])
    storage.save(OTHER, ContentFile(LARGE), metadata=lambda: next(calls))
    assert (storage.stat(NAME).size, get(storage, OTHER)) == (3, LARGE)
    storage.copy(NAME, "audio/0b7f/copy.mp3")
    plan = storage.rules.plan()
    with pytest.raises(LifecycleUnsupported):
        # SeaweedFS has no such classes; what matters is what it was sent.
        storage.rules.apply(plan)
    assert list(storage.list()) != []
    storage.delete(NAME)
    newer = ("x-amz-checksum", "x-amz-sdk-checksum", "if-none-match")
    assert [name for name in sent_headers(proxy) if name.startswith(newer)] == []
    rules = [seen for seen in proxy.seen if seen.method == "PUT" and "lifecycle" in seen.target]
    assert all("content-md5" in seen.headers for seen in rules)
    assert rules


@pytest.mark.parametrize("encryption", ["bucket", "none"])
def test_the_bucket_decides_on_encryption_where_nothing_is_asked(become: Become, encryption: str) -> None:
    storage, proxy = become(PLAIN, encryption=encryption)
    storage.save(NAME, ContentFile(b"abc"))
    storage.save(OTHER, ContentFile(LARGE))
    assert not any(name.startswith("x-amz-server-side-encryption") for name in sent_headers(proxy))


# Names


@pytest.mark.parametrize("content", [b"abc", LARGE], ids=["whole", "parts"])
@pytest.mark.parametrize("provider", [OLD_CEPH, Provider(ignores=("if-none-match",))], ids=["ceph", "none"])
def test_we_look_before_we_finish_where_nothing_protects_a_name(
    become: Become, content: bytes, provider: Provider
) -> None:
    """Promise 12, as far as such a server allows it."""
    storage, _proxy = become(provider, conditional_writes=provider is OLD_CEPH)
    storage.save(NAME, ContentFile(content))
    for other in (b"other", LARGE[::-1]):
        with pytest.raises(ObjectExists):
            storage.save(NAME, ContentFile(other))
    assert get(storage) == content
    assert not list(storage.requests.entries(UPLOADS))


# Amazon's own hosts


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "me-central-1"])
@pytest.mark.parametrize(("bucket", "host"), [("plain", "plain.s3.{}"), ("with.dots", "s3.{}")])
@pytest.mark.parametrize("style", ["auto", "virtual"])
def test_urls_are_signed_for_the_host_of_the_region(region: str, bucket: str, host: str, style: str) -> None:
    """Newer regions refuse the global host."""
    storage = S3Storage(bucket_name=bucket, region_name=region, access_key="a", secret_key="b", addressing_style=style)
    url = storage.signer.sign(NAME, seconds=60)
    assert urlsplit(url).netloc == f"{host.format(region)}.amazonaws.com"
    part = storage.requests.client.generate_presigned_url(
        "upload_part", Params={"Bucket": bucket, "Key": NAME, "UploadId": "u", "PartNumber": 1}
    )
    assert urlsplit(part).netloc == urlsplit(url).netloc


# Locks


@pytest.mark.parametrize("checksum", ["when_supported", "when_required"])
def test_a_bucket_that_locks_new_objects_takes_ours_and_those_of_clients(become: Become, checksum: str) -> None:
    """Amazon wants a checksum of each part there; a client's is not signed, since nobody knows it before."""
    storage, _proxy = become(LOCKED, request_checksum=checksum)
    storage.save(NAME, ContentFile(b"abc"))
    storage.save("audio/0b7f/large.mp3", ContentFile(LARGE))
    direct = storage.direct.begin(OTHER, size_bytes=len(LARGE), content_type="", metadata=dict, seconds=60)
    for asked in storage.direct.requests(OTHER, direct, size_bytes=len(LARGE), seconds=60):
        body = LARGE[asked.start : asked.start + asked.size]
        assert asked.takes_md5
        assert requests.put(asked.url, data=body, timeout=30).status_code == 400
        wrong = {"Content-MD5": base64_of(md5(b"other"))}
        assert requests.put(asked.url, data=body, headers=wrong, timeout=30).status_code == 400
        right = {"Content-MD5": base64_of(md5(body))}
        assert requests.put(asked.url, data=body, headers=right, timeout=30).ok
    storage.direct.complete(OTHER, direct, size_bytes=len(LARGE), metadata=dict)
    assert get(storage, OTHER) == LARGE

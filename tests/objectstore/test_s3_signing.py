"""What clients may do at S3 themselves, with a URL of ours and nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import time_machine

from objectstore.capabilities import DirectUpload
from objectstore.errors import DirectUploadIncomplete, DirectUploadUnsupported
from objectstore.s3 import S3Storage
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.objectstore.test_remote_contract import send
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, get, names_in, noise, put

CONTENT_12 = noise(12 * MIB)


@pytest.fixture
def storage(s3_server: ObjectServer, settings: Any) -> Any:
    settings.STORAGE_PART_BYTES = 5 * MIB
    return configure(settings, s3_server)


class TestSignedUrls:
    """Promise 51. A signed URL is for one object and one verb, and short-lived."""

    def test_it_is_for_one_verb(self, storage: S3Storage) -> None:
        put(storage)
        url = storage.signer.sign(NAME, seconds=60)
        for verb in ("PUT", "DELETE"):
            assert requests.request(verb, url, data=b"forged", timeout=30).status_code == 403
        assert get(storage) == CONTENT

    def test_it_is_for_one_object(self, storage: S3Storage) -> None:
        put(storage)
        put(storage, OTHER)
        url = storage.signer.sign(NAME, seconds=60).replace(NAME, OTHER)
        assert requests.get(url, timeout=30).status_code == 403

    def test_its_headers_cannot_be_changed(self, storage: S3Storage) -> None:
        put(storage)
        url = storage.signer.sign(NAME, seconds=60, disposition="attachment")
        assert requests.get(url.replace("=attachment", "=inline"), timeout=30).status_code == 403

    def test_it_expires(self, storage: S3Storage) -> None:
        put(storage)
        with time_machine.travel(datetime.now(UTC) - timedelta(minutes=10), tick=True):
            url = storage.signer.sign(NAME, seconds=60)
        assert requests.get(url, timeout=30).status_code == 403

    def test_an_object_can_be_put_with_the_type_that_was_signed(self, storage: S3Storage) -> None:
        url = storage.signer.sign(NAME, seconds=60, method="PUT", content_type="audio/mpeg")
        assert requests.put(url, data=CONTENT, headers={"Content-Type": "text/html"}, timeout=30).status_code == 403
        assert names_in(storage) == set()
        assert requests.put(url, data=CONTENT, headers={"Content-Type": "audio/mpeg"}, timeout=30).ok
        assert storage.stat(NAME).content_type == "audio/mpeg"
        assert get(storage) == CONTENT

    def test_clients_are_sent_where_they_can_reach_the_server(self, s3_server: ObjectServer, settings: Any) -> None:
        public = "https://audio.example.org:8443"
        storage: Any = configure(settings, s3_server, public_endpoint_url=public)
        put(storage)
        direct = storage.direct.begin(OTHER, size_bytes=1, content_type="", metadata=dict, seconds=60)
        urls = [
            storage.signer.sign(NAME, seconds=60),
            storage.signer.sign(NAME, seconds=60, method="PUT"),
            storage.direct.requests(OTHER, direct, size_bytes=1, seconds=60)[0].url,
        ]
        assert all(url.startswith(f"{public}/{storage.bucket_name}/") for url in urls)
        assert get(storage) == CONTENT

    def test_it_is_signed_as_all_regions_want_it(self, storage: S3Storage) -> None:
        query = parse_qs(urlsplit(storage.signer.sign(NAME, seconds=60)).query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-Expires"] == ["60"]


class TestDirectUploads:
    def test_only_what_is_missing_is_asked_for_again(self, storage: S3Storage) -> None:
        """Promise 18. What arrived before a client went away is kept."""
        direct = begin(storage)
        wanted = storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60)
        assert [(request.number, request.start, request.size) for request in wanted] == [
            (1, 0, 5 * MIB),
            (2, 5 * MIB, 5 * MIB),
            (3, 10 * MIB, 2 * MIB),
        ]
        send([wanted[2], wanted[0]], CONTENT_12)
        with pytest.raises(DirectUploadIncomplete) as raised:
            complete(storage, direct)
        assert raised.value.members == {"expected": 12 * MIB, "received": 7 * MIB}
        left = storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60)
        assert [request.number for request in left] == [2]
        send(left, CONTENT_12)
        assert complete(storage, direct).size == len(CONTENT_12)
        assert get(storage) == CONTENT_12

    @pytest.mark.parametrize("size", [5 * MIB - 1, 5 * MIB + 1])
    def test_a_part_of_another_size_than_was_signed_is_refused(self, storage: S3Storage, size: int) -> None:
        """Promise 21. Bytes beyond the declared length are never stored."""
        direct = begin(storage)
        wanted = storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60)
        assert requests.put(wanted[0].url, data=noise(size), timeout=30).status_code == 403
        assert len(storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60)) == 3

    def test_a_part_may_be_sent_again(self, storage: S3Storage) -> None:
        """With the same bytes: this server keeps others beside the first ones, and both with the same second."""
        direct = begin(storage)
        wanted = storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60)
        send(wanted, CONTENT_12)
        send(wanted, CONTENT_12)
        complete(storage, direct)
        assert get(storage) == CONTENT_12

    def test_a_client_gets_at_most_a_thousand_requests(self, storage: S3Storage) -> None:
        size = 20 * 1024**3
        direct = storage.direct.begin(NAME, size_bytes=size, content_type="", metadata=dict, seconds=60)
        assert direct.part_bytes == 21 * MIB
        wanted = storage.direct.requests(NAME, direct, size_bytes=size, seconds=60)
        assert len(wanted) <= 1000
        assert sum(request.size for request in wanted) == size

    def test_more_than_a_thousand_requests_can_carry_is_not_begun(self, storage: S3Storage) -> None:
        """A workspace without limits may ask for exabytes: nobody makes a list of their parts."""
        for size in (5000 * 1024**3 + 1, 2**62):
            with pytest.raises(DirectUploadUnsupported):
                storage.direct.begin(NAME, size_bytes=size, content_type="", metadata=dict, seconds=60)
        assert storage.requests.client.list_multipart_uploads(Bucket=storage.bucket_name).get("Uploads", []) == []

    def test_it_is_encrypted_and_described_as_any_other_object(self, storage: S3Storage) -> None:
        direct = begin(storage)
        send(storage.direct.requests(NAME, direct, size_bytes=len(CONTENT_12), seconds=60), CONTENT_12)
        stat = complete(storage, direct)
        assert (stat.content_type, stat.metadata) == ("audio/flac", {"audio_id": "0b7f"})
        assert storage.requests.head(NAME)["ServerSideEncryption"] == "AES256"


def begin(storage: S3Storage) -> DirectUpload:
    return storage.direct.begin(
        NAME,
        size_bytes=len(CONTENT_12),
        content_type="audio/flac",
        metadata=lambda: {"audio_id": "0b7f"},
        seconds=60,
    )


def complete(storage: S3Storage, direct: DirectUpload) -> Any:
    return storage.direct.complete(NAME, direct, size_bytes=len(CONTENT_12), metadata=dict)

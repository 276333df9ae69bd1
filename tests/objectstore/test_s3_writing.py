"""What S3 is sent, and what is made of answers that never came."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile

from objectstore.content import StreamedContent
from objectstore.errors import ObjectExists, PermanentStorageError, TransientStorageError
from objectstore.retry import RetryPolicy, retry_policy
from objectstore.s3 import S3Storage
from objectstore.s3.facts import MAX_METADATA_BYTES, headers_of
from objectstore.s3.multipart import MAX_PARTS, MOST_PART_BYTES, MultipartUpload, part_size
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, get, names_in, noise, put
from tests.servers import wait_until

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, max_delay=0)
LARGE = noise(12 * MIB)


@pytest.fixture
def storage(s3_server: ObjectServer, settings: Any) -> Iterator[Any]:
    settings.STORAGE_PART_BYTES = 5 * MIB
    with retry_policy(AT_ONCE):
        yield configure(settings, s3_server)


def head_of(storage: S3Storage, name: str = NAME) -> dict[str, Any]:
    return storage.requests.head(name)


def unfinished(storage: S3Storage) -> list[dict[str, Any]]:
    answer = storage.requests.client.list_multipart_uploads(Bucket=storage.bucket_name)
    return list(answer.get("Uploads", []))


class Faults:
    """Puts itself in front of operations of a storage's client, and counts how often each was asked for."""

    def __init__(self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client = storage.requests.client
        self._monkeypatch = monkeypatch
        self.calls: dict[str, int] = {}

    def lose_answers(self, operation: str, *, times: int = 1, before: bool = False) -> None:
        """The operation is done (or not, with ``before``), and then the first so many answers do not come."""
        real = getattr(self._client, operation)

        def losing(**parameters: Any) -> Any:
            self.calls[operation] = self.calls.get(operation, 0) + 1
            answer = None if before else real(**parameters)
            if self.calls[operation] <= times:
                raise ReadTimeoutError(endpoint_url="http://secret.example/?X-Amz-Signature=secret")
            return real(**parameters) if before else answer

        self._monkeypatch.setattr(self._client, operation, losing)


@pytest.fixture
def faults(storage: S3Storage, monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(storage, monkeypatch)


class TestLostAnswers:
    """Promise 13. An answer that was lost, asked for again, gives one object."""

    @pytest.mark.parametrize(
        ("operation", "content"),
        [
            ("put_object", CONTENT),
            ("create_multipart_upload", LARGE),
            ("upload_part", LARGE),
            ("complete_multipart_upload", LARGE),
        ],
    )
    @pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
    def test_a_save_whose_answer_was_lost_succeeds(
        self, storage: S3Storage, faults: Faults, operation: str, content: bytes, before: bool
    ) -> None:
        faults.lose_answers(operation, before=before)
        storage.save(NAME, ContentFile(content))
        assert faults.calls[operation] >= 2
        assert get(storage) == content
        assert names_in(storage) == {NAME}

    @pytest.mark.parametrize(("operation", "content"), [("put_object", CONTENT), ("complete_multipart_upload", LARGE)])
    def test_a_save_all_of_whose_answers_were_lost_knows_its_object(
        self, storage: S3Storage, faults: Faults, operation: str, content: bytes
    ) -> None:
        faults.lose_answers(operation, times=100)
        storage.save(NAME, ContentFile(content))
        assert get(storage) == content
        assert unfinished(storage) == []

    @pytest.mark.parametrize(("operation", "content"), [("put_object", CONTENT), ("complete_multipart_upload", LARGE)])
    def test_a_save_that_never_arrived_leaves_nothing(
        self, storage: S3Storage, faults: Faults, operation: str, content: bytes
    ) -> None:
        """Promise 14. A clean error, and nothing under the name nor beside it."""
        faults.lose_answers(operation, times=100, before=True)
        with pytest.raises(TransientStorageError) as raised:
            storage.save(NAME, ContentFile(content))
        assert raised.value.was_retried
        assert "secret" not in str(raised.value.detail)
        assert names_in(storage) == set()
        assert unfinished(storage) == []

    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["whole", "parts"])
    def test_anothers_object_under_the_name_is_not_taken_for_our_own(
        self, storage: S3Storage, faults: Faults, content: bytes
    ) -> None:
        """Promise 12. Even if it came while we were sending, and has the same bytes."""

        def pieces() -> Iterator[bytes]:
            yield content
            put(storage, content=content)

        faults.lose_answers("put_object", times=0)
        with pytest.raises(ObjectExists):
            storage.save(NAME, StreamedContent(pieces()))
        assert get(storage) == content
        assert unfinished(storage) == []

    def test_a_copy_whose_answer_was_lost_succeeds(self, storage: S3Storage, faults: Faults) -> None:
        put(storage)
        faults.lose_answers("copy_object")
        storage.copy(NAME, OTHER)
        assert faults.calls["copy_object"] == 2
        assert get(storage, OTHER) == CONTENT

    def test_a_direct_upload_that_was_completed_unheard_is_completed(self, storage: S3Storage, faults: Faults) -> None:
        direct = storage.direct.begin(NAME, size_bytes=1000, content_type="", metadata=dict, seconds=60)
        upload = MultipartUpload(storage.requests, NAME, upload_id_of(direct.handle), "when_supported")
        upload.send(1, bytearray(noise(1000)))
        faults.lose_answers("complete_multipart_upload")
        assert storage.direct.complete(NAME, direct, size_bytes=1000, metadata=dict).size == 1000


class TestWhatIsSent:
    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["whole", "parts"])
    def test_objects_are_encrypted_by_default(self, storage: S3Storage, content: bytes) -> None:
        put(storage, content=content)
        assert head_of(storage)["ServerSideEncryption"] == "AES256"
        storage.copy(NAME, OTHER)
        assert head_of(storage, OTHER)["ServerSideEncryption"] == "AES256"
        assert storage.encryption_key is None

    def test_encryption_can_be_left_to_the_server(self, s3_server: ObjectServer, settings: Any) -> None:
        storage: Any = configure(settings, s3_server, encryption="none")
        put(storage)
        assert "ServerSideEncryption" not in head_of(storage)

    def test_another_encryption_is_a_mistake_of_the_settings(self, s3_server: ObjectServer) -> None:
        with pytest.raises(ImproperlyConfigured, match="AES256"):
            S3Storage(bucket_name="any", encryption="rot13")

    @pytest.mark.parametrize("request_checksum", ["when_supported", "when_required"])
    @pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["whole", "parts"])
    def test_bytes_that_change_on_the_way_are_sent_again(
        self, s3_server: ObjectServer, settings: Any, content: bytes, request_checksum: str
    ) -> None:
        """Promise 14. The server compares each part with its checksum; a wrong one is none of the object."""
        settings.STORAGE_PART_BYTES = 5 * MIB
        storage: Any = configure(settings, s3_server, request_checksum=request_checksum)
        corrupted = corrupt_once(storage.requests.client)
        with retry_policy(AT_ONCE):
            storage.save(NAME, ContentFile(content))
        header = {"when_supported": "x-amz-checksum-crc32", "when_required": "Content-MD5"}[request_checksum]
        assert header in corrupted[0]
        assert get(storage) == content

    def test_what_is_known_only_at_the_end_of_parts_becomes_tags(self, storage: S3Storage) -> None:
        ended = False

        def pieces() -> Iterator[bytes]:
            nonlocal ended
            yield LARGE
            ended = True

        def metadata() -> Mapping[str, str]:
            return {"audio_id": "0b7f", **({"checksum_md5": "a" * 32, "other": "é"} if ended else {})}

        storage.save(NAME, StreamedContent(pieces()), metadata=metadata)
        assert tags_of(storage) == {"checksum-md5": "a" * 32}
        assert storage.stat(NAME).metadata == {"audio_id": "0b7f"}

    def test_a_server_without_tags_stores_all_the_same_and_is_asked_once(
        self, storage: S3Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []

        def refuse(**_parameters: Any) -> None:
            asked.append("once")
            raise PermanentStorageError

        monkeypatch.setattr(storage.requests.client, "put_object_tagging", refuse)
        for name in (NAME, OTHER):
            calls = iter([{}, {"file_size": "1"}])
            storage.save(name, ContentFile(LARGE), metadata=lambda calls=calls: next(calls))
        assert names_in(storage) == {NAME, OTHER}
        assert asked == ["once"]

    def test_all_metadata_together_stay_under_the_limit(self) -> None:
        facts = {"audio_id": "x" * 36, "original_filename": "長" * 255 + ".mp3", "checksum_sha256": "0" * 64}
        encoded = headers_of(facts, "w" * 32)
        assert sum(len(key) + len(value) for key, value in encoded.items()) <= MAX_METADATA_BYTES
        assert len(encoded["original-filename"]) > MAX_METADATA_BYTES - 300
        assert encoded["original-filename"] == "%E9%95%B7" * (len(encoded["original-filename"]) // 9)
        assert all(value.isascii() for value in encoded.values())

    def test_names_lie_in_the_folder_that_is_configured(self, s3_server: ObjectServer, settings: Any) -> None:
        storage: Any = configure(settings, s3_server, location="vault/one")
        put(storage)
        storage.copy(NAME, OTHER)
        assert storage.location_of(NAME) == f"s3://{storage.bucket_name}/vault/one/{NAME}"
        listed = storage.requests.client.list_objects_v2(Bucket=storage.bucket_name)["Contents"]
        assert {entry["Key"] for entry in listed} == {f"vault/one/{NAME}", f"vault/one/{OTHER}"}
        assert names_in(storage) == {NAME, OTHER}
        assert get(storage, OTHER) == CONTENT

    def test_what_django_storages_sends_with_each_object_is_sent(self, s3_server: ObjectServer, settings: Any) -> None:
        storage: Any = configure(settings, s3_server, object_parameters={"CacheControl": "private"})
        put(storage)
        assert head_of(storage)["CacheControl"] == "private"

    def test_the_sum_of_all_parts_has_a_checksum_of_its_own(self, storage: S3Storage) -> None:
        put(storage, content=LARGE)
        assert head_of(storage)["ETag"].endswith('-3"')
        assert set(storage.stat(NAME).checksums) == {"crc32"}


@pytest.mark.parametrize(
    ("expected_bytes", "part_bytes"),
    [
        (0, 8 * MIB),
        (8 * MIB * MAX_PARTS, 8 * MIB),
        (8 * MIB * MAX_PARTS + 1, 9 * MIB),
        (5 * 1024**4, 525 * MIB),
        (10**18, MOST_PART_BYTES),
    ],
)
def test_parts_are_as_large_as_it_takes_to_be_at_most_ten_thousand(expected_bytes: int, part_bytes: int) -> None:
    assert part_size(expected_bytes, least=8 * MIB) == part_bytes


def test_a_large_object_is_copied_in_parts_with_everything_that_is_kept_beside_it(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "most_copied_bytes", 5 * MIB)
    monkeypatch.setattr(storage, "copied_part_bytes", 5 * MIB)
    storage.save(NAME, ContentFile(LARGE), content_type="audio/flac", metadata=lambda: {"audio_id": "0b7f"})
    copied = storage.copy(NAME, OTHER, storage_class="STANDARD_IA")
    assert head_of(storage, OTHER)["ETag"].endswith('-3"')
    assert (copied.storage_class, copied.content_type) == ("STANDARD_IA", "audio/flac")
    assert copied.metadata == {"audio_id": "0b7f"}
    assert get(storage, OTHER) == LARGE
    assert unfinished(storage) == []


def test_a_composition_that_the_server_cannot_make_leaves_no_parts(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, OTHER, LARGE)

    def refuse(**_parameters: Any) -> None:
        raise PermanentStorageError

    monkeypatch.setattr(storage.requests.client, "upload_part_copy", refuse)
    with pytest.raises(PermanentStorageError):
        storage.compose([OTHER, OTHER], NAME)
    assert names_in(storage) == {OTHER}
    assert unfinished(storage) == []


class TestCleaning:
    """Promise 16. Parts of writes that were killed are reclaimed, and only those."""

    def test_what_a_killed_write_left_is_reclaimed_when_it_is_old(self, storage: S3Storage) -> None:
        upload = MultipartUpload.begin(storage.requests, NAME, checksum="when_supported")
        upload.send(1, bytearray(noise(5 * MIB)))
        now = datetime.now(UTC)
        assert storage.remove_partials(now - timedelta(hours=1)) == 0
        assert len(unfinished(storage)) == 1
        assert storage.remove_partials(now + timedelta(hours=1)) == 1
        assert unfinished(storage) == []
        assert storage.remove_partials(now + timedelta(hours=1)) == 0

    def test_an_old_one_that_still_gets_parts_is_spared(self, storage: S3Storage) -> None:
        """Promise 9. What is in flight is not taken away."""
        upload = MultipartUpload.begin(storage.requests, NAME, checksum="when_supported")
        begun = unfinished(storage)[0]["Initiated"]
        # Times are told in whole seconds by some servers.
        wait_until(lambda: datetime.now(UTC) > begun + timedelta(seconds=1.1), what="the next second")
        upload.send(1, bytearray(noise(1000)))
        assert storage.remove_partials(begun + timedelta(seconds=1)) == 0
        assert len(unfinished(storage)) == 1

    def test_what_is_not_ours_is_left_alone(self, storage: S3Storage) -> None:
        for key in (".backup/of somebody", "backup/database.tar"):
            storage.requests.client.create_multipart_upload(Bucket=storage.bucket_name, Key=key)
        storage.requests.client.put_object(Bucket=storage.bucket_name, Key=".backup/of another", Body=b"x")
        assert storage.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0
        assert names_in(storage) == set()


def corrupt_once(client: Any) -> list[Any]:
    """Change one byte of the first body that is sent, when everything has been computed from it; gives its headers."""
    corrupted: list[Any] = []

    def corrupt(request: Any, **_kwargs: Any) -> None:
        if not corrupted:
            corrupted.append(request.headers)
            request.body = bytes([request.body[0] ^ 1]) + bytes(request.body[1:])

    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-send.s3.{operation}", corrupt)
    return corrupted


def tags_of(storage: S3Storage) -> dict[str, str]:
    answer = storage.requests.client.get_object_tagging(Bucket=storage.bucket_name, Key=NAME)
    return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}


def upload_id_of(handle: str) -> str:
    return str(json.loads(handle)["upload"])

"""What is Azure's own, shown with Azurite: tiers, blocks that writers share, metadata, keys."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import requests
from azure.storage.blob import BlobProperties
from django.core.files.base import ContentFile

from objectstore.azure import AzureStorage
from objectstore.azure import container as azure_container
from objectstore.azure.container import METADATA_BYTES, availability_of
from objectstore.base import Availability, EncryptionReference
from objectstore.content import StreamedContent
from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    TransientStorageError,
)
from objectstore.metadata import WRITE_ID
from objectstore.retry import ONCE, RetryPolicy, retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.servers import free_port

NAME = "audio/0b7f/audio.mp3"
OTHER = "archive/0b7f/1.mp3"
PART = 100_000
CONTENT = bytes(range(256)) * 1500  # four parts
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0, max_delay=0)


@pytest.fixture
def azure(settings: Any, azure_server: ObjectServer) -> Iterator[AzureStorage]:
    """An empty container; more than a hundred thousand bytes are several blocks."""
    settings.STORAGE_PART_BYTES = PART
    storage = configure(settings, azure_server)
    assert isinstance(storage, AzureStorage)
    with retry_policy(AT_ONCE):
        yield storage


def put(storage: AzureStorage, content: bytes = CONTENT, name: str = NAME, **options: Any) -> None:
    storage.save(name, ContentFile(content), **options)


def get(storage: AzureStorage, name: str = NAME) -> bytes:
    with storage.open_range(name) as file:
        return file.read()


def raw_metadata(storage: AzureStorage, name: str = NAME) -> dict[str, str]:
    return storage.client.get_blob_client(name).get_blob_properties().metadata


def uncommitted_blocks(storage: AzureStorage, name: str = NAME) -> int:
    return len(storage.client.get_blob_client(name).get_block_list("uncommitted")[1])


class TestBlocks:
    def test_a_large_object_is_made_of_blocks_that_are_sent_one_by_one(self, azure: AzureStorage) -> None:
        put(azure, content_type="audio/mpeg")
        committed, uncommitted = azure.client.get_blob_client(NAME).get_block_list("all")
        assert [block.size for block in committed] == [PART, PART, PART, len(CONTENT) - 3 * PART]
        assert uncommitted == []
        assert get(azure) == CONTENT

    @pytest.mark.parametrize("size", [0, 1, PART, PART + 1, len(CONTENT)])
    def test_the_md5_of_the_whole_is_kept(self, azure: AzureStorage, size: int) -> None:
        put(azure, CONTENT[:size])
        assert azure.stat(NAME).checksums == {"md5": hashlib.md5(CONTENT[:size]).hexdigest()}

    @pytest.mark.race
    def test_of_writers_that_send_blocks_of_one_name_at_once_exactly_one_wins(self, azure: AzureStorage) -> None:
        """Promise 12. The blocks of the others are neither mixed in nor left behind."""
        begun = Barrier(4)

        def write(number: int) -> bool:
            def pieces() -> Iterator[bytes]:
                for _ in range(4):
                    begun.wait(timeout=30)
                    yield bytes([number]) * PART

            try:
                azure.save(NAME, StreamedContent(pieces()))
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(write, range(4)))
        assert won.count(True) == 1
        assert get(azure) == bytes([won.index(True)]) * PART * 4

    def test_an_object_that_comes_between_the_blocks_of_another_wins(self, azure: AzureStorage) -> None:
        """Promise 12."""

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            put(azure, CONTENT[::-1])

        with pytest.raises(ObjectExists):
            azure.save(NAME, StreamedContent(pieces()))
        assert get(azure) == CONTENT[::-1]

    def test_blocks_that_another_writer_made_vanish_are_a_clean_error(self, azure: AzureStorage) -> None:
        """Promise 14. Also when what he wrote is gone again by then."""

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            put(azure, CONTENT[::-1])
            azure.delete(NAME)

        with pytest.raises(TransientStorageError):
            azure.save(NAME, StreamedContent(pieces()))
        assert not azure.exists(NAME)
        put(azure)
        assert get(azure) == CONTENT

    def test_a_write_that_was_broken_off_is_seen_nowhere_and_the_next_one_is_whole(self, azure: AzureStorage) -> None:
        """Promise 16. Its blocks cannot be removed; Azure drops them with the next write, or after a week."""

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            azure.save(NAME, StreamedContent(pieces()))
        assert uncommitted_blocks(azure) > 0
        assert list(azure.list()) == [] and not azure.exists(NAME)
        put(azure)
        assert get(azure) == CONTENT
        assert uncommitted_blocks(azure) == 0

    @pytest.mark.parametrize("method", ["put_blob", "put_block_list"])
    @pytest.mark.parametrize("lost", [1, 3], ids=["then_heard", "never_heard"])
    def test_an_answer_that_was_lost_is_no_error_and_makes_no_second_object(
        self, azure: AzureStorage, monkeypatch: pytest.MonkeyPatch, method: str, lost: int
    ) -> None:
        """Promise 13. The object says which call wrote it."""
        request: Callable[..., None] = getattr(azure, method)
        content = CONTENT if method == "put_block_list" else b"small"
        left = lost

        def lose(*args: Any, **options: Any) -> None:
            nonlocal left
            request(*args, **options)
            left -= 1
            if left >= 0:
                raise TransientStorageError

        # The second request would be refused: the object is there.
        monkeypatch.setattr(azure, method, lose)
        put(azure, content)
        assert get(azure) == content
        with pytest.raises(ObjectExists):
            put(azure, content)

    @pytest.mark.parametrize("content", [CONTENT, b"small"], ids=["blocks", "one_request"])
    def test_bytes_that_are_spoiled_on_the_way_are_refused_and_sent_again(
        self, azure: AzureStorage, monkeypatch: pytest.MonkeyPatch, content: bytes
    ) -> None:
        """Promise 14. Each request carries the MD5 of its body, and the service compares."""
        spoiled: list[bytes] = []
        session = azure.service_client._pipeline._transport.session
        send = session.request

        def spoil(method: str, url: str, **options: Any) -> Any:
            body = b"".join(bytes(piece) for piece in options["data"]) if "comp=block&" in url else options["data"]
            if method == "PUT" and not spoiled and body == content[: len(body)]:
                spoiled.append(body)
                assert options["headers"]["Content-MD5"]
                options["data"] = b"!" + body[1:]
            return send(method, url, **options)

        monkeypatch.setattr(session, "request", spoil)
        put(azure, content)
        assert spoiled
        assert get(azure) == content


class TestMetadata:
    def test_any_text_comes_back_and_what_is_ours_alone_is_not_told(self, azure: AzureStorage) -> None:
        metadata = {
            "original_filename": 'Grüße, 雨 100%\r\n\t"x".mp3 ',
            "upload_timestamp": "2026-11-20T12:00:00+00:00",
        }
        put(azure, metadata=lambda: metadata)
        assert azure.stat(NAME).metadata == metadata
        assert raw_metadata(azure)[WRITE_ID]

    def test_what_is_known_at_the_end_is_kept(self, azure: AzureStorage) -> None:
        known: dict[str, str] = {}

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            known["file_size"] = str(len(CONTENT))

        azure.save(NAME, StreamedContent(pieces()), metadata=lambda: known)
        assert azure.stat(NAME).metadata == {"file_size": str(len(CONTENT))}

    @pytest.mark.parametrize("character", ["a", "é", "雨", "🎧"])
    def test_too_long_a_value_is_cut_between_characters(self, azure: AzureStorage, character: str) -> None:
        put(azure, metadata=lambda: {"original_filename": character * 9000, "file_type": "mp3"})
        kept = azure.stat(NAME).metadata
        assert kept["file_type"] == "mp3"
        assert kept["original_filename"] == character * len(kept["original_filename"])
        size = sum(len(name) + len(value) for name, value in raw_metadata(azure).items())
        assert METADATA_BYTES - 12 < size <= METADATA_BYTES


class TestTiers:
    @pytest.mark.parametrize("tier", ["Hot", "Cool", "Cold"])
    @pytest.mark.parametrize("content", [CONTENT, b"small"], ids=["blocks", "one_request"])
    def test_an_object_is_written_in_its_tier(self, azure: AzureStorage, tier: str, content: bytes) -> None:
        put(azure, content, storage_class=tier.lower())
        assert azure.stat(NAME).storage_class == tier
        assert [stat.storage_class for stat in azure.list()] == [tier]
        assert get(azure) == content

    def test_the_option_is_for_what_names_no_other(self, settings: Any, azure_server: ObjectServer) -> None:
        azure = configure(settings, azure_server, access_tier="Cool")
        assert isinstance(azure, AzureStorage)
        put(azure)
        put(azure, name=OTHER, storage_class="Hot")
        assert (azure.stat(NAME).storage_class, azure.stat(OTHER).storage_class) == ("Cool", "Hot")

    def test_a_copy_goes_to_another_tier_with_all_that_belongs_to_it(self, azure: AzureStorage) -> None:
        digest = hashlib.md5(CONTENT).hexdigest()
        put(azure, content_type="audio/mpeg", metadata=lambda: {"original_filename": "ä.mp3"})
        copied = azure.copy(NAME, OTHER, storage_class="Cold")
        assert copied == azure.stat(OTHER)
        assert (copied.storage_class, copied.content_type, copied.checksums) == ("Cold", "audio/mpeg", {"md5": digest})
        assert copied.metadata == azure.stat(NAME).metadata
        assert raw_metadata(azure, OTHER)[WRITE_ID] != raw_metadata(azure)[WRITE_ID]

    def test_an_archived_object_can_be_read_after_it_was_restored(self, azure: AzureStorage) -> None:
        put(azure)
        archived = azure.copy(NAME, OTHER, storage_class="Archive")
        assert archived.availability is Availability.ARCHIVED
        for read in (azure.open_range, lambda name: azure.copy(name, "audio/0b7f/back.mp3", storage_class="Hot")):
            with pytest.raises(ObjectArchived):
                read(OTHER)
        azure.classes.restore(OTHER, days=3)
        stat = azure.stat(OTHER)
        assert (stat.availability, stat.storage_class, stat.restored_until) == (Availability.READABLE, "Hot", None)
        assert get(azure, OTHER) == CONTENT
        azure.classes.restore(OTHER, days=3)
        with pytest.raises(ObjectNotFound):
            azure.classes.restore("audio/none.mp3", days=3)

    def test_an_object_that_is_archived_while_it_is_read_is_an_error_of_its_own(self, azure: AzureStorage) -> None:
        put(azure)
        with azure.open_range(NAME) as file:
            azure.client.get_blob_client(NAME).set_standard_blob_tier("Archive")
            with pytest.raises(ObjectArchived):
                file.read()

    def test_an_object_on_its_way_out_of_the_archive_is_restoring(self) -> None:
        properties = BlobProperties(
            **{"x-ms-access-tier": "Archive", "x-ms-archive-status": "rehydrate-pending-to-hot"}
        )
        assert availability_of(properties) is Availability.RESTORING

    def test_a_tier_that_azure_has_not_is_refused_before_anything_is_read(self, azure: AzureStorage) -> None:
        content = StreamedContent([CONTENT])
        with pytest.raises(PermanentStorageError):
            azure.save(NAME, content, storage_class="GLACIER")
        assert list(content.chunks()) == [CONTENT]


class TestVersions:
    def test_a_reader_never_sees_the_bytes_of_another_version(self, azure: AzureStorage) -> None:
        put(azure)
        stat = azure.stat(NAME)
        assert [listed.version for listed in azure.list()] == [stat.version]
        azure.delete(NAME)
        put(azure, CONTENT[::-1])
        with pytest.raises(ObjectNotFound):
            azure.fetch(stat, 0, 10)

    def test_a_deleted_object_takes_its_snapshots_along(self, azure: AzureStorage) -> None:
        put(azure)
        azure.client.get_blob_client(NAME).create_snapshot()
        azure.delete(NAME)
        assert list(azure.client.list_blobs(include=["snapshots"])) == []


class TestSettings:
    def test_a_wrong_key_is_said_to_be_one(self, settings: Any, azure_server: ObjectServer) -> None:
        """The refused key is in no message and in no log."""
        wrong = "d3Jvbmc="
        azure = configure(settings, azure_server, account_key=wrong)
        assert isinstance(azure, AzureStorage)
        attempts: list[Callable[[], object]] = [
            lambda: put(azure),
            lambda: azure.stat(NAME),
            lambda: list(azure.list()),
            lambda: azure.delete(NAME),
        ]
        for attempt in attempts:
            with pytest.raises(CredentialsRefused) as raised:
                attempt()
            assert wrong not in f"{raised.value.detail}{raised.value}"

    def test_a_key_that_is_none_is_refused(self, settings: Any, azure_server: ObjectServer) -> None:
        azure = configure(settings, azure_server, account_key="not base64")
        with pytest.raises(CredentialsRefused):
            azure.stat(NAME)
        with pytest.raises(CredentialsRefused):
            azure.signer.sign(NAME, seconds=60)

    def test_a_container_that_is_missing_can_be_made(self, settings: Any, azure_server: ObjectServer) -> None:
        azure = configure(settings, azure_server, azure_container="not-there-yet")
        assert isinstance(azure, AzureStorage)
        attempts: list[Callable[[], object]] = [
            lambda: put(azure),
            lambda: put(azure, b"small"),
            lambda: azure.stat(NAME),
            lambda: list(azure.list()),
            lambda: azure.delete(NAME),
            lambda: azure.copy(NAME, OTHER),
        ]
        for attempt in attempts:
            with pytest.raises(BucketNotFound):
                attempt()
        assert azure.bucket.create()
        assert not azure.bucket.create()
        put(azure)
        assert get(azure) == CONTENT
        azure.client.delete_container()

    def test_nobody_at_the_address_is_tried_again_later(self, settings: Any, azure_server: ObjectServer) -> None:
        azure = configure(settings, azure_server, endpoint_url=f"http://127.0.0.1:{free_port()}/vault")
        with retry_policy(ONCE), pytest.raises(TransientStorageError):
            azure.stat(NAME)

    def test_settings_that_do_not_fit_together_are_an_error_of_ours(
        self, settings: Any, azure_server: ObjectServer
    ) -> None:
        azure = configure(settings, azure_server, api_version="1999-01-01")
        with pytest.raises(PermanentStorageError):
            azure.stat(NAME)

    def test_a_connection_string_says_it_all(self, settings: Any, azure_server: ObjectServer) -> None:
        options = azure_server.options
        endpoint, account, key = options["endpoint_url"], options["account_name"], options["account_key"]
        azure = configure(
            settings,
            azure_server,
            endpoint_url="",
            account_name=None,
            account_key=None,
            connection_string=f"AccountName={account};AccountKey={key};BlobEndpoint={endpoint};",
        )
        assert isinstance(azure, AzureStorage)
        put(azure)
        assert get(azure) == CONTENT
        assert azure.location_of(NAME) == f"{endpoint}/{azure.azure_container}/{NAME}"

    def test_the_location_is_that_of_the_account(self) -> None:
        azure = AzureStorage(account_name="vault", account_key="a2V5", azure_container="audio")
        assert azure.location_of(NAME) == f"https://vault.blob.core.windows.net/audio/{NAME}"

    def test_objects_are_encrypted_with_the_scope_that_is_configured(
        self, azure: AzureStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Azurite knows no scopes: what we ask for is looked at. Another copy is used, the one that takes a scope."""
        azure.encryption_scope = "vault-key"
        asked: list[tuple[str, dict[str, str]]] = []
        session = azure.service_client._pipeline._transport.session
        send = session.request

        def note(method: str, url: str, **options: Any) -> Any:
            if method == "PUT":
                asked.append((url, dict(options["headers"])))
            return send(method, url, **options)

        monkeypatch.setattr(session, "request", note)
        put(azure, b"small")
        put(azure, name="audio/0b7f/large.mp3")
        azure.copy(NAME, OTHER)
        assert len(asked) >= 7
        assert {headers.get("x-ms-encryption-scope") for _, headers in asked} == {"vault-key"}
        copying = [headers for _, headers in asked if "x-ms-copy-source" in headers]
        assert [headers["x-ms-requires-sync"] for headers in copying] == ["True"]
        assert get(azure, OTHER) == b"small"

    def test_the_key_of_new_objects_is_told(self) -> None:
        azure = AzureStorage(account_name="vault", azure_container="audio", encryption_scope="vault-key")
        assert azure.encryption_key == EncryptionReference("azure-key-vault", "vault-key")
        assert AzureStorage(account_name="vault", azure_container="audio").encryption_key is None

    def test_a_large_copy_with_a_scope_goes_through_here(
        self, azure: AzureStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        metadata = {"file_type": "mp3"}
        put(azure, content_type="audio/mpeg", metadata=lambda: metadata)
        azure.encryption_scope = "vault-key"
        monkeypatch.setattr("objectstore.azure.SYNCHRONOUS_COPY_BYTES", len(CONTENT) - 1)
        monkeypatch.setattr(azure_container.BlobClient, "start_copy_from_url", None)
        copied = azure.copy(NAME, OTHER, storage_class="Cool")
        assert (copied.storage_class, copied.content_type, copied.metadata) == (
            "Cool",
            "audio/mpeg",
            {"file_type": "mp3"},
        )
        assert get(azure, OTHER) == CONTENT


def test_no_key_and_no_signature_is_ever_logged(azure: AzureStorage, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 49. Not even where everything is logged."""
    caplog.set_level(logging.DEBUG)
    put(azure)
    url = azure.signer.sign(NAME, seconds=60)
    azure.copy(NAME, OTHER)
    with pytest.raises(ObjectExists):
        put(azure)
    with pytest.raises(ObjectNotFound):
        azure.stat("audio/none.mp3")
    assert url.partition("sig=")[2][:20] not in caplog.text
    assert azure.account_key not in caplog.text
    assert "SharedKey" not in caplog.text
    # Azure's own library would tell of each request.
    assert not [record for record in caplog.records if record.name.startswith("azure")]


def test_old_leftovers_of_clients_are_removed_and_new_ones_are_not(azure: AzureStorage) -> None:
    """Promise 16."""
    put(azure)
    azure.direct.begin(NAME, size_bytes=10, content_type="audio/mpeg", metadata=dict, seconds=60)
    assert {stat.name for stat in azure.list()} == {NAME}
    assert azure.remove_partials(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert azure.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert azure.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert get(azure) == CONTENT


def test_what_others_keep_in_a_folder_of_that_name_stays(azure: AzureStorage) -> None:
    put(azure, name="staging/website/recording.mp3")
    assert azure.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert get(azure, "staging/website/recording.mp3") == CONTENT


def test_a_client_who_never_lets_go_of_what_he_sent_does_not_keep_it_there(azure: AzureStorage) -> None:
    """Promise 16. Whoever may write to a blob may take out a lease on it that never ends."""
    begun = [
        azure.direct.begin(NAME, size_bytes=1, content_type="audio/mpeg", metadata=dict, seconds=60) for _ in range(2)
    ]
    for direct in begun:
        (asked,) = azure.direct.requests(NAME, direct, size_bytes=1, seconds=60)
        with requests.Session() as client:
            assert client.put(asked.url, data=b"x", headers=dict(asked.headers), timeout=10).ok
            taken = {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "-1"}
            assert client.put(f"{asked.url}&comp=lease", headers=taken, timeout=10).status_code == 201
    azure.direct.abort(NAME, begun[0])
    assert azure.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert azure.remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0

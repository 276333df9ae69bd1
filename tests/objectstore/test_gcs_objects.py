"""What we ask of Google Cloud Storage when objects are made, copied and put together.

The emulator takes note of classes and of the names of keys, as they were asked for; it encrypts nothing.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import google_crc32c
import pytest
from django.utils import timezone

from objectstore.base import Availability, EncryptionReference
from objectstore.content import StreamedContent
from objectstore.errors import ObjectExists, ObjectNotFound, TransientStorageError
from objectstore.gcs import COMPOSED, GCSStorage
from objectstore.metadata import WRITE_ID
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.objectstore.gcs_between import (
    CONTENT,
    NAME,
    OTHER,
    PART,
    Between,
    answering,
    get,
    losing_answers,
    names_in,
    put,
)

KEY = "projects/p/locations/eu/keyRings/r/cryptoKeys/k"


class TestSaving:
    def test_a_small_object_is_one_request_whose_checksums_the_storage_compares(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        put(gcs, b"abc", content_type="audio/mpeg", metadata=lambda: {"audio_id": "0b7f"})
        (request,) = between.seen
        assert (request.query["uploadType"], request.query["ifGenerationMatch"]) == ("multipart", "0")
        sent = request.json()
        assert sent.keys() == {"name", "contentType", "metadata", "md5Hash", "crc32c"}
        assert gcs.stat(NAME).checksums == {
            "md5": hashlib.md5(b"abc").hexdigest(),
            "crc32c": f"{google_crc32c.value(b'abc'):08x}",
        }

    def test_a_large_object_is_sent_in_parts_of_256_kib_and_none_is_sent_twice(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        put(gcs)
        parts = between.requests("PUT")
        assert [len(part.body) for part in parts] == [PART, PART, PART, len(CONTENT) - 3 * PART]
        assert parts[-1].headers["Content-Range"] == f"bytes {3 * PART}-{len(CONTENT) - 1}/{len(CONTENT)}"
        assert "X-Goog-Hash" in parts[-1].headers
        assert get(gcs) == CONTENT

    def test_parts_are_multiples_of_what_the_protocol_demands(
        self, gcs: GCSStorage, between: Between, settings: Any
    ) -> None:
        settings.STORAGE_PART_BYTES = 2 * PART - 1
        put(gcs)
        assert {len(part.body) for part in between.requests("PUT")[:-1]} == {PART}

    def test_metadata_is_what_the_specification_names_and_our_own_mark_is_not_shown(self, gcs: GCSStorage) -> None:
        facts = {
            "audio_id": "0b7f",
            "original_filename": "Grüße 🎵.mp3",
            "file_size": "1024000",
            "file_type": "mp3",
            "has_thumbnail": "true",
        }
        put(gcs, metadata=lambda: facts)
        assert gcs.stat(NAME).metadata == facts
        blob = gcs.client.bucket(gcs.bucket_name).get_blob(NAME)
        assert blob.metadata.keys() == {*facts, WRITE_ID}

    def test_what_is_known_only_at_the_end_is_added_then(self, gcs: GCSStorage, between: Between) -> None:
        facts = {"audio_id": "0b7f"}

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            facts["checksum_md5"] = "d41d"

        gcs.save(NAME, StreamedContent(pieces()), metadata=lambda: facts)
        assert gcs.stat(NAME).metadata == {"audio_id": "0b7f", "checksum_md5": "d41d"}
        (patch,) = between.requests("PATCH")
        assert patch.query["generation"] == gcs.stat(NAME).version

    def test_a_file_name_gives_way_where_the_metadata_would_be_too_long(self, gcs: GCSStorage) -> None:
        put(gcs, b"x", metadata=lambda: {"audio_id": "0b7f", "original_filename": "ä🎵" * 3000})
        blob = gcs.client.bucket(gcs.bucket_name).get_blob(NAME)
        used = sum(len(text.encode()) for item in blob.metadata.items() for text in item)
        assert 8 * 1024 - 12 < used <= 8 * 1024
        assert gcs.stat(NAME).metadata["audio_id"] == "0b7f"
        assert ("ä🎵" * 3000).startswith(gcs.stat(NAME).metadata["original_filename"])

    @pytest.mark.parametrize("size", [1000, len(CONTENT)])
    def test_the_class_of_new_objects_is_the_configured_one_or_the_one_that_was_asked_for(
        self, settings: Any, gcs_server: ObjectServer, size: int
    ) -> None:
        settings.STORAGE_PART_BYTES = PART
        storage = configure(settings, gcs_server, storage_class="NEARLINE")
        assert isinstance(storage, GCSStorage)
        put(storage, CONTENT[:size])
        put(storage, CONTENT[:size], OTHER, storage_class="ARCHIVE")
        assert storage.stat(NAME).storage_class == "NEARLINE"
        assert storage.stat(OTHER).storage_class == "ARCHIVE"
        assert {stat.name: stat.storage_class for stat in storage.list()} == {NAME: "NEARLINE", OTHER: "ARCHIVE"}
        assert storage.stat(OTHER).availability is Availability.READABLE
        assert get(storage, OTHER) == CONTENT[:size]

    def test_a_customers_key_is_named_by_all_that_makes_an_object(
        self, settings: Any, gcs_server: ObjectServer
    ) -> None:
        settings.STORAGE_PART_BYTES = PART
        storage = configure(settings, gcs_server, kms_key_name=KEY)
        assert isinstance(storage, GCSStorage)
        assert storage.encryption_key == EncryptionReference("gcp-kms", KEY)
        put(storage, b"small")
        put(storage, CONTENT, OTHER)
        storage.copy(OTHER, "audio/copy.mp3")
        storage.compose([NAME, OTHER], "audio/composed.mp3")
        stats = [storage.stat(name) for name in (NAME, OTHER, "audio/copy.mp3", "audio/composed.mp3")]
        assert [stat.encryption_key for stat in stats] == [KEY] * 4

    def test_without_a_customers_key_there_is_none(self, gcs: GCSStorage) -> None:
        put(gcs, b"x")
        assert gcs.encryption_key is None
        assert gcs.stat(NAME).encryption_key == ""

    def test_a_stat_and_a_small_read_are_one_request_each(self, gcs: GCSStorage, between: Between) -> None:
        put(gcs, b"abc")
        between.seen.clear()
        stat = gcs.stat(NAME)
        body = gcs.fetch(stat, 1, 2)
        assert body.read(10) == b"bc"
        body.close()
        assert [seen.method for seen in between.seen] == ["GET", "GET"]
        assert between.seen[1].query == {"alt": "media", "generation": stat.version}

    def test_another_version_is_not_read_in_place_of_the_one_that_was_asked_for(self, gcs: GCSStorage) -> None:
        put(gcs, b"first")
        stat = gcs.stat(NAME)
        gcs.delete(NAME)
        put(gcs, b"other")
        with pytest.raises(ObjectNotFound):
            gcs.fetch(stat, 0, 5)

    def test_all_threads_share_one_client(self, settings: Any, gcs_server: ObjectServer) -> None:
        storage = configure(settings, gcs_server)
        assert isinstance(storage, GCSStorage)
        with ThreadPoolExecutor(8) as pool:
            clients = set(pool.map(lambda _: id(storage.client), range(32)))
        assert len(clients) == 1


class TestCopying:
    def test_a_copy_of_another_class_keeps_what_describes_it(self, gcs: GCSStorage, between: Between) -> None:
        put(gcs, content_type="audio/flac", metadata=lambda: {"original_filename": "ä.flac"})
        copied = gcs.copy(NAME, OTHER, storage_class="COLDLINE")
        assert (copied.storage_class, copied.content_type) == ("COLDLINE", "audio/flac")
        assert copied.metadata == {"original_filename": "ä.flac"}
        assert copied.checksums == gcs.stat(NAME).checksums
        assert get(gcs, OTHER) == CONTENT
        (request,) = between.requests("POST")[1:]
        assert request.query["ifGenerationMatch"] == "0"
        assert request.query["sourceGeneration"] == gcs.stat(NAME).version
        assert request.json()["storageClass"] == "COLDLINE"

    def test_a_large_copy_is_gone_on_with_until_it_is_done(
        self, gcs: GCSStorage, between: Between, settings: Any
    ) -> None:
        settings.STORAGE_PART_BYTES = 16 * PART
        put(gcs, CONTENT * 2)
        assert gcs.copy(NAME, OTHER).size == 2 * len(CONTENT)
        first, second = [seen for seen in between.requests("POST") if "rewriteTo" in seen.path]
        assert "rewriteToken" not in first.query
        assert second.query["rewriteToken"]

    def test_a_copy_whose_answer_is_lost_is_our_own(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 13. And it is not made twice."""
        put(gcs)
        between.meddle = losing_answers(lambda seen: "rewriteTo" in seen.path)
        assert gcs.copy(NAME, OTHER) == gcs.stat(OTHER)
        assert len([seen for seen in between.requests("POST") if "rewriteTo" in seen.path]) == 2

    def test_a_copy_that_fails_leaves_nothing(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 14."""
        put(gcs)
        between.meddle = answering(503, lambda seen: "rewriteTo" in seen.path, times=3)
        with pytest.raises(TransientStorageError):
            gcs.copy(NAME, OTHER)
        assert names_in(gcs) == {NAME}
        assert gcs.copy(NAME, OTHER).size == len(CONTENT)


class TestPuttingTogether:
    def test_more_than_32_are_put_together_over_intermediate_objects_that_go(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        sources = [f"audio/parts/{number:03}" for number in range(70)]
        for number, source in enumerate(sources):
            put(gcs, bytes([number]) * (number + 1), source)
        between.seen.clear()
        composed = gcs.compose(sources, NAME, content_type="audio/mpeg", metadata=lambda: {"audio_id": "0b7f"})
        assert composed == gcs.stat(NAME)
        assert (composed.content_type, composed.metadata) == ("audio/mpeg", {"audio_id": "0b7f"})
        assert set(composed.checksums) == {"crc32c"}
        assert get(gcs) == b"".join(bytes([number]) * (number + 1) for number in range(70))
        assert [len(seen.json()["sourceObjects"]) for seen in between.requests("POST")] == [32, 32, 6, 3]
        assert names_in(gcs) == {NAME, *sources}

    def test_intermediate_objects_go_when_it_fails(self, gcs: GCSStorage, between: Between) -> None:
        sources = [f"audio/parts/{number:03}" for number in range(40)]
        for source in sources:
            put(gcs, b"x", source)
        put(gcs, b"taken")
        with pytest.raises(ObjectExists):
            gcs.compose(sources, NAME)
        assert names_in(gcs) == {NAME, *sources}
        assert get(gcs) == b"taken"

    def test_what_a_kill_leaves_of_it_is_not_listed_and_reclaimed_when_it_is_old(self, gcs: GCSStorage) -> None:
        """Promise 16."""
        put(gcs, b"x", f"{COMPOSED}{'0b7f' * 8}/0")
        put(gcs, b"y")
        assert {stat.name for stat in gcs.list()} == {NAME}
        assert gcs.remove_partials(timezone.now() - timedelta(hours=1)) == 0
        assert gcs.remove_partials(timezone.now() + timedelta(hours=1)) == 1
        assert names_in(gcs) == {NAME}

    def test_what_others_keep_in_a_folder_of_that_name_stays(self, gcs: GCSStorage) -> None:
        put(gcs, b"x", f"{COMPOSED}symphony/0")
        assert gcs.remove_partials(timezone.now() + timedelta(hours=1)) == 0
        assert names_in(gcs) == {f"{COMPOSED}symphony/0"}

    def test_objects_of_several_classes_are_put_together_by_reading_them(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        put(gcs, b"one", "audio/parts/1")
        put(gcs, b"two", "audio/parts/2", storage_class="NEARLINE")
        assert gcs.compose(["audio/parts/1", "audio/parts/2"], NAME).storage_class == "STANDARD"
        composed = gcs.compose(["audio/parts/1", "audio/parts/1"], OTHER, storage_class="ARCHIVE")
        assert composed.storage_class == "ARCHIVE"
        assert (get(gcs), get(gcs, OTHER)) == (b"onetwo", b"oneone")
        assert not [seen for seen in between.seen if seen.path.endswith("/compose")]

    def test_a_composition_whose_answer_is_lost_is_our_own(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 13."""
        put(gcs, b"one", "audio/parts/1")
        between.meddle = losing_answers(lambda seen: seen.path.endswith("/compose"))
        assert gcs.compose(["audio/parts/1"] * 2, NAME) == gcs.stat(NAME)
        assert get(gcs) == b"oneone"

"""What every backend does that is reached over a network, against a real server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import requests
import time_machine
from django.core.files.base import ContentFile

from objectstore.base import AudioStorage
from objectstore.capabilities import SignedRequest
from objectstore.content import StreamedContent
from objectstore.errors import DirectUploadIncomplete, ObjectExists, ObjectNotFound
from objectstore.local import LocalStorage
from tests.object_servers.fixtures import ALIASES, configure
from tests.objectstore.test_storage_contract import CONTENT, MIB, NAME, OTHER, get, names_in, noise, put

FACTS = {
    "audio_id": "0b7f",
    "original_filename": "Grüße 100% „é” 🎵.mp3",
    "file_type": "mp3",
    "upload_timestamp": "2026-01-02T03:04:05+00:00",
}
#: What the server keeps of a class that is not the usual one; the emulator of Google's takes note of none.
OTHER_CLASS = {"s3": "STANDARD_IA", "azure": "Cool"}


@pytest.fixture(params=ALIASES)
def storage(request: pytest.FixtureRequest, settings: Any) -> AudioStorage:
    settings.STORAGE_PART_BYTES = 5 * MIB
    return configure(settings, request.getfixturevalue(f"{request.param}_server"))


class TestFacts:
    @pytest.mark.parametrize("size_bytes", [1000, 6 * MIB])
    def test_content_type_and_metadata_are_kept_beside_the_object(self, storage: AudioStorage, size_bytes: int) -> None:
        ended = False

        def pieces() -> Iterator[bytes]:
            nonlocal ended
            yield noise(size_bytes)
            ended = True

        def metadata() -> Mapping[str, str]:
            return {**FACTS, "checksum_md5": "a" * 32} if ended else FACTS

        storage.save(NAME, StreamedContent(pieces()), content_type="audio/mpeg", metadata=metadata)
        stat = storage.stat(NAME)
        assert stat.content_type == "audio/mpeg"
        assert {key: stat.metadata.get(key) for key in FACTS} == FACTS
        assert set(stat.metadata) <= {*FACTS, "checksum_md5"}

    @pytest.mark.parametrize("filename", ["長" * 255 + ".mp3", "\u0301" * 200, " ~\t\x7f\n\r\"\\%;=,:/?#[]@!$&'()*+ "])
    def test_any_name_of_a_file_can_be_kept_or_its_beginning(self, storage: AudioStorage, filename: str) -> None:
        put_with = {"metadata": lambda: {**FACTS, "original_filename": filename}}
        storage.save(NAME, ContentFile(CONTENT), **put_with)
        kept = storage.stat(NAME).metadata
        assert kept["original_filename"]
        assert filename.startswith(kept["original_filename"])
        if len(filename) < 100:
            assert kept["original_filename"] == filename
        assert {**kept, "original_filename": ""} == {**FACTS, "original_filename": ""}

    def test_a_copy_keeps_content_type_and_metadata_and_may_have_another_class(self, storage: AudioStorage) -> None:
        storage.save(NAME, ContentFile(CONTENT), content_type="audio/flac", metadata=lambda: FACTS)
        usual = storage.stat(NAME).storage_class
        asked = OTHER_CLASS.get(storage.provider, "")
        copied = storage.copy(NAME, OTHER, storage_class=asked)
        assert copied.storage_class == (asked or usual)
        assert (copied.content_type, copied.metadata) == ("audio/flac", FACTS)
        assert storage.copy(OTHER, "audio/0b7f/back.flac", storage_class=usual).storage_class == usual
        assert {stat.name: stat.storage_class for stat in storage.list()}[OTHER] in ("", asked or usual)

    def test_a_class_can_be_chosen_for_a_new_object(self, storage: AudioStorage) -> None:
        asked = OTHER_CLASS.get(storage.provider, "")
        storage.save(NAME, ContentFile(CONTENT), storage_class=asked)
        storage.save(OTHER, ContentFile(noise(6 * MIB)), storage_class=asked)
        assert {storage.stat(name).storage_class for name in (NAME, OTHER)} == {asked or "STANDARD"}
        assert get(storage) == CONTENT

    def test_a_version_is_of_the_bytes_under_the_name(self, storage: AudioStorage) -> None:
        put(storage)
        version = storage.stat(NAME).version
        assert version == storage.stat(NAME).version != ""
        storage.delete(NAME)
        put(storage, content=CONTENT[:-1])
        assert storage.stat(NAME).version != version

    def test_what_is_being_read_does_not_turn_into_something_else(self, storage: AudioStorage) -> None:
        """Promise 14. Of an object that was removed and another one that took its name, no mixture is read."""
        content = noise(4 * MIB)
        put(storage, content=content)
        with storage.open_range(NAME) as file:
            assert file.read(1000) == content[:1000]
            storage.delete(NAME)
            put(storage, content=noise(4 * MIB, seed=1))
            file.seek(2 * MIB)
            with pytest.raises(ObjectNotFound):
                file.read(1000)

    def test_a_restored_state_is_asked_of_nothing_that_can_be_read(self, storage: AudioStorage) -> None:
        put(storage)
        before = storage.stat(NAME)
        storage.classes.restore(NAME, days=1)
        assert storage.stat(NAME) == before
        with pytest.raises(ObjectNotFound):
            storage.classes.restore(OTHER, days=1)

    def test_the_bucket_is_made_once(self, storage: AudioStorage) -> None:
        assert not storage.bucket.create()


class TestSignedUrls:
    def test_it_is_for_one_object_one_verb_and_the_headers_that_were_signed(self, storage: AudioStorage) -> None:
        """Promises 42 and 51. Nobody makes a web page of a file, or another file of the one that he was given."""
        put(storage)
        put(storage, OTHER, b"other")
        url = signed(storage, NAME, content_type="audio/mpeg", disposition="attachment")
        altered = {
            "object": url.replace(NAME, OTHER),
            "type": url.replace("audio%2Fmpeg", "text%2Fhtml").replace("audio/mpeg", "text/html"),
            "disposition": url.replace("=attachment", "=inline"),
            "none": url.partition("?")[0],
        }
        assert url not in altered.values()
        answers = {what: requests.get(other, timeout=30).status_code for what, other in altered.items()}
        for verb in ("PUT", "POST", "DELETE"):
            forged = requests.request(verb, url, data=b"forged", headers={"x-ms-blob-type": "BlockBlob"}, timeout=30)
            answers[verb] = forged.status_code
        assert all(400 <= status < 500 for status in answers.values()), answers
        assert (get(storage), get(storage, OTHER)) == (CONTENT, b"other")

    def test_it_ends_with_its_time(self, storage: AudioStorage) -> None:
        """Promise 51."""
        put(storage)
        with time_machine.travel(datetime.now(UTC) - timedelta(minutes=10)):
            ended = signed(storage, NAME)
        assert requests.get(signed(storage, NAME), timeout=30).content == CONTENT
        assert 400 <= requests.get(ended, timeout=30).status_code < 500

    def test_a_get_answers_the_object_with_the_headers_that_were_asked_for(self, storage: AudioStorage) -> None:
        """Promise 42. A browser saves what is to be saved."""
        put(storage)
        disposition = f"attachment; filename=\"a b.mp3\"; filename*=UTF-8''{quote('ä b.mp3')}"
        url = signed(storage, NAME, content_type="audio/mpeg", disposition=disposition)
        answer = requests.get(url, timeout=30)
        assert (answer.status_code, answer.content) == (200, CONTENT)
        assert answer.headers["Content-Type"] == "audio/mpeg"
        assert answer.headers["Content-Disposition"] == disposition

    def test_a_part_can_be_asked_for(self, storage: AudioStorage) -> None:
        put(storage)
        answer = requests.get(signed(storage, NAME), headers={"Range": "bytes=100-199"}, timeout=30)
        assert (answer.status_code, answer.content) == (206, CONTENT[100:200])

    def test_nothing_is_found_behind_it_when_the_object_is_gone(self, storage: AudioStorage) -> None:
        """Promise 51."""
        put(storage)
        url = signed(storage, NAME)
        storage.delete(NAME)
        assert requests.get(url, timeout=30).status_code == 404

    def test_a_location_opens_nothing(self, storage: AudioStorage) -> None:
        """Promise 51. Rows and answers tell it."""
        put(storage)
        location = storage.location_of(NAME)
        assert "?" not in location
        if location.startswith("http"):
            assert 400 <= requests.get(location, timeout=30).status_code < 500


class TestDirectUploads:
    @pytest.mark.parametrize("size_bytes", [1, 5 * MIB, 12 * MIB])
    def test_what_a_client_sends_itself_becomes_the_object(self, storage: AudioStorage, size_bytes: int) -> None:
        """Promise 13. Also if completing it is asked for again, because the answer was lost."""
        content = noise(size_bytes)
        direct = begin(storage, size_bytes)
        assert not storage.exists(NAME) or direct.method == "session"
        wanted = storage.direct.requests(NAME, direct, size_bytes=size_bytes, seconds=300)
        assert sorted(span for request in wanted for span in (request.start, request.start + request.size)) == sorted(
            [0, *(2 * [request.start for request in wanted if request.start]), size_bytes]
        )
        send(wanted, content)
        assert list(storage.direct.requests(NAME, direct, size_bytes=size_bytes, seconds=300)) == []
        stat = storage.direct.complete(NAME, direct, size_bytes=size_bytes, metadata=lambda: FACTS)
        assert stat == storage.stat(NAME)
        assert (stat.size, stat.content_type) == (size_bytes, "audio/mpeg")
        assert {key: stat.metadata.get(key) for key in FACTS} == FACTS
        assert get(storage) == content
        assert storage.direct.complete(NAME, direct, size_bytes=size_bytes, metadata=lambda: FACTS) == stat
        assert names_in(storage, "audio/") == {NAME}

    def test_it_is_not_completed_before_all_has_arrived(self, storage: AudioStorage) -> None:
        direct = begin(storage, 12 * MIB)
        with pytest.raises(DirectUploadIncomplete):
            storage.direct.complete(NAME, direct, size_bytes=12 * MIB, metadata=lambda: FACTS)
        assert names_in(storage, "audio/") == set()

    def test_what_arrived_cannot_be_changed_when_it_is_completed(self, storage: AudioStorage) -> None:
        """Promise 12. Nor by who sent it, with the requests that he still has."""
        content = noise(6 * MIB)
        direct = begin(storage, len(content))
        wanted = storage.direct.requests(NAME, direct, size_bytes=len(content), seconds=300)
        send(wanted, content)
        storage.direct.complete(NAME, direct, size_bytes=len(content), metadata=lambda: FACTS)
        try_to_send(wanted, noise(6 * MIB, seed=1))
        assert get(storage) == content

    def test_it_never_overwrites(self, storage: AudioStorage) -> None:
        """Promise 12. Not by what a client sent itself."""
        direct = begin(storage, 1000)
        wanted = storage.direct.requests(NAME, direct, size_bytes=1000, seconds=300)
        put(storage)
        try_to_send(wanted, noise(1000))
        with pytest.raises(ObjectExists):
            storage.direct.complete(NAME, direct, size_bytes=1000, metadata=lambda: FACTS)
        storage.direct.abort(NAME, direct)
        assert get(storage) == CONTENT

    def test_its_type_is_not_the_clients_to_say(self, storage: AudioStorage) -> None:
        """Promise 42. Providers give an object as what it was stored as: a web page would run at their address."""
        direct = begin(storage, 1000)
        wanted = storage.direct.requests(NAME, direct, size_bytes=1000, seconds=300)
        page = {"Content-Type": "text/html", "x-ms-blob-content-type": "text/html", "Content-Disposition": "inline"}
        lies = [replace(request, headers={**request.headers, **page}) for request in wanted]
        if not all(answer.ok for answer in try_to_send(lies, CONTENT)):
            send(wanted, CONTENT)
        stat = storage.direct.complete(NAME, direct, size_bytes=1000, metadata=lambda: FACTS)
        assert stat.content_type == "audio/mpeg"
        answer = requests.get(signed(storage, NAME), timeout=30)
        assert (answer.content, answer.headers["Content-Type"]) == (CONTENT[:1000], "audio/mpeg")

    @pytest.mark.parametrize("progress", ["nothing", "all", "completed"])
    def test_it_can_be_forgotten_at_any_time(self, storage: AudioStorage, progress: str) -> None:
        """Promise 16. Nothing of it stays."""
        content = noise(6 * MIB)
        direct = begin(storage, len(content))
        wanted = storage.direct.requests(NAME, direct, size_bytes=len(content), seconds=300)
        if progress != "nothing":
            send(wanted, content)
        if progress == "completed":
            storage.direct.complete(NAME, direct, size_bytes=len(content), metadata=lambda: FACTS)
        for _ in range(2):
            storage.direct.abort(NAME, direct)
        assert names_in(storage) == set()
        with pytest.raises(ObjectNotFound):
            storage.direct.complete(NAME, direct, size_bytes=len(content), metadata=lambda: FACTS)


def test_a_local_storage_has_nothing_of_this(local: LocalStorage) -> None:
    put(local)
    assert local.directory == local.root
    assert [local.direct, local.signer, local.classes, local.rules, local.bucket] == [None] * 5


def begin(storage: AudioStorage, size_bytes: int) -> Any:
    return storage.direct.begin(
        NAME, size_bytes=size_bytes, content_type="audio/mpeg", metadata=lambda: FACTS, seconds=300
    )


def signed(storage: AudioStorage, name: str, **headers: str) -> str:
    url = storage.signer.sign(name, seconds=300, **headers)  # type: ignore[arg-type]
    assert url is not None
    return url


def send(wanted: Sequence[SignedRequest], content: bytes) -> None:
    for answer in try_to_send(wanted, content):
        assert answer.ok, answer.text


def try_to_send(wanted: Sequence[SignedRequest], content: bytes) -> list[requests.Response]:
    return [
        requests.request(
            request.method,
            request.url,
            headers=dict(request.headers),
            data=content[request.start : request.start + request.size],
            timeout=30,
        )
        for request in wanted
    ]

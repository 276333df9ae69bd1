"""What goes wrong between us and Google Cloud Storage: the same bytes, or a clean error and nothing under the name."""

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from requests import Response
from requests.exceptions import ConnectionError as ConnectionBroken
from structlog.testing import capture_logs

from objectstore.content import StreamedContent
from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectExists,
    PermanentStorageError,
    StorageError,
    TransientStorageError,
)
from objectstore.gcs import GCSStorage
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.gcs_signatures import write_account
from tests.objectstore.gcs_between import (
    AT_ONCE,
    CONTENT,
    NAME,
    OTHER,
    PART,
    Between,
    Seen,
    Send,
    answering,
    garbling,
    get,
    losing_answers,
    names_in,
    put,
)

#: One request of each kind that a save of several parts makes.
STEPS: dict[str, Callable[[Seen], bool]] = {
    "beginning": lambda seen: seen.query.get("uploadType") == "resumable" and seen.method == "POST",
    "first part": lambda seen: seen.headers.get("Content-Range", "").startswith("bytes 0-"),
    "middle part": lambda seen: seen.headers.get("Content-Range", "").startswith(f"bytes {PART}-"),
    "last part": lambda seen: seen.is_last,
    "asking for the object": lambda seen: seen.method == "GET",
    "last facts": lambda seen: seen.method == "PATCH",
}


def save_in_parts(storage: GCSStorage) -> None:
    ended = False

    def pieces() -> Iterator[bytes]:
        nonlocal ended
        yield CONTENT
        ended = True

    facts = {"audio_id": "0b7f"}
    storage.save(NAME, StreamedContent(pieces()), metadata=lambda: {**facts, "sha256": "e3b0"} if ended else facts)


def is_insert(seen: Seen) -> bool:
    return seen.query.get("uploadType") == "multipart"


def not_reaching(of: Callable[[Seen], bool]) -> Callable[[Seen, Send], Response]:
    failed = False

    def meddle(seen: Seen, send: Send) -> Response:
        nonlocal failed
        if of(seen) and not failed:
            failed = True
            raise ConnectionBroken
        return send()

    return meddle


class TestAnswersThatAreLost:
    def test_an_object_whose_answer_was_lost_is_our_own(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 13. The second attempt finds what the first one made."""
        between.meddle = losing_answers(is_insert)
        put(gcs, b"abc")
        assert get(gcs) == b"abc"
        assert len([seen for seen in between.seen if is_insert(seen)]) == 2

    def test_an_object_of_somebody_else_is_not_taken_for_our_own(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 12. Not even if it has the same bytes."""
        put(gcs, b"abc")
        between.meddle = answering(503, is_insert)
        with pytest.raises(ObjectExists):
            put(gcs, b"abc")
        assert get(gcs) == b"abc"

    @pytest.mark.parametrize("step", STEPS)
    @pytest.mark.parametrize("fault", ["answer lost", "503", "429", "not reached"])
    def test_a_save_of_several_parts_goes_on_after_any_of_its_requests(
        self, gcs: GCSStorage, between: Between, step: str, fault: str
    ) -> None:
        """Promises 13 and 14."""
        faults = {
            "answer lost": losing_answers(STEPS[step]),
            "503": answering(503, STEPS[step]),
            "429": answering(429, STEPS[step]),
            "not reached": not_reaching(STEPS[step]),
        }
        between.meddle = faults[fault]
        save_in_parts(gcs)
        assert get(gcs) == CONTENT
        assert gcs.stat(NAME).metadata == {"audio_id": "0b7f", "sha256": "e3b0"}
        assert names_in(gcs) == {NAME}

    @pytest.mark.parametrize("step", STEPS)
    def test_a_save_that_fails_for_good_leaves_nothing(self, gcs: GCSStorage, between: Between, step: str) -> None:
        """Promise 14. Neither an object nor a session that could become one."""
        is_step = STEPS[step]
        between.meddle = answering(503, is_step, times=3)
        with pytest.raises(TransientStorageError) as raised:
            save_in_parts(gcs)
        assert raised.value.was_retried
        assert names_in(gcs) == set()
        if step != "beginning":
            assert between.requests("DELETE")

    def test_the_last_answer_may_be_lost_with_all_that_follow(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 13. The object itself tells that it is complete, when its session is forgotten already."""
        url = ""

        def meddle(seen: Seen, send: Send) -> Response:
            nonlocal url
            if not seen.is_last:
                return send()
            if not url:
                url = str(seen.request.url)
                send().close()
                raise ConnectionBroken
            return answering(404, lambda _: True)(seen, send)

        between.meddle = meddle
        put(gcs)
        assert get(gcs) == CONTENT

    def test_a_session_that_is_forgotten_half_way_is_an_error_that_may_pass(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        between.meddle = answering(410, STEPS["middle part"])
        with pytest.raises(TransientStorageError):
            put(gcs)
        assert names_in(gcs) == set()

    def test_a_page_of_a_list_that_fails_is_asked_for_again(
        self, gcs: GCSStorage, between: Between, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gcs.page_names = 2
        names = {f"audio/{number}.mp3" for number in range(5)}
        for name in names:
            put(gcs, b"x", name)
        between.meddle = answering(503, lambda seen: "pageToken" in seen.query)
        assert {stat.name for stat in gcs.list()} == names
        assert len([seen for seen in between.seen if "maxResults" in seen.query]) == 4

    @pytest.mark.parametrize("body", [b"", b"<html>Please log in</html>", b"[]", b"{}", b'{"name": "audio'])
    def test_an_answer_of_something_else_is_none(self, gcs: GCSStorage, between: Between, body: bytes) -> None:
        """Promise 14. A proxy may answer in the storage's place, with success even."""
        put(gcs, b"abc")
        attempts: list[Callable[[], object]] = [
            lambda: put(gcs, b"abc", OTHER),
            lambda: put(gcs, CONTENT, OTHER),
            lambda: gcs.stat(NAME),
            lambda: list(gcs.list()),
            lambda: gcs.copy(NAME, OTHER),
            lambda: gcs.compose([NAME], OTHER),
            lambda: get(gcs),
        ]
        between.meddle = answering(200, lambda _: True, times=999, body=body)
        for attempt in attempts:
            with pytest.raises(StorageError):
                attempt()
        between.meddle = None
        assert names_in(gcs) == {NAME}


class TestBytes:
    def test_what_the_storage_did_not_take_of_a_part_is_sent_again(
        self, gcs: GCSStorage, between: Between, settings: Any
    ) -> None:
        settings.STORAGE_PART_BYTES = 3 * PART
        cut = False

        def meddle(seen: Seen, send: Send) -> Response:
            nonlocal cut
            if STEPS["first part"](seen) and not cut:
                cut = True
                seen.request.body = seen.body[:PART]
                seen.request.headers["Content-Length"] = str(PART)
                seen.request.headers["Content-Range"] = f"bytes 0-{PART - 1}/*"
            return send()

        between.meddle = meddle
        put(gcs)
        assert get(gcs) == CONTENT
        first, second = between.requests("PUT")[:2]
        assert (len(first.body), len(second.body)) == (3 * PART, 2 * PART)

    def test_what_arrived_before_an_answer_was_lost_is_not_sent_again(self, gcs: GCSStorage, between: Between) -> None:
        between.meddle = losing_answers(STEPS["middle part"])
        put(gcs)
        assert sum(len(seen.body) for seen in between.requests("PUT")) == len(CONTENT)

    def test_a_byte_that_changes_on_its_way_is_sent_again(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 14."""
        between.meddle = garbling(is_insert)
        put(gcs, bytes(100_000))
        assert get(gcs) == bytes(100_000)

    @pytest.mark.parametrize("size", [100_000, len(CONTENT)])
    def test_bytes_that_change_again_and_again_become_no_object(
        self, gcs: GCSStorage, between: Between, size: int
    ) -> None:
        """Promises 1 and 14."""
        between.meddle = garbling(lambda seen: is_insert(seen) or STEPS["middle part"](seen), times=3)
        with pytest.raises(TransientStorageError):
            put(gcs, bytes(size))
        assert names_in(gcs) == set()

    def test_a_checksum_that_differs_at_the_end_is_no_success(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 1. Should the storage not compare it itself, we do."""

        def meddle(seen: Seen, send: Send) -> Response:
            seen.request.headers.pop("X-Goog-Hash", None)
            return garbled(seen, send)

        garbled = garbling(STEPS["middle part"])
        between.meddle = meddle
        with pytest.raises(TransientStorageError):
            put(gcs)
        assert names_in(gcs) == set()

    def test_a_client_that_goes_away_leaves_no_session(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 16."""

        def pieces() -> Iterator[bytes]:
            yield CONTENT
            raise ConnectionResetError("the client went away")

        with pytest.raises(ConnectionResetError):
            gcs.save(NAME, StreamedContent(pieces()))
        (cancelled,) = between.requests("DELETE")
        assert cancelled.is_session
        assert gcs.session.put(cancelled.request.url, data=b"", timeout=30).status_code == 410  # type: ignore[arg-type]
        assert names_in(gcs) == set()


class TestErrors:
    @pytest.mark.parametrize("status", [400, 409, 501])
    def test_what_will_not_pass_is_not_tried_again(self, gcs: GCSStorage, between: Between, status: int) -> None:
        between.meddle = answering(status, lambda _: True, times=9)
        with pytest.raises(PermanentStorageError):
            gcs.stat(NAME)
        assert len(between.seen) == 1

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_what_may_pass_is_tried_as_often_as_the_policy_says(
        self, gcs: GCSStorage, between: Between, status: int
    ) -> None:
        between.meddle = answering(status, lambda _: True, times=9)
        with pytest.raises(TransientStorageError):
            gcs.stat(NAME)
        assert len(between.seen) == AT_ONCE.max_attempts

    @pytest.mark.parametrize(
        ("told", "seconds"), [("7", 7.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), ("", None)]
    )
    def test_the_storage_may_say_how_long_to_wait(
        self, gcs: GCSStorage, between: Between, told: str, seconds: float | None
    ) -> None:
        between.meddle = answering(429, lambda _: True, times=9, Retry_After=told)
        with pytest.raises(TransientStorageError) as raised:
            gcs.stat(NAME)
        assert raised.value.retry_after == seconds

    def test_an_account_that_is_not_known_is_refused_at_once(
        self, settings: Any, gcs_server: ObjectServer, tmp_path: Path
    ) -> None:
        write_account(tmp_path / "stranger.json")
        storage = configure(settings, gcs_server, credentials_file=str(tmp_path / "stranger.json"))
        for attempt in (lambda: storage.save(NAME, ContentFile(b"x")), lambda: storage.stat(NAME)):
            with pytest.raises(CredentialsRefused):
                attempt()

    def test_nobody_is_refused_too(self, settings: Any, gcs_server: ObjectServer) -> None:
        storage = configure(settings, gcs_server, credentials_file="")
        with pytest.raises(CredentialsRefused):
            storage.stat(NAME)

    @pytest.mark.parametrize("content", [None, "", "{", "[]", '{"type": "service_account"}', '{"type": "other"}'])
    def test_credentials_that_cannot_be_read_are_refused(
        self, settings: Any, gcs_server: ObjectServer, tmp_path: Path, content: str | None
    ) -> None:
        file = tmp_path / "account.json"
        if content is not None:
            file.write_text(content)
        storage = configure(settings, gcs_server, credentials_file=str(file))
        with pytest.raises(CredentialsRefused):
            storage.stat(NAME)

    @pytest.mark.parametrize("address", ["127.0.0.1:9", "http://", "gopher://127.0.0.1"])
    def test_an_address_that_is_none_is_not_tried_again(
        self, settings: Any, gcs_server: ObjectServer, address: str
    ) -> None:
        storage = configure(settings, gcs_server, endpoint_url=address)
        with capture_logs() as logs, pytest.raises(PermanentStorageError):
            storage.stat(NAME)
        assert len([entry for entry in logs if entry["event"] == "gcs_failed"]) == 1

    def test_a_slash_at_the_end_of_the_address_does_not_matter(self, settings: Any, gcs_server: ObjectServer) -> None:
        endpoint = f"{gcs_server.options['endpoint_url']}/"
        storage = configure(settings, gcs_server, endpoint_url=endpoint)
        storage.save(NAME, ContentFile(b"x"))
        assert storage.stat(NAME).size == 1

    def test_a_bucket_that_is_not_there_is_told_from_an_object_that_is_not(
        self, settings: Any, gcs_server: ObjectServer
    ) -> None:
        settings.STORAGE_PART_BYTES = PART
        storage = configure(settings, gcs_server, bucket_name="test-no-such-bucket")
        assert isinstance(storage, GCSStorage)
        attempts: list[Callable[[], object]] = [
            lambda: put(storage, b"small"),
            lambda: put(storage),
            lambda: storage.stat(NAME),
            lambda: storage.delete(NAME),
            lambda: storage.copy(NAME, OTHER),
            lambda: list(storage.list()),
            lambda: storage.rules.plan(),
        ]
        for attempt in attempts:
            with pytest.raises(BucketNotFound):
                attempt()

    def test_the_key_to_an_upload_is_in_no_log_and_no_error(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 49. Who has a session's URL can write the object."""
        url = ""

        def meddle(seen: Seen, send: Send) -> Response:
            nonlocal url
            if seen.is_session and seen.method == "PUT":
                url = str(seen.request.url)
                raise ConnectionBroken(f"cannot reach {url}")
            return send()

        between.meddle = meddle
        with capture_logs() as logs, pytest.raises(StorageError) as raised:
            put(gcs)
        key = url.partition("upload_id=")[2]
        told = json.dumps(logs, default=repr) + "".join(traceback.format_exception(raised.value))
        assert len(key) > 20
        assert len(logs) >= AT_ONCE.max_attempts
        assert key not in told

    def test_nor_when_the_storage_answers_with_an_error(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 49."""
        between.meddle = answering(403, lambda seen: seen.is_session and seen.method == "PUT")
        with capture_logs() as logs, pytest.raises(CredentialsRefused) as raised:
            put(gcs)
        told = json.dumps(logs, default=repr) + "".join(traceback.format_exception(raised.value))
        assert logs
        assert "upload_id" not in told

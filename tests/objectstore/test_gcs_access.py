"""Who may do what in a bucket of Google's: signed URLs, direct uploads, credentials, and the bucket itself."""

import base64
import json
import secrets
from datetime import timedelta
from typing import Any

import google.auth
import pytest
import requests
import time_machine
from django.core.files.base import ContentFile
from django.utils import timezone
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials as PersonalCredentials

from objectstore.capabilities import DirectUpload
from objectstore.errors import (
    CredentialsRefused,
    DirectUploadIncomplete,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    TransientStorageError,
)
from objectstore.gcs import GCSStorage
from objectstore.gcs.access import find_credentials
from objectstore.gcs.errors import vendor_errors
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.object_servers.gcs_signatures import EMAIL, OPEN_PREFIX, UNIVERSE
from tests.objectstore.gcs_between import (
    AT_ONCE,
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


def signed(storage: GCSStorage, name: str = NAME, **options: Any) -> str:
    url = storage.signer.sign(name, **{"seconds": 60, **options})
    assert url is not None
    return url


class TestSignedUrls:
    """Promise 51. A signed URL is for one object and one verb, and short-lived."""

    def test_it_is_for_one_verb_and_one_object(self, gcs: GCSStorage) -> None:
        put(gcs, b"one")
        put(gcs, b"two", OTHER)
        url = signed(gcs)
        assert requests.get(url, timeout=30).content == b"one"
        assert requests.put(url, data=b"forged", timeout=30).status_code == 403
        assert requests.get(url.replace(NAME, OTHER), timeout=30).status_code == 403
        assert requests.get(url + "&generation=1", timeout=30).status_code == 403
        assert get(gcs) == b"one"

    def test_it_ends(self, gcs: GCSStorage) -> None:
        put(gcs)
        with time_machine.travel(timezone.now() - timedelta(seconds=61), tick=False):
            ended = signed(gcs)
        assert requests.get(ended, timeout=30).status_code == 400

    def test_a_put_is_for_one_content_type(self, gcs: GCSStorage) -> None:
        url = signed(gcs, method="PUT", content_type="audio/mpeg")
        wrong = requests.put(url, data=b"x", headers={"Content-Type": "text/html"}, timeout=30)
        right = requests.put(url, data=b"x", headers={"Content-Type": "audio/mpeg"}, timeout=30)
        assert (wrong.status_code, right.status_code) == (403, 200)
        assert gcs.stat(NAME).content_type == "audio/mpeg"
        assert requests.get(url, headers={"Content-Type": "audio/mpeg"}, timeout=30).status_code == 403

    def test_an_account_without_a_key_lets_google_sign(
        self, settings: Any, gcs_server: ObjectServer, gcs: GCSStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(gcs)
        signer = service_account.Credentials.from_service_account_file(gcs_server.options["credentials_file"])
        asked: list[Any] = []

        def sign_blob(adapter: object, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            asked.append((request.url, request.headers["Authorization"], options["timeout"]))
            payload = base64.b64decode(json.loads(request.body or b"")["payload"])
            answer = {"signedBlob": base64.b64encode(signer.sign_bytes(payload)).decode()}
            return answered(200, answer)

        keyless = self.keyless(settings, gcs_server, gcs, monkeypatch)
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", sign_blob)
        url = signed(keyless)
        monkeypatch.undo()
        assert requests.get(url, timeout=30).content == CONTENT
        ((address, authorization, timeout),) = asked
        assert address == f"https://iamcredentials.{UNIVERSE}/v1/projects/-/serviceAccounts/{EMAIL}:signBlob"
        assert (authorization, timeout) == ("Bearer token-1", settings.STORAGE_TIMEOUT_SECONDS)

    @pytest.mark.parametrize(
        ("status", "kind", "times"), [(503, TransientStorageError, 3), (403, CredentialsRefused, 1)]
    )
    def test_a_google_that_does_not_sign_is_asked_as_often_as_the_policy_says(
        self,
        settings: Any,
        gcs_server: ObjectServer,
        gcs: GCSStorage,
        monkeypatch: pytest.MonkeyPatch,
        status: int,
        kind: type[StorageError],
        times: int,
    ) -> None:
        keyless = self.keyless(settings, gcs_server, gcs, monkeypatch)
        asked: list[Any] = []

        def refuse(adapter: object, request: requests.PreparedRequest, **options: Any) -> requests.Response:
            asked.append(request.url)
            return answered(status, {})

        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)
        with pytest.raises(kind):
            keyless.signer.sign(NAME, seconds=60)
        assert len(asked) == times

    def keyless(
        self, settings: Any, gcs_server: ObjectServer, gcs: GCSStorage, monkeypatch: pytest.MonkeyPatch
    ) -> GCSStorage:
        keyless = configure(settings, gcs_server, bucket_name=gcs.bucket_name, credentials=Keyless())
        assert isinstance(keyless, GCSStorage)
        return keyless

    @pytest.mark.parametrize("credentials", [AnonymousCredentials(), PersonalCredentials("token")])
    def test_who_cannot_sign_has_none(
        self, settings: Any, gcs_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, credentials: Credentials
    ) -> None:
        assert configure(settings, gcs_server, credentials=credentials).signer.sign(NAME, seconds=60) is None


def answered(status: int, body: dict[str, str]) -> requests.Response:
    response = requests.Response()
    response.status_code, response._content = status, json.dumps(body).encode()
    return response


class Keyless(Credentials):  # type: ignore[misc]
    """As a machine of Google's has them."""

    service_account_email = EMAIL

    def __init__(self) -> None:
        super().__init__()
        self._universe_domain = UNIVERSE
        self.refreshed = 0

    def refresh(self, request: object) -> None:
        self.refreshed += 1
        self.token = f"token-{self.refreshed}"


class TestDirectUploads:
    def begin(self, storage: GCSStorage, size_bytes: int = len(CONTENT)) -> DirectUpload:
        return storage.direct.begin(
            NAME,
            size_bytes=size_bytes,
            content_type="audio/mpeg",
            metadata=lambda: {"audio_id": "0b7f"},
            seconds=300,
        )

    def test_the_origin_of_a_script_is_told_when_its_session_begins(self, gcs: GCSStorage, between: Between) -> None:
        """Or its browser would not let it read an answer."""
        for origin in ("https://app.example.com", ""):
            gcs.direct.begin(NAME, size_bytes=10, content_type="audio/mpeg", metadata=dict, seconds=60, origin=origin)
            assert between.seen[-1].headers.get("Origin", "") == origin

    def send(self, direct: DirectUpload, start: int, end: int, total: str = str(len(CONTENT))) -> int:
        """As a client does, without anything but the URL."""
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{total}"}
        url = json.loads(direct.handle)["url"]
        return requests.put(url, data=CONTENT[start:end], headers=headers, timeout=30).status_code

    def complete(self, storage: GCSStorage, direct: DirectUpload, size_bytes: int = len(CONTENT)) -> Any:
        return storage.direct.complete(
            NAME, direct, size_bytes=size_bytes, metadata=lambda: {"audio_id": "0b7f", "sha256": "e3b0"}
        )

    def test_a_session_is_begun_for_so_many_bytes_of_a_type(self, gcs: GCSStorage, between: Between) -> None:
        self.begin(gcs)
        (request,) = between.seen
        assert request.headers["X-Upload-Content-Length"] == str(len(CONTENT))
        assert request.headers["X-Upload-Content-Type"] == "audio/mpeg"
        assert request.query["ifGenerationMatch"] == "0"
        assert request.json()["metadata"]["audio_id"] == "0b7f"

    def test_what_has_arrived_need_not_be_sent_again(self, gcs: GCSStorage) -> None:
        """Promise 18."""
        direct = self.begin(gcs)
        assert self.send(direct, 0, 2 * PART) == 308
        with pytest.raises(DirectUploadIncomplete) as raised:
            self.complete(gcs, direct)
        assert raised.value.members == {"expected": len(CONTENT), "received": 2 * PART}
        (request,) = gcs.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=300)
        assert (request.start, request.size) == (2 * PART, len(CONTENT) - 2 * PART)
        rest = requests.put(request.url, data=CONTENT[request.start :], headers=dict(request.headers), timeout=30)
        assert rest.status_code == 200
        stat = self.complete(gcs, direct)
        assert (stat.size, stat.content_type) == (len(CONTENT), "audio/mpeg")
        assert stat.metadata == {"audio_id": "0b7f", "sha256": "e3b0"}
        assert get(gcs) == CONTENT

    def test_a_client_need_not_say_which_bytes_are_the_last(self, gcs: GCSStorage) -> None:
        direct = self.begin(gcs, 2 * PART)
        assert self.send(direct, 0, 2 * PART, "*") == 308
        assert not gcs.exists(NAME)
        assert self.complete(gcs, direct, 2 * PART).size == 2 * PART

    def test_more_than_was_declared_is_not_taken(self, gcs: GCSStorage) -> None:
        """Promise 21."""
        direct = self.begin(gcs, PART)
        assert self.send(direct, 0, 2 * PART, str(2 * PART)) == 400
        assert names_in(gcs) == set()

    def test_nothing_at_all_can_be_sent(self, gcs: GCSStorage) -> None:
        direct = self.begin(gcs, 0)
        assert list(gcs.direct.requests(NAME, direct, size_bytes=0, seconds=300)) == []
        assert self.complete(gcs, direct, 0).size == 0

    def test_an_object_that_was_there_first_stays(self, gcs: GCSStorage) -> None:
        """Promise 12."""
        direct = self.begin(gcs)
        put(gcs, b"first")
        assert self.send(direct, 0, len(CONTENT)) == 412
        with pytest.raises(ObjectExists):
            self.complete(gcs, direct)
        gcs.direct.abort(NAME, direct)
        assert get(gcs) == b"first"

    @pytest.mark.parametrize("sent", [0, PART, len(CONTENT)])
    def test_what_was_forgotten_cannot_be_sent_any_more(self, gcs: GCSStorage, sent: int) -> None:
        """Promise 16."""
        direct = self.begin(gcs)
        if sent:
            self.send(direct, 0, sent)
        gcs.direct.abort(NAME, direct)
        gcs.direct.abort(NAME, direct)
        assert self.send(direct, sent, len(CONTENT)) == 410
        for attempt in (
            lambda: gcs.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=300),
            lambda: self.complete(gcs, direct),
        ):
            with pytest.raises(ObjectNotFound):
                attempt()
        assert names_in(gcs) == set()

    def test_completing_again_after_a_lost_answer_is_the_same(self, gcs: GCSStorage, between: Between) -> None:
        """Promise 13."""
        direct = self.begin(gcs)
        self.send(direct, 0, len(CONTENT))
        between.meddle = losing_answers(lambda seen: seen.method == "PATCH", times=AT_ONCE.max_attempts)
        with pytest.raises(TransientStorageError):
            self.complete(gcs, direct)
        assert self.complete(gcs, direct) == self.complete(gcs, direct) == gcs.stat(NAME)

    def test_a_complete_upload_is_known_by_its_object_when_its_session_is_forgotten(
        self, gcs: GCSStorage, between: Between
    ) -> None:
        direct = self.begin(gcs)
        self.send(direct, 0, len(CONTENT))
        between.meddle = answering(410, lambda seen: seen.is_session, times=9)
        assert list(gcs.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=300)) == []
        assert self.complete(gcs, direct).size == len(CONTENT)


class TestCredentials:
    def test_another_server_without_a_file_is_asked_without_any(
        self, settings: Any, gcs_server: ObjectServer, gcs: GCSStorage
    ) -> None:
        bucket = f"{OPEN_PREFIX}{secrets.token_hex(6)}"
        assert configure(settings, gcs_server, bucket_name=bucket).bucket.create()
        storage = configure(settings, gcs_server, bucket_name=bucket, credentials_file="")
        assert isinstance(storage, GCSStorage)
        between = Between(storage)
        put(storage)
        assert get(storage) == CONTENT
        assert not [seen for seen in between.seen if "Authorization" in seen.headers]

    def test_without_a_file_google_finds_them_and_the_project(self, monkeypatch: pytest.MonkeyPatch) -> None:
        keyless = Keyless()
        monkeypatch.setattr(google.auth, "default", lambda scopes: (keyless, "found"))
        storage = GCSStorage(bucket_name="b")
        assert (storage.client.project, storage.client.api_endpoint) == ("found", f"https://storage.{UNIVERSE}")
        assert storage.session.credentials is keyless

    def test_where_there_are_none_that_is_an_error_of_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def find(scopes: object) -> None:
            raise DefaultCredentialsError("none")

        monkeypatch.setattr(google.auth, "default", find)
        with pytest.raises(CredentialsRefused):
            GCSStorage(bucket_name="b").stat(NAME)

    def test_files_of_other_kinds_are_read_too(self, tmp_path: Any) -> None:
        file = tmp_path / "person.json"
        person = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"}
        file.write_text(json.dumps(person))
        credentials, _project = find_credentials(str(file), True)
        assert isinstance(credentials, PersonalCredentials)

    @pytest.mark.parametrize(
        ("raised", "expected"),
        [
            (TransportError("no route"), TransientStorageError),
            (RefreshError("busy", retryable=True), TransientStorageError),
            (RefreshError("invalid_grant"), CredentialsRefused),
        ],
    )
    def test_a_token_that_cannot_be_had_just_now_is_told_from_one_that_is_refused(
        self, raised: Exception, expected: type[Exception]
    ) -> None:
        with pytest.raises(expected), vendor_errors("read"):
            raise raised


class TestTheBucket:
    def test_it_is_made_where_it_is_wanted_and_closed_to_the_public(
        self, settings: Any, gcs_server: ObjectServer
    ) -> None:
        bucket = f"test-{secrets.token_hex(6)}"
        storage = configure(settings, gcs_server, bucket_name=bucket, region="EUROPE-WEST3")
        assert isinstance(storage, GCSStorage)
        between = Between(storage)
        assert storage.bucket.create()
        assert not storage.bucket.create()
        sent = between.seen[0].json()
        assert (sent["name"], sent["location"]) == (bucket, "EUROPE-WEST3")
        assert sent["iamConfiguration"]["publicAccessPrevention"] == "enforced"
        assert sent["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"]
        storage.save(NAME, ContentFile(b"x"))
        assert storage.region == "EUROPE-WEST3"
        assert storage.location_of(NAME) == f"gs://{bucket}/{NAME}"

    def test_its_rules_are_planned_and_put_in_place_once(self, gcs: GCSStorage) -> None:
        plan = gcs.rules.plan()
        assert plan.changes
        gcs.rules.apply(plan)
        assert not gcs.rules.plan().changes

    def test_what_django_storages_would_do_past_our_errors_is_not_there(self, gcs: GCSStorage) -> None:
        for forbidden in (lambda: gcs.url(NAME), lambda: gcs.listdir("audio"), lambda: gcs.get_created_time(NAME)):
            with pytest.raises(NotImplementedError):
                forbidden()

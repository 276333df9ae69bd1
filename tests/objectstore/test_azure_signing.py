"""What clients are given: signed URLs of Azure, and places to send a file to."""

import base64
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import time_machine
from azure.core.credentials import AccessToken
from azure.storage.blob import BlobBlock, BlobClient, ContentSettings, UserDelegationKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.files.base import ContentFile

from objectstore.azure import AzureStorage
from objectstore.azure.client import DELEGATION_TIME, SignatureKeys
from objectstore.capabilities import DirectUpload
from objectstore.errors import DirectUploadIncomplete, ObjectExists, ObjectNotFound, TransientStorageError
from objectstore.retry import ONCE, retry_policy
from tests.object_servers import ObjectServer
from tests.object_servers.azurite import API_VERSION, running_azurite
from tests.object_servers.fixtures import configure
from tests.servers import wait_until

NAME = "audio/0b7f/audio.mp3"
OTHER = "audio/0b7f/other.mp3"
CONTENT = bytes(range(256)) * 1000
BLOCK_BLOB = {"x-ms-blob-type": "BlockBlob"}
TOKEN_OF = "23657296-5cd5-45b0-a809-d972a7f4dfe1"


@pytest.fixture
def azure(settings: Any, azure_server: ObjectServer) -> AzureStorage:
    storage = configure(settings, azure_server)
    assert isinstance(storage, AzureStorage)
    return storage


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


class TestSignedURLs:
    def test_a_url_to_read_says_type_and_disposition(self, azure: AzureStorage, http: requests.Session) -> None:
        azure.save(NAME, ContentFile(CONTENT), content_type="audio/mpeg")
        disposition = "attachment; filename*=UTF-8''%C3%A4.mp3"
        url = azure.signer.sign(NAME, seconds=60, content_type="application/octet-stream", disposition=disposition)
        answer = http.get(url, headers={"Range": "bytes=10-19"})
        assert (answer.status_code, answer.content) == (206, CONTENT[10:20])
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == disposition

    def test_a_url_is_for_one_object_and_one_verb(self, azure: AzureStorage, http: requests.Session) -> None:
        """Promise 51."""
        azure.save(NAME, ContentFile(CONTENT))
        azure.save(OTHER, ContentFile(b"other"))
        url = azure.signer.sign(NAME, seconds=60)
        refused = [
            http.get(url.replace(NAME, OTHER)),
            http.put(url, data=b"forged", headers=BLOCK_BLOB),
            http.delete(url),
            http.get(url.replace("se=", "se=2")),
            http.get(url.partition("?")[0]),
        ]
        assert {answer.status_code for answer in refused} <= {401, 403, 404}
        assert http.get(url).content == CONTENT

    def test_a_url_that_has_expired_is_dead(self, azure: AzureStorage, http: requests.Session) -> None:
        """Promise 51."""
        azure.save(NAME, ContentFile(CONTENT))
        assert http.get(azure.signer.sign(NAME, seconds=-1)).status_code == 403

    def test_a_url_of_a_deleted_object_is_dead(self, azure: AzureStorage, http: requests.Session) -> None:
        """Promise 51."""
        azure.save(NAME, ContentFile(CONTENT))
        url = azure.signer.sign(NAME, seconds=60)
        azure.delete(NAME)
        assert http.get(url).status_code == 404

    def test_a_url_to_write_makes_an_object_and_neither_overwrites_nor_reads(
        self, azure: AzureStorage, http: requests.Session
    ) -> None:
        """Promise 12."""
        url = azure.signer.sign(NAME, seconds=60, method="PUT", content_type="audio/mpeg")
        headers = {**BLOCK_BLOB, "Content-Type": "audio/mpeg"}
        assert http.put(url, data=CONTENT, headers=headers).status_code == 201
        assert (azure.stat(NAME).size, azure.stat(NAME).content_type) == (len(CONTENT), "audio/mpeg")
        assert http.put(url, data=b"forged", headers=headers).status_code == 403
        assert http.get(url).status_code == 403
        with azure.open_range(NAME) as file:
            assert file.read() == CONTENT

    def test_clients_are_sent_to_the_address_that_they_reach(self, settings: Any, azure_server: ObjectServer) -> None:
        public = "https://vault.example.org/audio"
        azure = configure(settings, azure_server, public_endpoint_url=public)
        assert isinstance(azure, AzureStorage)
        url = azure.signer.sign(NAME, seconds=60)
        assert url.startswith(f"{public}/{azure.azure_container}/{NAME}?")
        # Not over a connection that anybody can listen to, unless there is no other.
        assert parse_qs(urlsplit(url).query)["spr"] == ["https"]
        assert azure.location_of(NAME).startswith(azure_server.options["endpoint_url"])


def begin(azure: AzureStorage, content: bytes = CONTENT) -> DirectUpload:
    return azure.direct.begin(
        NAME, size_bytes=len(content), content_type="audio/mpeg", metadata=lambda: {"file_type": "mp3"}, seconds=600
    )


def send(azure: AzureStorage, http: requests.Session, direct: DirectUpload, content: bytes = CONTENT) -> None:
    for asked in azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600):
        body = content[asked.start : asked.start + asked.size]
        assert http.request(asked.method, asked.url, data=body, headers=dict(asked.headers)).status_code == 201


def complete(azure: AzureStorage, direct: DirectUpload) -> Any:
    return azure.direct.complete(NAME, direct, size_bytes=len(CONTENT), metadata=lambda: {"file_type": "mp3"})


def staging(azure: AzureStorage) -> list[str]:
    return list(azure.client.list_blob_names(name_starts_with="staging/"))


class TestDirectUploads:
    def test_a_client_sends_its_bytes_itself(self, azure: AzureStorage, http: requests.Session) -> None:
        direct = begin(azure)
        send(azure, http, direct)
        assert azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600) == []
        stat = complete(azure, direct)
        assert stat == azure.stat(NAME)
        assert (stat.size, stat.content_type, stat.metadata) == (len(CONTENT), "audio/mpeg", {"file_type": "mp3"})
        with azure.open_range(NAME) as file:
            assert file.read() == CONTENT
        assert staging(azure) == []

    def test_what_is_not_complete_is_no_object(self, azure: AzureStorage, http: requests.Session) -> None:
        """Promise 1. The size is the service's."""
        direct = begin(azure)
        for sent in (b"", CONTENT[:-1], CONTENT + b"!"):
            asked = azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600)[0]
            http.put(asked.url, data=sent, headers=dict(asked.headers))
            with pytest.raises(DirectUploadIncomplete) as raised:
                complete(azure, direct)
            assert raised.value.members == {"expected": len(CONTENT), "received": len(sent)}
            assert list(azure.list()) == []
        send(azure, http, direct)
        assert complete(azure, direct).size == len(CONTENT)

    @pytest.mark.parametrize("step", ["start_copy", "_set_content_settings", "delete_blob"])
    @pytest.mark.parametrize("answered", [False, True], ids=["request_lost", "answer_lost"])
    def test_a_completion_that_broke_off_anywhere_can_be_asked_for_again(
        self, azure: AzureStorage, http: requests.Session, monkeypatch: pytest.MonkeyPatch, step: str, answered: bool
    ) -> None:
        """Promise 13. It makes one object, and one that is the same."""
        direct = begin(azure)
        send(azure, http, direct)
        owner = azure if hasattr(azure, step) else azure.direct
        request = getattr(owner, step)

        def break_off(*args: Any, **options: Any) -> None:
            if answered:
                request(*args, **options)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(owner, step, break_off)
            complete(azure, direct)
        stat = complete(azure, direct)
        assert complete(azure, direct) == stat == azure.stat(NAME)
        assert stat.size == len(CONTENT)
        assert (stat.content_type, stat.metadata) == ("audio/mpeg", {"file_type": "mp3"})
        assert staging(azure) == []
        assert azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600) == []

    def test_one_that_is_completed_by_two_at_once_is_one_object(
        self, azure: AzureStorage, http: requests.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Promise 13. Also when one of them finds that the other took the bytes already."""
        direct = begin(azure)
        send(azure, http, direct)
        take = azure.direct._take

        def be_overtaken(*args: Any) -> None:
            monkeypatch.setattr(azure.direct, "_take", take)
            complete(azure, direct)
            take(*args)

        monkeypatch.setattr(azure.direct, "_take", be_overtaken)
        assert complete(azure, direct).size == len(CONTENT)
        assert [stat.name for stat in azure.list()] == [NAME]

    def test_nothing_that_the_client_sends_later_changes_the_object(
        self, azure: AzureStorage, http: requests.Session
    ) -> None:
        direct = begin(azure)
        asked = azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600)[0]
        send(azure, http, direct)
        stat = complete(azure, direct)
        http.put(asked.url, data=CONTENT[::-1], headers=dict(asked.headers))
        http.put(asked.url.replace(json.loads(direct.handle)["staging"], NAME), data=b"!", headers=dict(asked.headers))
        assert azure.stat(NAME) == stat
        with azure.open_range(NAME) as file:
            assert file.read() == CONTENT
        assert complete(azure, direct).size == len(CONTENT)
        assert staging(azure) == []

    def test_bytes_that_change_while_they_are_completed_are_not_taken(
        self, azure: AzureStorage, http: requests.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        direct = begin(azure)
        asked = azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600)[0]
        send(azure, http, direct)
        start_copy = azure.start_copy

        def change_first(*args: Any, **options: Any) -> None:
            http.put(asked.url, data=CONTENT[::-1], headers=dict(asked.headers))
            start_copy(*args, **options)

        monkeypatch.setattr(azure, "start_copy", change_first)
        with retry_policy(ONCE), pytest.raises(TransientStorageError):
            complete(azure, direct)
        assert list(azure.list()) == []

    def test_large_files_are_sent_in_blocks_to_the_same_url_and_no_word_of_the_client_is_believed(
        self, azure: AzureStorage
    ) -> None:
        direct = begin(azure)
        asked = azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600)[0]
        with BlobClient.from_blob_url(asked.url, api_version=API_VERSION) as client:
            client.stage_block("0", CONTENT[:100_000])
            client.stage_block("1", CONTENT[100_000:])
            forged = ContentSettings(content_type="text/html", content_md5=bytearray(16))
            client.commit_block_list([BlobBlock("0"), BlobBlock("1")], forged, metadata={"original_filename": "forged"})
        stat = complete(azure, direct)
        assert (stat.size, stat.content_type, stat.checksums) == (len(CONTENT), "audio/mpeg", {})
        assert stat.metadata == {"file_type": "mp3"}

    def test_another_object_under_the_name_stays(self, azure: AzureStorage, http: requests.Session) -> None:
        """Promise 12."""
        direct = begin(azure)
        send(azure, http, direct)
        azure.save(NAME, ContentFile(b"another"))
        with pytest.raises(ObjectExists):
            complete(azure, direct)
        azure.direct.abort(NAME, direct)
        assert azure.stat(NAME).size == len(b"another")

    @pytest.mark.parametrize("completed", [False, True])
    def test_an_upload_that_is_given_up_leaves_nothing(
        self, azure: AzureStorage, http: requests.Session, completed: bool
    ) -> None:
        """Promise 16."""
        direct = begin(azure)
        send(azure, http, direct)
        if completed:
            complete(azure, direct)
        azure.direct.abort(NAME, direct)
        azure.direct.abort(NAME, direct)
        assert list(azure.client.list_blobs()) == []
        with pytest.raises(ObjectNotFound):
            azure.direct.requests(NAME, direct, size_bytes=len(CONTENT), seconds=600)
        with pytest.raises(ObjectNotFound):
            complete(azure, direct)


class Token:
    """A credential as azure-identity gives one. Azurite reads what a token says and does not ask who signed it."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        now = datetime.now(UTC)
        claims = {
            "aud": "https://storage.azure.com",
            "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/",
            "nbf": int((now - timedelta(minutes=5)).timestamp()),
            "iat": int((now - timedelta(minutes=5)).timestamp()),
            "exp": int((now + timedelta(hours=1)).timestamp()),
            "oid": TOKEN_OF,
            "tid": "dd0d0df1-06c3-436c-8034-4b9a153097ce",
        }
        parts = ({"alg": "HS256", "typ": "JWT"}, claims, secrets.token_hex(8))
        token = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        return AccessToken(token, claims["exp"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ObjectServer, Path]]:
    """Azurite with TLS, which tokens need, and the certificate to trust."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    with running_azurite(certificate=certificate, key=folder / "key.pem") as server:
        yield server, certificate


def make_certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "certificate.pem"


class TestWithoutAKey:
    """Where azure-identity says who we are, URLs are signed with keys that Azure gives for some days."""

    @pytest.fixture
    def azure(self, settings: Any, secure_server: tuple[ObjectServer, Path]) -> AzureStorage:
        server, certificate = secure_server
        storage = configure(
            settings,
            server,
            account_key=None,
            token_credential=Token(),
            client_options={"connection_verify": str(certificate)},
        )
        assert isinstance(storage, AzureStorage)
        return storage

    def test_objects_are_written_copied_and_read(self, azure: AzureStorage) -> None:
        azure.save(NAME, ContentFile(CONTENT))
        azure.copy(NAME, OTHER, storage_class="Cool")
        with azure.open_range(OTHER) as file:
            assert file.read() == CONTENT

    def test_one_key_signs_many_urls(self, azure: AzureStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        """Azurite knows no signature of this kind that is as new as the client library's: none is used here."""
        keys: list[Any] = []
        ask = azure.service_client.get_user_delegation_key

        def note(*args: Any) -> Any:
            keys.append(args)
            return ask(*args)

        monkeypatch.setattr(azure.service_client, "get_user_delegation_key", note)
        for seconds in (60, 86_400, 6 * 86_400, 604_800, 604_800):
            query = parse_qs(urlsplit(azure.signer.sign(NAME, seconds=seconds)).query)
            assert (query["sp"], query["skoid"]) == (["r"], [TOKEN_OF])
            left = (datetime.fromisoformat(query["se"][0]) - datetime.now(UTC)).total_seconds()
            assert seconds - 3600 < left <= seconds
        assert len(keys) == 1
        start, end = keys[0]
        assert start < datetime.now(UTC) and end - start == DELEGATION_TIME


class Delegating:
    """Gives keys out as the service does, when it is ``free`` to."""

    def __init__(self) -> None:
        self.asked = 0
        self.free = Event()
        self.free.set()

    def get_user_delegation_key(self, start: datetime, ends: datetime) -> UserDelegationKey:
        self.asked += 1
        assert self.free.wait(30)
        key = UserDelegationKey()  # type: ignore[no-untyped-call]
        key.signed_oid = key.signed_tid = TOKEN_OF
        key.signed_service, key.signed_version, key.value = "b", API_VERSION, base64.b64encode(b"key").decode()
        key.signed_start, key.signed_expiry = start.isoformat(), ends.isoformat()
        return key


def test_a_url_does_not_end_early_because_its_key_is_old() -> None:
    """Promise 51. It lives as long as it is said to: another key is asked for before the one at hand ends."""
    service = Delegating()
    signer = SignatureKeys(cast(Any, service), "vault", None)
    with time_machine.travel(datetime(2026, 1, 1, tzinfo=UTC), tick=False) as clock:
        for hours in (0, 24, 24, 24, 24, 24, 24, 23, 1, 1):
            clock.shift(timedelta(hours=hours))
            query = parse_qs(signer.sign("audio", NAME, seconds=3600, permission="r"))
            assert datetime.fromisoformat(query["se"][0]) - datetime.now(UTC) == timedelta(hours=1)
    assert service.asked == 2


def test_those_who_want_a_url_do_not_wait_one_behind_the_other_for_a_key_that_does_not_come(settings: Any) -> None:
    service = Delegating()
    service.free.clear()
    signer = SignatureKeys(cast(Any, service), "vault", None)
    settings.STORAGE_TIMEOUT_SECONDS = 0.05
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(signer.sign, "audio", NAME, seconds=60, permission="r")
        wait_until(lambda: service.asked, what="the first request")
        with retry_policy(ONCE), pytest.raises(TransientStorageError):
            signer.sign("audio", NAME, seconds=60, permission="r")
        service.free.set()
        assert first.result(30)
    assert signer.sign("audio", NAME, seconds=60, permission="r")
    assert service.asked == 1

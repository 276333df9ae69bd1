"""What storage_doctor says of storages that work, and of those that do not."""

import errno
import io
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import time_machine
from django.core.files.storage import storages
from django.core.management import CommandError, call_command

from objectstore import get_storage
from objectstore.advice import NEEDS, advice_on
from objectstore.base import AudioStorage, ObjectStat
from objectstore.capabilities import BucketControl, Encryption, Parts, Signer
from objectstore.capabilities import Keeping as BucketKeeping
from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectExists,
    PermanentStorageError,
    TransientStorageError,
)
from objectstore.local import LocalStorage
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.servers import free_port
from uploads.upkeep.doctor import Examination, Outcome, examine_storage

pytestmark = pytest.mark.django_db

LINE = re.compile(
    r"(?P<storage>\w+): (?P<step>[^:]+): (?P<outcome>ok|failed|not supported|does not work, not needed)(?P<rest>.*)"
)


def doctor_says(alias: str, *, code: int = 0, **options: Any) -> dict[str, tuple[str, str]]:
    """Each step with its outcome, and with the words behind it."""
    out = io.StringIO()
    if code:
        with pytest.raises(SystemExit) as ended:
            call_command("storage_doctor", storage=alias, stdout=out, **options)
        assert ended.value.code == code
    else:
        call_command("storage_doctor", storage=alias, stdout=out, **options)
    lines = [LINE.fullmatch(line) for line in out.getvalue().splitlines()]
    assert all(lines), out.getvalue()
    return {line["step"]: (line["outcome"], line["rest"]) for line in lines if line}


def outcomes(said: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Of what is not simply right."""
    return {step: outcome for step, (outcome, _) in said.items() if outcome != "ok"}


def objects(storage: AudioStorage) -> list[str]:
    return [stat.name for stat in storage.list()]


# Storages that work


def test_a_local_folder_passes_and_is_left_as_it_was(audio_root: Path) -> None:
    said = doctor_says("local")
    assert outcomes(said) == {}
    assert {"write", "read", "never overwrites", "large file in parts", "delete"} <= set(said)
    assert "free" in said["room"][1]
    assert list(audio_root.iterdir()) == []


def test_an_s3_server_passes_and_is_left_as_it_was(settings: Any, s3_server: ObjectServer) -> None:
    storage = configure(settings, s3_server)
    said = doctor_says("s3")
    assert outcomes(said) == {}
    assert "configure_lifecycle" in said["lifecycle rules"][1]
    assert objects(storage) == []
    assert storage.remove_partials(datetime.now(UTC) + timedelta(days=1)) == 0


def test_google_cloud_storage_passes_and_is_left_as_it_was(settings: Any, gcs_server: ObjectServer) -> None:
    """The emulator does not send the headers that a signed URL asks for, encrypts nothing, and has no soft delete."""
    storage = configure(settings, gcs_server)
    found = {str(finding.step): finding.outcome for finding in examine_storage("gcs")}
    unlike_google = {"signed URL", "encryption", "purged for good"}
    assert {step for step, outcome in found.items() if outcome is not Outcome.OK} <= unlike_google
    assert {found["encryption"], found["purged for good"]} == {Outcome.LIMITED}
    assert {"delete", "private", "signed for reading only", "lifecycle rules", "direct upload"} <= set(found)
    assert objects(storage) == []


def test_azure_passes_and_is_left_as_it_was(settings: Any, azure_server: ObjectServer) -> None:
    storage = configure(settings, azure_server)
    said = doctor_says("azure")
    assert outcomes(said) == {"lifecycle rules": "not supported"}
    assert "AZURE_SUBSCRIPTION_ID" in said["lifecycle rules"][1]
    assert objects(storage) == []


def test_a_bucket_is_made_when_that_is_asked_for(settings: Any, s3_server: ObjectServer) -> None:
    settings.STORAGES = {**settings.STORAGES, "s3": s3_server.entry("made-by-the-doctor")}
    said = doctor_says("s3", code=1)
    assert list(said) == ["settings", "address and clock", "bucket"]
    assert said["bucket"][0] == "failed"
    assert "AWS_STORAGE_BUCKET_NAME" in said["bucket"][1] and "--create" in said["bucket"][1]
    assert doctor_says("s3", create=True)["bucket"] == ("ok", " (made)")
    assert doctor_says("s3", create=True)["bucket"] == ("ok", "")


# Storages that do not


def test_wrong_keys_are_told_at_once_with_the_right_that_is_missing(settings: Any, s3_server: ObjectServer) -> None:
    configure(settings, s3_server, secret_key="wrong")
    began = time.monotonic()
    said = doctor_says("s3", code=1)
    assert time.monotonic() - began < 10
    assert list(said) == ["settings", "address and clock", "bucket"]
    assert "AWS_SECRET_ACCESS_KEY" in said["bucket"][1] and "s3:ListBucket" in said["bucket"][1]


def test_a_server_that_is_not_there_is_told_at_once(settings: Any, s3_server: ObjectServer) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    configure(settings, s3_server, endpoint_url=address)
    began = time.monotonic()
    said = doctor_says("s3", code=1)
    assert time.monotonic() - began < 10
    assert list(said) == ["settings", "address and clock"]
    assert address.removeprefix("http://") in said["address and clock"][1]


def test_a_wrong_clock_is_told_before_it_looks_like_wrong_keys(settings: Any, s3_server: ObjectServer) -> None:
    configure(settings, s3_server)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1)):
        said = doctor_says("s3", code=1)
    assert list(said) == ["settings", "address and clock"]
    assert re.search(r"3[56]\d\d seconds off", said["address and clock"][1])


def test_settings_that_make_no_storage_are_told(settings: Any) -> None:
    entry = {"BACKEND": "objectstore.s3.S3Storage", "OPTIONS": {"bucket_name": "b", "encryption": "rot13"}}
    settings.STORAGES = {**settings.STORAGES, "s3": entry}
    said = doctor_says("s3", code=1)
    assert list(said) == ["settings"]
    assert "encryption" in said["settings"][1]


def test_a_storage_that_nobody_set_up_is_wrong_usage() -> None:
    with pytest.raises(CommandError, match="local") as refused:
        call_command("storage_doctor", storage="s3")
    assert refused.value.returncode == 2


class Overwriting(LocalStorage):
    def save(self, name: str, *args: Any, **options: Any) -> str:
        try:
            return super().save(name, *args, **options)
        except ObjectExists:
            self.delete(name)
            return super().save(name, *args, **options)


class Forgetful(LocalStorage):
    def list(self, prefix: str = "") -> Iterator[Any]:
        return iter(())


class Refusing(LocalStorage):
    def copy(self, *args: Any, **options: Any) -> Any:
        raise CredentialsRefused


class Garbling(LocalStorage):
    """Loses the last byte of what is large."""

    def open_range(self, name: str, start: int = 0, length: int | None = None) -> Any:
        size = self.stat(name).size
        return super().open_range(name, start, size - 1 if size > 10_000 else length)


class Keeping(LocalStorage):
    def delete(self, name: str, *, seen: ObjectStat | None = None) -> None:
        """Says that it did."""


@pytest.mark.parametrize(
    ("kind", "step", "words"),
    [
        ("Overwriting", "never overwrites", "If-None-Match"),
        ("Forgetful", "list", "consistent"),
        ("Refusing", "copy", "keys and rights"),
        ("Garbling", "large file in parts", "other bytes"),
        ("Keeping", "delete", "by hand"),
    ],
)
def test_a_storage_that_does_not_keep_its_word_is_told_so(
    settings: Any, audio_root: Path, kind: str, step: str, words: str
) -> None:
    entry = {"BACKEND": f"tests.uploads.test_storage_doctor.{kind}", "OPTIONS": {"location": audio_root}}
    settings.STORAGES = {**settings.STORAGES, "local": entry}
    said = doctor_says("local", code=1)
    assert outcomes(said) == {step: "failed"}
    assert words in said[step][1]
    if kind != "Keeping":
        assert objects(storages["local"]) == []


class Dying(LocalStorage):
    def open_range(self, name: str, start: int = 0, length: int | None = None) -> Any:
        raise OSError(errno.EIO, "Input/output error")


def test_a_disk_that_dies_is_told(settings: Any, audio_root: Path) -> None:
    entry = {"BACKEND": "tests.uploads.test_storage_doctor.Dying", "OPTIONS": {"location": audio_root}}
    settings.STORAGES = {**settings.STORAGES, "local": entry}
    said = doctor_says("local", code=1)
    assert list(said)[-1] == "read"
    assert "Input/output error" in said["read"][1]
    assert list(audio_root.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_with_its_setting(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    entry = {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": tmp_path / "file/audio"}}
    settings.STORAGES = {**settings.STORAGES, "local": entry}
    said = doctor_says("local", code=1)
    assert [step for step, (outcome, _) in said.items() if outcome == "failed"] == [list(said)[-1]]
    assert "AUDIO_STORAGE_PATH" in said[list(said)[-1]][1]


@pytest.mark.parametrize("provider", NEEDS)
def test_each_step_names_the_right_that_it_needs(provider: str, audio_root: Path) -> None:
    storage = OpenHouse(audio_root)
    steps = [step for create in (True, False) for step in Examination("local", storage, create=create).steps()]
    assert {step.right for step in steps if step.right} <= set(NEEDS[provider].rights)
    for error in (CredentialsRefused(), BucketNotFound(), TransientStorageError(), PermanentStorageError()):
        advice = str(advice_on(error, "write", NEEDS[provider]))
        needs = NEEDS[provider]
        assert any(name in advice for name in (needs.keys, needs.bucket, needs.place))
    assert NEEDS[provider].rights["write"] in str(advice_on(CredentialsRefused(), "write", NEEDS[provider]))


def test_what_was_written_goes_also_if_nobody_waits_for_the_end(audio_root: Path) -> None:
    looking = examine_storage("local")
    for finding in looking:
        if finding.step == "copy":
            break
    assert len(objects(get_storage("local"))) == 2
    looking.close()
    assert objects(get_storage("local")) == []


class OpenHouse(LocalStorage):
    """Behind a server that asks for no signature, and does whatever it is told."""

    address: ClassVar[str] = ""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.parts, self.signer, self.bucket = Parts(self), EmptySignature(self.address), OpenBucket()


class EmptySignature(Signer):
    def __init__(self, address: str) -> None:
        self.address = address

    def sign(self, name: str, **options: Any) -> str:
        return f"{self.address}/{name}?signature=1"


class OpenBucket(BucketControl):
    def create(self) -> bool:
        return False

    def keeping(self) -> BucketKeeping:
        return BucketKeeping()

    def encryption_of(self, name: str) -> Encryption:
        return Encryption()

    def versions_of(self, name: str) -> int:
        return 0

    def remove_versions(self, name: str) -> None: ...


@pytest.fixture
def open_house(settings: Any, audio_root: Path) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file = audio_root / self.path.split("?")[0].lstrip("/")
            found = file.is_file()
            self.send_response(200 if found else 404)
            body = file.read_bytes() if found else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            (audio_root / self.path.split("?")[0].lstrip("/")).unlink()
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        OpenHouse.address = f"http://127.0.0.1:{server.server_address[1]}"
        entry = {"BACKEND": "tests.uploads.test_storage_doctor.OpenHouse", "OPTIONS": {"location": audio_root}}
        settings.STORAGES = {**settings.STORAGES, "local": entry}
        yield
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("open_house")
def test_a_server_that_asks_nobody_for_a_signature_is_told_so() -> None:
    found = {str(finding.step): finding for finding in examine_storage("local")}
    wrong = {step for step, finding in found.items() if finding.outcome is Outcome.FAILED}
    assert {"signed URL", "signed for reading only", "private", "size, checksum, metadata"} <= wrong
    assert "can reach it can do anything" in found["signed for reading only"].advice
    assert "public access" in found["private"].advice
    assert found["direct upload"].outcome is Outcome.UNSUPPORTED


@pytest.mark.usefixtures("open_house")
def test_what_is_not_needed_does_not_fail(settings: Any) -> None:
    settings.DOWNLOAD_REDIRECTS = False
    found = {str(finding.step): finding.outcome for finding in examine_storage("local")}
    assert found["signed URL"] is Outcome.LIMITED
    assert Outcome.FAILED is found["size, checksum, metadata"]

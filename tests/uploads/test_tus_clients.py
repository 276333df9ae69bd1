"""The public clients of tus against our own web server, on every kind of storage and over a line that drops."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tusclient.client import TusClient

from accounts.tokens import create_token
from objectstore import get_storage
from quotas.models import QuotaReservation
from tests.audio import make_wav
from tests.factories import UserFactory
from tests.object_servers.faults import Fault, FaultyProxy
from tests.tus_clients import CLIENT, NODE
from tests.uploads.tus import TUS
from tests.uploads.web import running_web_server
from uploads.models import AudioUpload, UploadSession
from uploads.processing.runner import process_upload

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2
RESET, LOST = Fault(request="reset"), Fault(answer="lost")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "long.wav"
    path.write_bytes(make_wav(seconds=800))
    assert path.stat().st_size > 12 * MIB
    return path


@pytest.fixture(params=["local", "s3", "gcs", "azure"])
def line(request: pytest.FixtureRequest, tmp_path: Path, settings: Any) -> Iterator[FaultyProxy]:
    """A line that can drop, to our web server with each storage in turn; this process has the same one."""
    variables: dict[str, str] = {}
    if request.param != "local":
        server = request.getfixturevalue(f"{request.param}_server")
        bucket = server.empty_bucket()
        variables = server.environment(bucket)
        settings.STORAGES = {**settings.STORAGES, server.alias: server.entry(bucket)}
        settings.AUDIO_STORAGE = server.alias
    with running_web_server(tmp_path, **variables) as web, FaultyProxy(web.url) as proxy:
        yield proxy


@pytest.fixture
def token() -> str:
    return create_token(UserFactory(), name="test", expires_in=timedelta(days=1))[1]


def assert_arrived(file: Path) -> AudioUpload:
    upload = AudioUpload.objects.get()
    assert upload.original_filename == "long.wav"
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as stored:
        assert stored.read() == file.read_bytes()
    assert not QuotaReservation.objects.exists()
    assert not UploadSession.objects.open().exists()
    return upload


def by_node(line: FaultyProxy, token: str, file: Path, **options: Any) -> dict[str, Any]:
    given = {
        "endpoint": f"{line.url}{TUS}",
        "token": token,
        "file": str(file),
        "metadata": {"filename": "long.wav", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        **options,
    }
    run = subprocess.run([NODE, CLIENT, json.dumps(given)], capture_output=True, text=True, timeout=300, check=False)
    said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert "error" not in said, (said, run.stderr)
    return said


def requests_of(said: dict[str, Any], method: str) -> list[int]:
    return [status for asked, status in said["requests"] if asked == method]


def test_tus_js_client_resumes_over_a_line_that_drops(line: FaultyProxy, token: str, file: Path) -> None:
    """Promises 18, 19."""
    with line.doing(RESET, method="PATCH", times=2), line.doing(LOST, method="PATCH", after=3, times=1):
        said = by_node(line, token, file, chunkSize=3 * MIB)
    assert len(requests_of(said, "POST")) == 1
    assert len(requests_of(said, "HEAD")) >= 3
    upload = assert_arrived(file)
    assert said["file"].endswith(f"/api/v1/uploads/{upload.pk}/")


def test_tus_js_client_goes_on_in_a_new_process(line: FaultyProxy, token: str, file: Path, tmp_path: Path) -> None:
    urls = str(tmp_path / "urls")
    first = by_node(line, token, file, chunkSize=2 * MIB, urlStorage=urls, stopAfter=5 * MIB)
    second = by_node(line, token, file, urlStorage=urls)
    assert second["url"] == first["url"]
    assert requests_of(second, "POST") == []
    assert_arrived(file)


def test_tus_js_client_sends_in_parallel_over_a_line_that_drops(line: FaultyProxy, token: str, file: Path) -> None:
    """Promise 24."""
    with line.doing(RESET, method="PATCH", times=2), line.doing(LOST, method="PATCH", after=2, times=1):
        said = by_node(line, token, file, parallelUploads=3)
    assert len(requests_of(said, "POST")) == 4
    assert_arrived(file)


def test_tuspy_resumes_over_a_line_that_drops(line: FaultyProxy, token: str, file: Path) -> None:
    """Promises 18, 20."""
    client = TusClient(f"{line.url}{TUS}", headers={"Authorization": f"Bearer {token}"})
    with file.open("rb") as stream:
        options: dict[str, Any] = {
            "file_stream": stream,
            "chunk_size": 3 * MIB,
            "metadata": {"filename": "long.wav"},
            "retries": 3,
            "retry_delay": 0,
            "upload_checksum": True,
        }
        first = client.uploader(**options)
        with line.doing(RESET, method="PATCH", times=1), line.doing(LOST, method="PATCH", after=1, times=1):
            first.upload(stop_at=6 * MIB)
        again = client.uploader(url=first.url, **options)
        assert again.offset == 6 * MIB
        again.upload()
    upload = assert_arrived(file)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.checksum_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()

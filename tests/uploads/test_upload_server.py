"""Uploads through the real web server: what it takes, what it refuses, and what it does with clients that misbehave."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from accounts.tokens import create_token
from quotas.models import Membership
from quotas.workspaces import personal_workspace
from tests.audio import make_mp3, make_wav
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, WorkspaceFactory
from tests.servers import wait_until
from tests.uploads.sending import UPLOADS, field, file_part, files_under, form, form_type, what_is_there
from tests.uploads.web import WebServer, running_web_server
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024 * 1024
MP3 = make_mp3()
WAV = make_wav(seconds=10)
DISPOSITION = 'Content-Disposition: attachment; filename="one.wav"'


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    with (
        django_db_blocker.unblock(),
        running_web_server(tmp_path_factory.mktemp("web"), UPLOAD_STALL_SECONDS="2") as web,
    ):
        yield web


@pytest.fixture
def user() -> Any:
    return UserFactory()


@pytest.fixture
def token(user: Any) -> str:
    return create_token(user, name="test", expires_in=timedelta(days=1))[1]


@pytest.fixture
def api(token: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {token}"
        yield session


def nothing_left(web: WebServer) -> dict[str, Any]:
    """What is left once the server is done with the request: a client may hear of its end before that."""

    def gone() -> bool:
        return not what_is_there(web.root)

    try:
        wait_until(gone, seconds=10, what="the server to clean up")
    except AssertionError:
        return what_is_there(web.root)
    return {}


def empty(root: Path) -> None:
    for name in files_under(root):
        (root / name).unlink()


@pytest.fixture(autouse=True)
def clean(web: WebServer) -> Iterator[None]:
    yield
    empty(web.root)


# Clients as they are


def test_requests_uploads_a_form_and_a_raw_body(web: WebServer, api: requests.Session) -> None:
    """Promise 1. The stored bytes and their checksum are the client's."""
    as_form = api.post(web.url + UPLOADS, data={"workspace": ""}, files={"file": ("Ünö.wav", WAV)})
    as_raw = api.post(web.url + UPLOADS, data=WAV, headers={"Content-Disposition": 'attachment; filename="two.wav"'})
    assert (as_form.status_code, as_raw.status_code) == (201, 201), as_form.text + as_raw.text
    assert as_form.json()["original_filename"] == "Ünö.wav"
    for answer in (as_form, as_raw):
        assert answer.json()["checksum_sha256"] == hashlib.sha256(WAV).hexdigest()
        assert (web.root / answer.json()["storage_path"]).read_bytes() == WAV
        assert answer.headers["Location"] == f"{web.url}{UPLOADS}{answer.json()['id']}/"


@pytest.mark.skipif(shutil.which("curl") is None, reason="this machine has no curl")
def test_curl_uploads_a_form_and_a_raw_body(web: WebServer, token: str, tmp_path: Path) -> None:
    """With ``Expect: 100-continue``, which curl sends for larger bodies."""
    path = tmp_path / "one.wav"
    path.write_bytes(make_wav(seconds=100))
    common = ["curl", "--silent", "--show-error", "--fail-with-body", "-H", f"Authorization: Bearer {token}"]
    for arguments in (
        ["-F", f"file=@{path}", "-H", "Expect: 100-continue"],
        ["--data-binary", f"@{path}", "-H", "Content-Type: audio/wav", "-H", DISPOSITION],
    ):
        done = subprocess.run(
            [*common, *arguments, web.url + UPLOADS], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(AudioUpload.objects.values_list("checksum_sha256", flat=True)) == {
        hashlib.sha256(path.read_bytes()).hexdigest()
    }


def test_a_client_that_sends_byte_by_byte_is_served(web: WebServer, token: str) -> None:
    body = form(field("workspace", ""), file_part(MP3[:2000]))
    with web.connect() as client:
        client.head(token, len(body), f"Content-Type: {form_type()}")
        for byte in body:
            client.send(bytes([byte]))
        answer = client.answer()
    assert answer.status == 201, answer.body
    assert answer.json()["checksum_sha256"] == hashlib.sha256(MP3[:2000]).hexdigest()


def test_a_client_that_waits_for_100_continue_hears_it(web: WebServer, token: str) -> None:
    with web.connect() as client:
        client.head(token, len(MP3), "Expect: 100-continue")
        assert client.answer().status == 100
        client.send(MP3)
        assert client.answer().status == 201


# Lengths (Promise 46)


@pytest.mark.parametrize(
    ("length", "headers", "status"),
    [
        (None, [], 411),
        (None, ["Transfer-Encoding: chunked"], 411),
        (5, ["Transfer-Encoding: chunked"], 400),
        (-1, [], 400),
        ("+5", [], 400),
        ("5, 5", [], 400),
        ("1e3", [], 400),
        (10**30, [], 400),
        (10**17, [], 413),
        (0, [], 400),
    ],
)
def test_a_length_that_is_missing_wrong_or_huge_is_refused_before_anything_is_kept(
    length: object, headers: list[str], status: int, web: WebServer, token: str
) -> None:
    """Promise 46. By the web server or by us, each with its status."""
    with web.connect() as client:
        client.head(token, length, *headers)
        if headers:
            client.send(b"4\r\nabcd\r\n0\r\n\r\n")
        answer = client.answer()
    assert answer.status == status, answer.body
    assert nothing_left(web) == {}


def test_a_form_of_unknown_length_is_refused(web: WebServer, token: str) -> None:
    """Promise 46. Chunked, it could not be reserved for."""
    with web.connect() as client:
        client.head(token, None, "Transfer-Encoding: chunked", f"Content-Type: {form_type()}")
        body = form(file_part())
        client.send(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (411, "length_required")
    assert nothing_left(web) == {}


@pytest.mark.parametrize("as_form", [False, True])
def test_an_understated_length_takes_no_more_than_it_says(as_form: bool, web: WebServer, token: str) -> None:
    """Promise 46. The rest is read as another request, which it is not."""
    body = form(file_part(WAV, "one.wav")) if as_form else WAV
    with web.connect() as client:
        client.head(token, 60_000, f"Content-Type: {form_type()}" if as_form else "X-Nothing: 1", filename="one.wav")
        client.send(body)
        answer = client.answer()
        if as_form:
            assert (answer.status, answer.json()["code"]) == (400, "malformed_body")
        else:
            assert answer.status == 201
            assert (answer.json()["file_size"], AudioUpload.objects.get().file_size) == (60_000, 60_000)
        assert client.answer().status == 400
        assert client.is_closed()
    if as_form:
        assert nothing_left(web) == {}


def test_an_overstated_length_is_no_upload(web: WebServer, token: str) -> None:
    """Promise 46. Neither when the client ends, nor when it waits."""
    for ends in (True, False):
        with web.connect() as client:
            client.head(token, len(MP3) + 10)
            client.send(MP3)
            if ends:
                client.socket.shutdown(1)
            answer = client.answer()
            assert (answer.status, answer.json()["code"]) == (400, "truncated_body")
        assert nothing_left(web) == {}


def test_an_understated_length_cannot_slip_under_a_limit(web: WebServer, user: Any, token: str) -> None:
    """Promise 46. What is left of the month counts, not what was said."""
    StorageQuotaFactory(workspace=personal_workspace(user), max_file_size=1000)
    with web.connect() as client:
        client.head(token, 1000)
        client.send(WAV)
        assert client.answer().status in (415, 201)
    assert not AudioUpload.objects.filter(file_size__gt=1000).exists()


# Connections


@pytest.mark.parametrize("as_form", [False, True])
def test_a_connection_that_drops_half_way_leaves_nothing(as_form: bool, web: WebServer, token: str) -> None:
    """Promise 1. What did not arrive whole is no upload."""
    body = form(file_part(WAV, "one.wav")) if as_form else WAV
    with web.connect() as client:
        client.head(token, len(body), f"Content-Type: {form_type()}" if as_form else "X: 1", filename="one.wav")
        client.send(body[: len(body) * 3 // 4])
        wait_until(lambda: AudioUpload.objects.filter(status=Status.RECEIVING).exists(), what="the receiving row")
        wait_until(lambda: files_under(web.root), what="the temporary file")
    assert nothing_left(web) == {}


def test_a_viewer_is_refused_before_the_body_is_taken(web: WebServer, user: Any, token: str) -> None:
    """The answer comes while the client has sent a small part of what it announced."""
    workspace = WorkspaceFactory()
    MembershipFactory(user=user, workspace=workspace, role=Membership.Role.VIEWER)
    start = form(field("workspace", workspace.slug), file_part(WAV, "one.wav"))[: 32 * 1024]
    with web.connect() as client:
        client.head(token, 10**9, f"Content-Type: {form_type()}")
        client.send(start)
        answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (403, "permission_denied")
    assert nothing_left(web) == {}


def test_the_next_request_of_a_connection_is_answered_after_a_refusal(web: WebServer, token: str) -> None:
    """Kept alive, and both sent at once: what is left of the refused body is no request."""
    refused = b"Dear diary, " * 50_000
    for pipelined in (False, True):
        with web.connect() as client:
            client.head(token, len(refused))
            client.send(refused)
            if not pipelined:
                assert client.answer().status == 415
            client.head(token, len(MP3))
            client.send(MP3)
            if pipelined:
                assert client.answer().status == 415
            assert client.answer().status == 201
    assert AudioUpload.objects.count() == 2


@pytest.mark.parametrize("why", ["quota", "token", "format", "path", "chunked"])
def test_a_refused_upload_of_50_mib_hears_why_instead_of_a_reset(
    why: str, web: WebServer, user: Any, token: str
) -> None:
    """By a client that listens only when it has sent everything."""
    StorageQuotaFactory(workspace=personal_workspace(user), max_file_size=10 * MIB if why == "quota" else None)
    piece = b"x" * MIB
    with web.connect() as client:
        client.head(
            "nonsense" if why == "token" else token,
            None if why == "chunked" else 50 * MIB,
            *(["Transfer-Encoding: chunked"] if why == "chunked" else []),
            path="/api/v1/nowhere/" if why == "path" else UPLOADS,
            filename="one.exe" if why == "format" else "one.mp3",
        )
        for _ in range(50):
            client.send(b"100000\r\n" + piece + b"\r\n" if why == "chunked" else piece)
        if why == "chunked":
            client.send(b"0\r\n\r\n")
        answer = client.answer()
    expected = {"quota": 413, "token": 401, "format": 415, "path": 404, "chunked": 411}[why]
    assert answer.status == expected, answer.body
    assert nothing_left(web) == {}


# Headers that Django's own parser stumbles over


@pytest.mark.parametrize("header", ["Accept", "Content-Type"])
@pytest.mark.parametrize("value", ["a/b; c*1*=x; c*=y", "a/b; c*=nothing''x", "a/b; c*=base64''eA==; c*0*=x"])
def test_a_header_that_cannot_be_read_is_no_500(header: str, value: str, web: WebServer, token: str) -> None:
    """Promise 53. Its parameters make Django's own parser raise."""
    with web.connect() as client:
        client.head(token, 3, f"{header}: {value}", path=UPLOADS)
        client.send(b"abc")
        answer = client.answer()
    assert 400 <= answer.status < 500
    assert nothing_left(web) == {}

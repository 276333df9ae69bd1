"""The bytes of a file over HTTP: whole, in ranges, under conditions (RFC 9110)."""

from typing import Any

import pytest
from django.utils.http import http_date
from rest_framework.test import APIClient

from objectstore import get_storage
from quotas.models import Workspace
from tests.api.answers import body_of
from tests.api.rows import CONTENT, store_upload
from tests.factories import client_for, member_of
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db
SIZE = len(CONTENT)


@pytest.fixture
def upload(workspace: Workspace) -> AudioUpload:
    return store_upload(workspace)


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, "viewer"))


def get(client: APIClient, upload: AudioUpload, verb: str = "GET", query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.generic(verb, f"/api/v1/uploads/{upload.pk}/content/{query}", headers=named)


def test_the_whole_file_comes_with_all_that_a_player_asks_for(client: APIClient, upload: AudioUpload) -> None:
    answer = get(client, upload)
    assert answer.status_code == 200
    assert body_of(answer) == CONTENT
    assert answer["Content-Type"] == "audio/mpeg"
    assert answer["Content-Length"] == str(SIZE)
    assert answer["Accept-Ranges"] == "bytes"
    assert answer["ETag"] == f'"{upload.checksum_sha256}"'
    assert answer["Last-Modified"] == http_date(upload.uploaded_at.timestamp())
    assert answer["Content-Disposition"] == 'inline; filename="tone.mp3"'


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, SIZE - 1),
        ("bytes=0-99", 0, 99),
        ("bytes=100-199", 100, 199),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        (f"bytes={SIZE - 1}-{SIZE - 1}", SIZE - 1, SIZE - 1),
        ("bytes=-1", SIZE - 1, SIZE - 1),
        ("bytes=-100", SIZE - 100, SIZE - 1),
        (f"bytes=-{SIZE}", 0, SIZE - 1),
        (f"bytes=-{SIZE + 1}", 0, SIZE - 1),
        (f"bytes=10-{SIZE + 1000}", 10, SIZE - 1),
        ("bytes=10-9999999999999999999", 10, SIZE - 1),
        ("bytes= 5-6", 5, 6),
    ],
)
def test_a_range_is_exactly_its_bytes(
    client: APIClient, upload: AudioUpload, asked: str, first: int, last: int
) -> None:
    answer = get(client, upload, Range=asked)
    assert answer.status_code == 206
    assert body_of(answer) == CONTENT[first : last + 1]
    assert answer["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer["Content-Length"] == str(last - first + 1)
    assert answer["Content-Type"] == "audio/mpeg"


@pytest.mark.parametrize(
    "asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=9999999999999999999-", "bytes=-0"]
)
def test_bytes_that_are_not_there_are_a_416_with_the_size(client: APIClient, upload: AudioUpload, asked: str) -> None:
    answer = get(client, upload, Range=asked)
    assert (answer.status_code, answer.json()["code"], answer.json()["size"]) == (416, "range_not_satisfiable", SIZE)
    assert answer["Content-Range"] == f"bytes */{SIZE}"
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes", "bytes=", "items=0-1", "bytes=0-1;", "bytes=--1",
        "bytes=1-2-3", "bytes=+1-2", "bytes=0x1-2", "bytes=\u0661-\u0662", "bytes=" + "9" * 30 + "-", "",
    ],
)  # fmt: skip
def test_several_ranges_and_what_is_none_are_answered_by_the_whole(
    client: APIClient, upload: AudioUpload, asked: str
) -> None:
    answer = get(client, upload, Range=asked)
    assert (answer.status_code, body_of(answer)) == (200, CONTENT)


def test_a_range_holds_only_for_the_file_that_if_range_names(client: APIClient, upload: AudioUpload) -> None:
    etag = f'"{upload.checksum_sha256}"'
    uploaded = upload.uploaded_at.timestamp()
    for condition, status in [
        (etag, 206),
        (http_date(uploaded), 206),
        ('"other"', 200),
        (f"W/{etag}", 200),
        (http_date(uploaded - 1), 200),
        (http_date(uploaded + 1), 200),
        ("nonsense", 200),
    ]:
        answer = get(client, upload, Range="bytes=0-9", If_Range=condition)
        assert (answer.status_code, len(body_of(answer))) == (status, 10 if status == 206 else SIZE), condition
    assert get(client, upload, Range=f"bytes={SIZE}-", If_Range='"other"').getvalue() == CONTENT


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
def test_conditions_are_answered_as_http_has_them(client: APIClient, upload: AudioUpload, verb: str) -> None:
    etag = f'"{upload.checksum_sha256}"'
    at = http_date(upload.uploaded_at.timestamp())
    before = http_date(upload.uploaded_at.timestamp() - 3600)
    for headers, status in [
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": f"W/{etag}"}, 304),
        ({"If_None_Match": f'"a", {etag}'}, 304),
        ({"If_None_Match": "*"}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_None_Match": '"other"', "If_Modified_Since": at}, 200),
        ({"If_None_Match": etag, "If_Modified_Since": before}, 304),
        ({"If_Modified_Since": at}, 304),
        ({"If_Modified_Since": before}, 200),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Match": etag}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Match": f'"a",{etag}'}, 200),
        ({"If_Match": f"W/{etag}"}, 412),
        ({"If_Match": '"other"'}, 412),
        ({"If_Match": '"other"', "If_None_Match": etag}, 412),
        ({"If_Match": etag, "If_Unmodified_Since": before}, 200),
        ({"If_Unmodified_Since": at}, 200),
        ({"If_Unmodified_Since": before}, 412),
        ({"If_None_Match": etag, "Range": "bytes=0-1"}, 304),
        ({"If_Match": '"other"', "Range": f"bytes={SIZE}-"}, 412),
    ]:
        answer = get(client, upload, verb, **headers)
        content = body_of(answer)
        assert answer.status_code == status, headers
        if status != 200:
            assert answer["ETag"] == etag
        if status == 304:
            assert content == b""
        if status == 412 and verb == "GET":
            assert answer.json()["code"] == "precondition_failed"


def test_head_is_answered_from_the_row_alone(client: APIClient, upload: AudioUpload) -> None:
    get_storage("local").delete(upload.storage_path)
    answer = get(client, upload, "HEAD")
    assert (answer.status_code, body_of(answer)) == (200, b"")
    assert (answer["Content-Length"], answer["Accept-Ranges"]) == (str(SIZE), "bytes")


def test_head_takes_no_range(client: APIClient, upload: AudioUpload) -> None:
    """RFC 9110, 14.2: a Range with anything but GET must be ignored."""
    answer = get(client, upload, "HEAD", Range="bytes=0-9")
    assert (answer.status_code, answer["Content-Length"], "Content-Range" in answer) == (200, str(SIZE), False)


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        (Status.DELETED, 404, "not_found"),
        (Status.RECEIVING, 404, "not_found"),
        (Status.PURGED, 404, "not_found"),
        (Status.ARCHIVED, 409, "not_readable_now"),
        (Status.RESTORING, 409, "not_readable_now"),
        (Status.UPLOADED, 200, ""),
        (Status.FAILED, 200, ""),
        (Status.ARCHIVING, 200, ""),
    ],
)
def test_the_state_decides_whether_there_are_bytes(
    client: APIClient, workspace: Workspace, verb: str, state: Status, status: int, code: str
) -> None:
    """Promise 7. What is in the trash is a 404 at once."""
    answer = get(client, store_upload(workspace, status=state), verb)
    body_of(answer)
    assert answer.status_code == status
    if code and verb == "GET":
        assert answer.json()["code"] == code
    if status == 409 and verb == "GET":
        assert answer.json()["state"] == state


def test_a_player_may_ask_for_audio_alone(client: APIClient, upload: AudioUpload) -> None:
    for accepted in ("audio/mpeg", "audio/*;q=0.9", "video/webm,audio/webm;q=0.5", "*/*", "text/html"):
        answer = get(client, upload, Accept=accepted)
        body_of(answer)
        assert answer.status_code == 200, accepted
    assert get(client, upload, Accept="audio/mpeg", Range=f"bytes={SIZE}-").json()["code"] == "range_not_satisfiable"


@pytest.mark.parametrize(
    ("query", "disposition"),
    [("", "inline"), ("?download", "attachment"), ("?download=true", "attachment"), ("?download=false", "inline")],
)
def test_it_is_saved_when_that_is_asked_for(
    client: APIClient, upload: AudioUpload, query: str, disposition: str
) -> None:
    answer = get(client, upload, query=query)
    body_of(answer)
    assert answer["Content-Disposition"] == f'{disposition}; filename="tone.mp3"'


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": f"bytes={SIZE}-"}, {"If_None_Match": "*"}])
def test_whoever_opens_it_in_a_browser_gets_nothing_that_runs(
    client: APIClient, upload: AudioUpload, headers: dict[str, str]
) -> None:
    """Promise 42. No sniffing, no script, no frame, and not for other sites to embed."""
    answer = get(client, upload, **headers)
    body_of(answer)
    assert answer["X-Content-Type-Options"] == "nosniff"
    policy = answer["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ") and policy.endswith("; sandbox allow-same-origin")
    assert "script" not in policy
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer["Cache-Control"].startswith("private")


def test_only_types_of_ours_are_ever_shown_inline(client: APIClient, workspace: Workspace) -> None:
    """Promise 42. A row with any other type (from an import, or a format that we no longer take) is a download."""
    for mime_type in ("text/html", "image/svg+xml", "application/xhtml+xml", "", "audio/x-script"):
        answer = get(client, store_upload(workspace, mime_type=mime_type))
        body_of(answer)
        assert answer["Content-Type"] == "application/octet-stream"
        assert answer["Content-Disposition"].startswith("attachment")
        assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_an_object_that_is_gone_is_told_and_is_no_empty_file(client: APIClient, upload: AudioUpload) -> None:
    get_storage("local").delete(upload.storage_path)
    answer = get(client, upload)
    # Not a 404: the file is there for its workspace, and that its bytes are not is nobody's fault but ours.
    assert (answer.status_code, answer.json()["code"]) == (500, "object_missing")


def test_a_duplicate_reads_its_twins_object_when_its_own_went_meanwhile(
    client: APIClient, workspace: Workspace, upload: AudioUpload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is switched to the twin's object after it was read here, and its own object is gone."""
    twin = store_upload(workspace)
    get_storage("local").delete(upload.storage_path)
    AudioUpload.objects.filter(pk=upload.pk).update(storage_path=twin.storage_path)
    monkeypatch.setattr("uploads.api.views.UploadViewSet.get_object", lambda view: upload)
    assert body_of(get(client, upload)) == CONTENT

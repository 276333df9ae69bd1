"""The picture of a file: set, shown, removed; never what was sent, always what we encoded."""

import io
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection
from PIL import Image
from rest_framework.test import APIClient

from media.inspection import PICTURES_AT_ONCE, picture_slot
from objectstore import get_storage
from quotas.models import Workspace
from tests.api.answers import body_of
from tests.api.rows import store_thumbnail, store_upload
from tests.audio import make_jpeg, make_mp3, make_png, make_png_bomb, make_webp
from tests.factories import client_for, member_of
from tests.uploads.life import names_in
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def upload(workspace: Workspace) -> AudioUpload:
    return store_upload(workspace)


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, "editor"))


def address(upload: AudioUpload) -> str:
    return f"/api/v1/uploads/{upload.pk}/thumbnail/"


def put(client: APIClient, upload: AudioUpload, data: bytes, content_type: str = "image/png") -> Any:
    return client.put(address(upload), data, content_type=content_type)


@pytest.mark.parametrize(
    ("make", "extension", "mime_type"),
    [(make_jpeg, "jpg", "image/jpeg"), (make_png, "png", "image/png"), (make_webp, "webp", "image/webp")],
)
def test_a_picture_is_set_shown_and_removed(
    client: APIClient, upload: AudioUpload, make: Any, extension: str, mime_type: str
) -> None:
    answer = put(client, upload, make() + b"<script>alert(1)</script>", mime_type)
    assert answer.status_code == 200, answer.content
    assert answer.json()["thumbnail_path"] == f"audio/{upload.pk}/thumbnail.{extension}"

    shown = client.get(address(upload), headers={"Accept": "image/avif,image/webp,image/png"})
    picture = shown.getvalue()
    assert (shown.status_code, shown["Content-Type"]) == (200, mime_type)
    assert b"script" not in picture
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (64, 48)

    assert client.delete(address(upload)).status_code == 204
    assert client.get(address(upload)).status_code == 404
    assert client.delete(address(upload)).status_code == 404
    assert sorted(names_in("local")) == [upload.storage_path]
    assert list(UploadEvent.objects.values_list("action", flat=True)) == ["thumbnail_set", "thumbnail_removed"]


def test_another_picture_takes_the_place_of_the_first(client: APIClient, upload: AudioUpload) -> None:
    for make in (make_png, make_jpeg, make_jpeg):
        assert put(client, upload, make()).status_code == 200
    names = names_in("local")
    assert names == {upload.storage_path, f"audio/{upload.pk}/thumbnail.jpg"}


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (make_png_bomb, 422, "image_too_large"),
        (lambda: make_png(4097, 1), 422, "image_too_large"),
        (lambda: make_png()[:60], 422, "image_unreadable"),
        (lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), 422, "image_unreadable"),
        (lambda: b"x", 415, "unsupported_image"),
        (lambda: b"GIF89a" + bytes(100), 415, "unsupported_image"),
        (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", 415, "unsupported_image"),
        (make_mp3, 415, "unsupported_image"),
        (lambda: b'{"thumbnail": "x"}', 415, "unsupported_image"),
        (lambda: bytes(10 * 1024 * 1024 + 1), 413, "field_too_large"),
    ],
)
def test_what_is_no_picture_is_refused_and_the_one_before_stays(
    client: APIClient, upload: AudioUpload, data: Any, status: int, code: str
) -> None:
    """Promise 44. A picture of 10,000 x 10,000 is refused by its header, before a pixel of it is decoded."""
    store_thumbnail(upload, make_jpeg())
    answer = put(client, upload, data())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    upload.refresh_from_db()
    assert upload.thumbnail_path
    assert client.get(address(upload)).getvalue() == make_jpeg()
    assert not UploadEvent.objects.exists()


def test_a_form_or_json_where_the_picture_itself_is_meant_is_refused(client: APIClient, upload: AudioUpload) -> None:
    for format, data in (("multipart", {"file": io.BytesIO(make_png())}), ("json", {"file": "x"})):
        answer = client.put(address(upload), data, format=format)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image")


def test_a_picture_of_unknown_length_is_a_411(client: APIClient, upload: AudioUpload) -> None:
    answer = client.generic("PUT", address(upload), b"", headers={"Transfer-Encoding": "chunked"})
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


def test_in_the_trash_there_is_no_picture_to_see_or_to_change(client: APIClient, workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.DELETED)
    store_thumbnail(upload, make_jpeg())
    assert client.get(address(upload)).status_code == 404
    for answer in (put(client, upload, make_png()), client.delete(address(upload))):
        assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


def test_a_picture_is_served_with_nothing_that_runs(client: APIClient, upload: AudioUpload) -> None:
    """Promise 42."""
    store_thumbnail(upload, make_jpeg())
    answer = client.get(address(upload))
    body_of(answer)
    assert answer["X-Content-Type-Options"] == "nosniff"
    policy = answer["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ") and policy.endswith("; sandbox allow-same-origin")
    assert "script" not in policy
    assert answer["Cache-Control"].startswith("private")


def test_a_picture_that_would_hold_up_everybody_else_is_sent_again_later(
    client: APIClient, upload: AudioUpload, settings: Any
) -> None:
    """Promise 62. Two pictures are looked at at once; threads do not wait long for more of them."""
    settings.PICTURE_WAIT_SECONDS = 0
    with ExitStack() as stack:
        for _ in range(PICTURES_AT_ONCE):
            stack.enter_context(picture_slot(0))
        answer = put(client, upload, make_png())
    assert (answer.status_code, answer.json()["code"]) == (503, "pictures_busy")
    assert int(answer["Retry-After"]) > 0
    assert put(client, upload, make_png()).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_the_storage_is_asked_for_a_picture(
    client: APIClient, upload: AudioUpload, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(client, upload, make_png()).status_code == 200
    storage, held = get_storage("local"), []
    opened = storage.open_range

    def look(name: str) -> Any:
        held.append(connection.connection is not None)
        return opened(name)

    monkeypatch.setattr(storage, "open_range", look)
    assert body_of(client.get(address(upload))).startswith(b"\x89PNG")
    assert held == [False]

"""``GET upload-sessions/``: what a user has not finished sending, and how to go on."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.audio import make_mp3
from tests.factories import UserFactory, client_for
from tests.uploads.tus import Tus, b64, metadata
from uploads.models import UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

SESSIONS = "/api/v1/upload-sessions/"
MP3 = make_mp3()


def listed(user: Any) -> list[dict[str, Any]]:
    answer = client_for(user).get(SESSIONS)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["results"]
    return found


def begin_chunks(user: Any, size: int = 50, chunk: int = 10) -> str:
    asked = {"filename": "two.mp3", "file_size": size, "chunk_size": chunk}
    return str(client_for(user).post("/api/v1/chunked-uploads/", asked, format="json")["Location"])


def test_each_kind_tells_what_has_arrived_and_where_to_go_on() -> None:
    tus = Tus()
    said = metadata(filename="one.mp3", lastmodified="1764500000000")
    address = tus.begin(len(MP3), upload_metadata=said)
    tus.patch(address, 0, MP3[:1000])
    partial = tus.begin(7, upload_concat="partial", upload_metadata="")
    deferred = tus.create(upload_defer_length="1")["Location"]
    chunked = begin_chunks(tus.user)
    for index in (0, 1, 2, 4):
        path = f"{chunked}chunks/{index}/"
        assert client_for(tus.user).generic("PUT", path, bytes(10), content_type="application/octet-stream")
    by_chunks, of_unknown_size, part, one = listed(tus.user)
    assert (one["kind"], one["filename"], one["url"], one["is_partial"]) == ("tus", "one.mp3", address, False)
    assert (one["size"], one["received"], one["last_modified"]) == (len(MP3), 1000, "1764500000000")
    assert (one["chunk_size"], one["total_chunks"], one["chunks_arrived"]) == (None, None, None)
    assert (part["url"], part["filename"], part["is_partial"], part["size"]) == (partial, "", True, 7)
    assert (of_unknown_size["url"], of_unknown_size["size"], of_unknown_size["received"]) == (deferred, None, 0)
    assert (by_chunks["kind"], by_chunks["url"], by_chunks["received"]) == ("chunks", chunked, 40)
    assert (by_chunks["chunk_size"], by_chunks["total_chunks"], by_chunks["chunks_arrived"]) == (10, 5, "0-2,4")
    session = UploadSession.objects.get(pk=one["id"])
    assert one["workspace"] == str(session.workspace_id)
    assert one["expires_at"]


def test_only_my_own_unfinished_ones_are_listed() -> None:
    tus, other = Tus(), Tus()
    other.begin(10)
    ended, finished = tus.begin(10), tus.begin(len(MP3))
    tus.delete(ended)
    tus.patch(finished, 0, MP3)
    assert listed(tus.user) == []
    assert len(listed(other.user)) == 1


def test_metadata_of_any_kind_does_no_harm() -> None:
    tus = Tus()
    tus.begin(10, upload_metadata=f"{metadata(filename='a.mp3')},lastmodified {b64(bytes([255]))}")
    (one,) = listed(tus.user)
    assert one["last_modified"] == "\ufffd"


def test_a_list_of_many_asks_no_more_questions_than_one_of_a_few() -> None:
    user = UserFactory()
    asked = []
    for _ in range(2):
        begin_chunks(user)
        Tus(user).begin(10)
        with CaptureQueriesContext(connection) as queries:
            listed(user)
        asked.append(len(queries))
    assert asked[0] == asked[1]


def test_pages_show_each_one_once() -> None:
    """Promise 65."""
    tus = Tus()
    addresses = [tus.begin(10) for _ in range(5)]
    seen, address = [], f"{SESSIONS}?page_size=2"
    while address:
        page = client_for(tus.user).get(address).json()
        seen += [row["url"] for row in page["results"]]
        address = page["next"]
    assert seen == addresses[::-1]


def test_a_stranger_is_a_401() -> None:
    assert APIClient().get(SESSIONS).status_code == 401

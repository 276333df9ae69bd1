"""A part that a client sends twice with different bytes: the file has the ones that the client was answered for."""

import hashlib
from typing import Any

import pytest
from rest_framework.test import APIClient

from objectstore.base import AudioStorage
from quotas.models import Membership, Workspace
from tests.factories import client_for, member_of
from tests.uploads.direct import DIRECT, MEBIBYTE, begin, complete, noise, put, send_one, use_storage
from uploads.models import AudioUpload, Status, UploadSession
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

TRIES = 4


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, Membership.Role.EDITOR))


@pytest.fixture
def storage(request: Any, settings: Any) -> AudioStorage:
    settings.STORAGE_PART_BYTES = 5 * MEBIBYTE
    return use_storage("s3", request, settings)


def sent(asked: dict[str, Any], data: bytes) -> dict[str, Any]:
    """What the client knows of a part when it has sent it."""
    answer = put(asked, data[asked["first_byte"] : asked["first_byte"] + asked["size"]])
    assert answer.ok, answer.text
    return {"number": asked["number"], "etag": answer.headers["ETag"]}


def test_the_file_has_the_parts_whose_etags_the_client_names(storage: AudioStorage, client: APIClient) -> None:
    """Promise 14. SeaweedFS keeps both copies of a part, with the same second."""
    for _ in range(TRIES):
        data, other = noise(6 * MEBIBYTE), noise(6 * MEBIBYTE, seed=1)
        session = begin(client, data)
        for asked in session["requests"]:
            sent(asked, other)
        parts = [sent(asked, data) for asked in session["requests"]]
        answer = client.post(f"{DIRECT}{session['id']}/complete/", {"parts": parts}, format="json")
        assert answer.status_code == 201, answer.content
        process_upload(session["upload"])
        upload = AudioUpload.objects.get(pk=session["upload"])
        assert upload.status == Status.COMPLETED, upload.error_message
        assert upload.checksum_sha256 == hashlib.sha256(data).hexdigest()


def test_without_its_etags_a_file_is_never_made_of_replaced_parts(storage: AudioStorage, client: APIClient) -> None:
    """Promise 14. Where the server cannot tell which came last, nor can we: the client hears so, and can complete."""
    outcomes = set()
    for _ in range(TRIES):
        data, other = noise(6 * MEBIBYTE), noise(6 * MEBIBYTE, seed=1)
        session = begin(client, data)
        first, second = session["requests"]
        send_one(second, data)
        sent(first, other)
        named = sent(first, data)
        answer = complete(client, session)
        outcomes.add(answer.status_code)
        if answer.status_code == 409:
            problem = answer.json()
            assert (problem["code"], problem["parts"]) == ("direct_upload_ambiguous", [1])
            left = client.get(f"{DIRECT}{session['id']}/").json()["requests"]
            assert [asked["number"] for asked in left] == [1]
            answer = client.post(f"{DIRECT}{session['id']}/complete/", {"parts": [named]}, format="json")
        assert answer.status_code == 201, answer.content
        process_upload(session["upload"])
        upload = AudioUpload.objects.get(pk=session["upload"])
        assert upload.checksum_sha256 == hashlib.sha256(data).hexdigest()
    # Several tries, since two that are sent across the change of a second can be told apart.
    assert 409 in outcomes


def test_an_etag_that_is_not_there_is_a_part_that_is_missing(storage: AudioStorage, client: APIClient) -> None:
    data = noise(6 * MEBIBYTE)
    session = begin(client, data)
    parts = [sent(asked, data) for asked in session["requests"]]
    parts[0]["etag"] = '"00000000000000000000000000000000"'
    answer = client.post(f"{DIRECT}{session['id']}/complete/", {"parts": parts}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "direct_upload_incomplete")
    assert (
        client.post(f"{DIRECT}{session['id']}/complete/", {"parts": [{"number": 0}]}, format="json").status_code == 400
    )
    assert complete(client, session).status_code == 201


@pytest.mark.parametrize("wrong", [0, 1])
def test_an_object_made_of_other_parts_than_it_was_asked_for_fails(
    storage: AudioStorage, client: APIClient, wrong: int
) -> None:
    """Promise 14. The content is compared with each part's MD5 when the file is validated."""
    data = noise(6 * MEBIBYTE)
    session = begin(client, data)
    for asked in session["requests"]:
        send_one(asked, data)
    assert complete(client, session).status_code == 201
    kept = UploadSession.objects.get(pk=session["id"])
    assert kept.part_md5s == [
        hashlib.md5(data[: 5 * MEBIBYTE]).hexdigest(),
        hashlib.md5(data[5 * MEBIBYTE :]).hexdigest(),
    ]
    kept.part_md5s[wrong] = hashlib.md5(b"the part that was replaced").hexdigest()
    kept.save()
    process_upload(session["upload"])
    upload = AudioUpload.objects.get(pk=session["upload"])
    assert (upload.status, upload.error_code) == (Status.FAILED, "object_damaged")
    assert str(wrong + 1) in upload.error_message

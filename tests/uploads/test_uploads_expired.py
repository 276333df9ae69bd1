"""An upload whose time is over is over at once, and not when the next sweep comes."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from quotas.models import Membership
from tests.audio import make_mp3
from tests.factories import MembershipFactory
from tests.uploads.test_chunked_uploads import Chunks
from tests.uploads.tus import Tus, code_of, metadata, session_at
from uploads.intake.sessions.writing import writing
from uploads.models import AudioUpload, UploadSession

pytestmark = pytest.mark.django_db(transaction=True)

MP3 = make_mp3()
SIZE = len(MP3)
HALF = SIZE // 2


@pytest.fixture
def tus() -> Tus:
    return Tus()


def expire(**only: Any) -> None:
    UploadSession.objects.filter(**only).update(expires_at=Now() - timedelta(seconds=1))


def test_an_expired_upload_is_over(tus: Tus) -> None:
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3[:HALF])
    expire()
    head = tus.head(address)
    assert head.status_code == 410
    assert "Upload-Offset" not in head
    for answer in (tus.patch(address, HALF, MP3[HALF:]), tus.delete(address)):
        assert code_of(answer) == (410, "upload_ended")
        assert answer.json()["reason"] == "upload_expired"
        assert "Upload-Offset" not in answer
    assert not AudioUpload.objects.filter(file_size=SIZE, status="uploaded").exists()


def test_an_expired_chunked_upload_is_over() -> None:
    chunks = Chunks()
    chunks.put(0)
    expire()
    for answer in (chunks.client.get(chunks.path), chunks.put(1), chunks.client.delete(chunks.path)):
        assert code_of(answer) == (410, "upload_ended")
        assert answer.json()["reason"] == "upload_expired"


def test_expired_partial_uploads_are_not_joined(tus: Tus) -> None:
    first, second = tus.partial(MP3[:HALF]), tus.partial(MP3[HALF:])
    expire(pk=session_at(second).pk)
    assert code_of(tus.join(first, second)) == (400, "not_concatenable")
    assert tus.join(first, tus.partial(MP3[HALF:])).status_code == 201


def test_an_upload_that_is_being_written_is_not_over(tus: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tus.begin(SIZE)
    expire()
    with writing(session_at(address)) as writer:
        monkeypatch.setattr("uploads.intake.sessions.writing.time.sleep", lambda _: writer.extend())
        assert tus.head(address).status_code == 423


def test_a_finished_upload_stays_known_until_it_is_forgotten(tus: Tus) -> None:
    address = tus.begin(SIZE)
    tus.patch(address, 0, MP3)
    expire()
    assert tus.offset(address) == SIZE


def test_an_expired_upload_is_not_listed_as_unfinished(tus: Tus) -> None:
    tus.begin(SIZE)
    assert len(tus.client.get("/api/v1/upload-sessions/").json()["results"]) == 1
    expire()
    assert tus.client.get("/api/v1/upload-sessions/").json()["results"] == []


# The role that was lost


@pytest.mark.parametrize("is_member", [True, False])
def test_a_member_who_lost_the_role_may_still_give_his_upload_up(tus: Tus, *, is_member: bool) -> None:
    membership = MembershipFactory(user=tus.user, role=Membership.Role.EDITOR)
    slug = membership.workspace.slug
    address = tus.begin(SIZE, upload_metadata=metadata(filename="one.mp3", workspace=slug))
    chunks = Chunks(tus.user, workspace=slug)
    if is_member:
        Membership.objects.filter(pk=membership.pk).update(role=Membership.Role.VIEWER)
    else:
        membership.delete()
    expected = 403 if is_member else 404
    assert tus.head(address).status_code == expected
    assert tus.patch(address, 0, MP3).status_code == expected
    assert chunks.client.get(chunks.path).status_code == chunks.put(0).status_code == expected
    assert tus.delete(address).status_code == 204
    assert chunks.client.delete(chunks.path).status_code == 204
    assert not UploadSession.objects.open().exists()

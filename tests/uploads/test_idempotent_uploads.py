"""An upload that is sent again under the same Idempotency-Key: one file, one answer."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models.functions import Now

from audiotricks.models import IdempotencyKey
from quotas.models import StorageQuota
from quotas.workspaces import personal_workspace
from tests.audio import make_mp3, make_png
from tests.factories import StorageQuotaFactory, UserFactory, client_for
from tests.uploads.life import assert_books_balance
from tests.uploads.sending import UPLOADS, field, file_part, form, form_type, post_raw, what_is_there
from uploads.models import AudioUpload

pytestmark = pytest.mark.django_db

MP3, OTHER = make_mp3(), make_mp3(seed=1)


@pytest.fixture
def user() -> Any:
    return UserFactory()


@pytest.fixture
def client(user: Any) -> Any:
    return client_for(user)


def post(client: Any, *parts: bytes, key: str = "k", boundary: str = "one", path: str = UPLOADS) -> Any:
    body = form(*(parts or (file_part(MP3),)), boundary=boundary)
    return client.post(path, body, content_type=form_type(boundary), headers={"Idempotency-Key": key})


def test_the_same_upload_again_gets_the_same_answer_and_is_stored_once(client: Any, user: Any) -> None:
    """Promise 29. A fresh boundary is the same request; so is one that comes when the quota is full meanwhile."""
    quota = StorageQuotaFactory(workspace=personal_workspace(user), max_file_count=1)
    first = post(client)
    AudioUpload.objects.update(original_filename="renamed.mp3")
    second = post(client, boundary="another-boundary")
    assert (first.status_code, second.status_code) == (201, 201), first.content + second.content
    assert second.json() == first.json()
    assert second["Location"] == first["Location"]
    assert ("Idempotency-Replayed" in first, second["Idempotency-Replayed"]) == (False, "true")
    assert AudioUpload.objects.count() == 1
    quota = StorageQuota.objects.get(pk=quota.pk)
    assert (quota.monthly_uploads, quota.monthly_upload_bytes) == (1, len(MP3))
    assert_books_balance(quota.workspace)


def test_a_raw_body_again_gets_the_same_answer(client: Any) -> None:
    """Promise 29. The key works without a form as well."""
    first, second = (post_raw(client, MP3, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json() == second.json()
    assert (second.status_code, second["Idempotency-Replayed"]) == (201, "true")


def test_the_same_upload_with_its_thumbnail_behind_gets_the_same_answer(client: Any) -> None:
    """Promise 29. What the thumbnail is shows only at the end."""
    parts = [file_part(MP3), file_part(make_png(), "t.png", "thumbnail")]
    first, second = post(client, *parts), post(client, *parts)
    in_front = post(client, *reversed(parts))
    assert first.json() == second.json() == in_front.json()
    assert first.json()["thumbnail_path"]


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ([file_part(OTHER)], UPLOADS),
        ([file_part(MP3[:-1])], UPLOADS),
        ([file_part(MP3, "two.mp3")], UPLOADS),
        ([field("note", "x"), file_part(MP3)], UPLOADS),
        ([file_part(make_png(), "t.png", "thumbnail"), file_part(MP3)], UPLOADS),
        ([file_part(MP3)], f"{UPLOADS}?workspace="),
    ],
    ids=["content", "one byte less", "name", "field", "thumbnail", "query"],
)
def test_another_upload_under_the_same_key_is_a_422(parts: list[bytes], path: str, client: Any, user: Any) -> None:
    """Promise 29. Nothing of it is stored, and the first answer stays."""
    first = post(client)
    answer = post(client, *parts, path=path)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch"), answer.content
    assert post(client).json() == first.json()
    assert_books_balance(personal_workspace(user))
    assert AudioUpload.objects.count() == 1


def test_a_key_is_its_users_own(client: Any) -> None:
    """Promise 29. Another user's request with the same key is another request."""
    first, other = post(client), post(client_for(UserFactory()))
    assert (first.status_code, other.status_code) == (201, 201)
    assert first.json()["id"] != other.json()["id"]


@pytest.mark.parametrize("broken", [form(file_part(b"text" * 99)), form(file_part(MP3), end=b"")])
def test_an_upload_that_failed_frees_its_key(broken: bytes, client: Any, audio_root: Path) -> None:
    """Promise 29. The client may send it again, repaired, under the same key."""
    answer = client.post(UPLOADS, broken, content_type=form_type(), headers={"Idempotency-Key": "k"})
    assert answer.status_code in (400, 415)
    assert what_is_there(audio_root) == {}
    assert post(client).status_code == 201


def test_the_answer_is_stored_with_the_row_or_neither_is(client: Any, audio_root: Path) -> None:
    """Promise 29. The key was given to another request while the bytes came: this one must not arrive as well."""

    class Taking(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            IdempotencyKey.objects.update(claim_id="11111111-1111-4111-8111-111111111111")
            return super().read(size)

    answer = client.post(
        UPLOADS,
        make_mp3(seconds=10),
        content_type="application/octet-stream",
        headers={"Idempotency-Key": "k", "Content-Disposition": 'attachment; filename="one.mp3"'},
        **{"wsgi.input": Taking(make_mp3(seconds=10))},
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_claim_lost")
    assert what_is_there(audio_root) == {"keys": ["running"]}


def test_the_key_of_a_web_server_that_died_can_be_taken_over(client: Any) -> None:
    """Promise 29. When its time is over, the next request does the work."""
    post(client)
    AudioUpload.objects.all().delete()
    IdempotencyKey.objects.update(
        state="running", response_status=None, response_body=None, expires_at=Now() - timedelta(seconds=1)
    )
    answer = post(client)
    assert answer.status_code == 201 and "Idempotency-Replayed" not in answer


def test_an_answer_is_only_for_who_may_still_send(client: Any, user: Any) -> None:
    """Promise 38. Who lost the right to send to the workspace does not get the old answer either."""
    post(client)
    personal_workspace(user).memberships.update(role="viewer")
    assert post(client).status_code == 403

"""Direct uploads that do not begin, and those whose beginning is asked for twice."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from audiotricks.models import IdempotencyKey
from objectstore.base import AudioStorage
from quotas.models import Membership, Workspace
from quotas.reservations import change_quota, ensure_quota
from tests.audio import make_wav
from tests.factories import UserFactory, client_for, member_of
from tests.quotas.threads import at_once
from tests.uploads.direct import DIRECT, begin, complete, held_by, send, use_storage
from tests.uploads.life import counted
from tests.uploads.sending import what_is_there
from uploads.models import AudioUpload, StorageMark, UploadSession, Vault
from uploads.objects.marks import adopt

pytestmark = pytest.mark.django_db(transaction=True)

ASKED = {"filename": "tone.wav", "file_size": 500}


@pytest.fixture
def bucket(request: pytest.FixtureRequest, settings: Any) -> AudioStorage:
    """One provider is enough here: what is refused never gets as far."""
    return use_storage("s3", request, settings)


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, Membership.Role.EDITOR))


def test_a_storage_that_takes_bytes_only_through_us_says_so(
    client: APIClient, workspace: Workspace, audio_root: Path
) -> None:
    answer = client.post(DIRECT, {**ASKED, "workspace": workspace.slug}, headers={"Idempotency-Key": "one"})
    assert (answer.status_code, answer.json()["code"]) == (409, "direct_upload_unsupported")
    assert "uploads/" in answer.json()["detail"]
    assert what_is_there(audio_root) == {}


def test_an_upload_is_not_completed_into_a_storage_that_is_held(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 54. It waits for staff: completed again, it arrives."""
    data = make_wav()
    session = begin(client, data)
    send(session, data)
    Vault.objects.all().delete()
    StorageMark.objects.all().delete()
    answer = complete(client, session)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_not_ours")
    assert not any(name.startswith("audio/") for name in held_by(bucket))
    adopt("s3")
    assert complete(client, session).status_code == 201


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"filename": "notes.txt"}, 415, "unsupported_format"),
        ({"filename": "  "}, 400, "filename_missing"),
        ({"file_size": 0}, 400, "empty_file"),
        ({"file_size": -1}, 400, "invalid"),
        ({"file_size": 2001}, 413, "file_too_large"),
        ({"file_size": 1500}, 413, "quota_exceeded"),
        ({"sha256": "abc"}, 400, "invalid"),
        ({"md5": "0" * 33}, 400, "invalid"),
        ({"workspace": "no-such"}, 404, "not_found"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_could_not_be_uploaded_is_not_begun(
    bucket: AudioStorage,
    client: APIClient,
    workspace: Workspace,
    audio_root: Path,
    changes: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """Promise 27. The whole size is reserved before a byte is sent."""
    ensure_quota(workspace)
    change_quota(workspace, changes={"max_file_size": 2000, "max_storage_bytes": 1000})
    answer = client.post(DIRECT, {**ASKED, "workspace": workspace.slug, **changes}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert what_is_there(audio_root) == {} and not UploadSession.objects.exists()


@pytest.mark.race
def test_beginnings_at_once_never_exceed_the_quota(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 27. What fits is begun, the rest is refused, and the reservations are what was begun."""
    ensure_quota(workspace)
    change_quota(workspace, changes={"max_storage_bytes": 3 * ASKED["file_size"] + 1})
    answers = at_once(*[lambda: client.post(DIRECT, {**ASKED, "workspace": workspace.slug}, format="json")] * 8)
    refused = [answer.json()["code"] for answer in answers if answer.status_code == 413]
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [413] * 5
    assert refused == ["quota_exceeded"] * 5
    assert UploadSession.objects.count() == AudioUpload.objects.count() == 3
    assert counted(workspace) == (0, 0, 3 * ASKED["file_size"], 3)


def test_what_is_not_the_clients_to_say_is_ignored(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promises 39 and 40. Where it goes, what it is and whose: not by what begins it, nor by what completes it."""
    data, other = make_wav(), str(uuid.uuid4())
    forged = {
        "id": other,
        "upload": other,
        "owner": UserFactory().pk,
        "status": "completed",
        "storage_path": "audio/forged/audio.wav",
        "storage_provider": "local",
        "storage_class": "GLACIER",
        "mime_type": "text/html",
        "content_type": "text/html",
        "method": "staged",
        "handle": "{}",
        "expires_at": "2099-01-01T00:00:00Z",
        "seconds": 10**6,
    }
    asked = {"filename": "../../../etc/tone.wav", "file_size": len(data), "workspace": workspace.slug, **forged}
    begun = client.post(DIRECT, asked, format="json").json()
    send(begun, data)
    answer = client.post(f"{DIRECT}{begun['id']}/complete/", {**forged, "file_size": 1}, format="json")
    assert answer.status_code == 201, answer.content
    upload = AudioUpload.objects.get()
    assert upload.storage_path == f"audio/{upload.pk}/audio.wav"
    assert (upload.original_filename, upload.status, upload.file_size) == ("tone.wav", "uploaded", len(data))
    assert (upload.storage_provider, upload.storage_class, upload.mime_type) == ("s3", "STANDARD", "audio/wav")
    assert upload.owner == workspace.memberships.get().user
    stat = bucket.stat(upload.storage_path)
    assert (stat.content_type, stat.size) == ("audio/wav", len(data))
    session = UploadSession.objects.get()
    assert other not in (str(session.pk), str(upload.pk))
    assert session.expires_at < timezone.now() + timedelta(seconds=settings.DIRECT_UPLOAD_SECONDS + 60)


def test_a_beginning_asked_for_twice_under_one_key_is_one(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 29. What is signed is stored nowhere: it is signed anew."""
    asked = {**ASKED, "workspace": workspace.slug}
    key = {"Idempotency-Key": "begin-1"}
    first, again = (client.post(DIRECT, asked, format="json", headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    told = [
        {**answer.json(), "requests": [(part["number"], part["size"]) for part in answer.json()["requests"]]}
        for answer in (first, again)
    ]
    assert told[0] == told[1] and told[0]["requests"] and again.headers["Idempotency-Replayed"] == "true"
    assert IdempotencyKey.objects.get().response_body["requests"] == []
    assert again.headers["Location"] == first.headers["Location"]
    assert first.headers["Location"].endswith(f"{DIRECT}{first.json()['id']}/")
    assert UploadSession.objects.count() == AudioUpload.objects.count() == 1
    other = client.post(DIRECT, {**asked, "file_size": 501}, format="json", headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


def test_a_completion_under_a_key_gets_its_first_answer_again(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 29. One that was refused gives the key back."""
    data = make_wav()
    asked = {"filename": "tone.wav", "file_size": len(data), "workspace": workspace.slug}
    session = client.post(DIRECT, asked, format="json").json()
    key = {"Idempotency-Key": "complete-1"}
    assert complete(client, session, **key).status_code == 409
    assert not IdempotencyKey.objects.exists()
    send(session, data)
    first, again = (complete(client, session, **key) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), first.content
    assert first.json() == again.json() and again.headers["Idempotency-Replayed"] == "true"


def test_no_transaction_is_open_while_the_storage_is_asked(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[tuple[str, bool]] = []

    def noted(name: str) -> None:
        owner = bucket if name == "open_range" else bucket.direct
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            states.append((name, connection.in_atomic_block))
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    asked_of = ("begin", "requests", "complete", "open_range", "abort")
    for name in asked_of:
        noted(name)
    data = make_wav()
    asked = {"filename": "tone.wav", "file_size": len(data), "workspace": workspace.slug}
    keys = ({"Idempotency-Key": f"key-{number}"} for number in range(9))
    session = client.post(DIRECT, asked, format="json", headers=next(keys)).json()
    send(session, data)
    assert complete(client, session, **next(keys)).status_code == 201
    given_up = client.post(DIRECT, asked, format="json", headers=next(keys)).json()
    assert client.delete(f"{DIRECT}{given_up['id']}/").status_code == 204
    assert {name for name, _ in states} == set(asked_of)
    assert not [name for name, in_transaction in states if in_transaction]

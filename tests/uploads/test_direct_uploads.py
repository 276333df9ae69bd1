"""Files that go from the client to the bucket: on each provider, with a client that knows none."""

import hashlib
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from rest_framework.test import APIClient

from media.formats import HEAD_BYTES
from objectstore import default_alias
from objectstore.base import AudioStorage
from quotas.models import Membership, QuotaReservation, Workspace
from quotas.reservations import change_quota, ensure_quota
from tests.audio import make_mp3, make_wav
from tests.factories import client_for, member_of
from tests.quotas.threads import at_once
from tests.uploads.direct import DIRECT, MEBIBYTE, begin, complete, held_by, noise, put, send, send_one, use_storage
from tests.uploads.life import actual, ago, counted
from uploads.models import AudioUpload, Status, UploadEvent, UploadSession
from uploads.objects.marks import ensure_ours
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, Membership.Role.EDITOR))


def nothing_is_left(storage: AudioStorage, workspace: Workspace) -> bool:
    rows = AudioUpload.objects.exists() or UploadSession.objects.exists() or QuotaReservation.objects.exists()
    return not rows and counted(workspace) == (0, 0, 0, 0) and not list(held_by(storage))


def test_a_file_goes_to_the_bucket_itself_and_then_the_common_way(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1. Of its bytes, our web process sees the beginning alone."""
    data = noise(6 * MEBIBYTE)
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
    ensure_ours(default_alias())
    looked_at: list[tuple[int, int | None]] = []
    open_range = bucket.open_range

    def noted(name: str, start: int = 0, length: int | None = None) -> Any:
        looked_at.append((start, length))
        return open_range(name, start, length)

    monkeypatch.setattr(bucket, "open_range", noted)
    monkeypatch.setattr(bucket, "save", None)
    session = begin(client, data, workspace=workspace.slug, **digests)
    assert session["status"] == "receiving" and counted(workspace) == (0, 0, len(data), 1)
    assert [urlsplit(asked["url"]).hostname for asked in session["requests"]] == ["127.0.0.1"] * len(
        session["requests"]
    )
    assert sum(asked["size"] for asked in session["requests"]) == len(data)
    send(session, data)
    answer = complete(client, session)
    assert answer.status_code == 201, answer.content
    assert looked_at == [(0, HEAD_BYTES)]
    file = answer.json()
    assert answer.headers["Location"].endswith(f"/api/v1/uploads/{session['upload']}/")
    assert answer.headers["Content-Location"] == answer.headers["Location"]
    assert (file["id"], file["status"], file["file_size"]) == (session["upload"], "uploaded", len(data))
    assert (file["checksum_sha256"], file["checksum_md5"]) == (digests["sha256"], digests["md5"])
    assert counted(workspace) == (len(data), 1, 0, 0) == actual(workspace)
    event = UploadEvent.objects.get(upload_id=file["id"])
    assert (event.action, event.details["door"]) == ("uploaded", "direct")
    process_upload(file["id"])
    upload = AudioUpload.objects.get()
    assert upload.status == Status.COMPLETED, upload.error_message
    assert list(held_by(bucket)) == [upload.storage_path]
    with open_range(upload.storage_path) as stored:
        assert stored.read() == data


def test_what_the_client_did_not_say_is_found_out_when_the_file_is_validated(
    bucket: AudioStorage, client: APIClient
) -> None:
    """Promise 1. Who has the file is told its size by us, and its SHA-256 only when we have read it."""
    data = make_wav()
    session = begin(client, data)
    send(session, data)
    file = complete(client, session).json()
    assert file["checksum_sha256"] == "" and file["checksum_md5"] in ("", hashlib.md5(data).hexdigest())
    process_upload(file["id"])
    assert AudioUpload.objects.get().checksum_sha256 == hashlib.sha256(data).hexdigest()


def test_a_file_with_another_sha256_than_the_client_told_is_not_accepted(
    bucket: AudioStorage, client: APIClient
) -> None:
    """Promise 1. Where the provider does not know it, it fails when it is read."""
    data = make_wav()
    session = begin(client, data, sha256="0" * 64)
    send(session, data)
    answer = complete(client, session)
    if answer.status_code == 201:
        process_upload(answer.json()["id"])
        upload = AudioUpload.objects.get()
        assert (upload.status, upload.error_code) == (Status.FAILED, "object_damaged")
    else:
        assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")


def test_a_lost_answer_asked_again_gives_the_same_file(bucket: AudioStorage, client: APIClient) -> None:
    """Promise 13."""
    data = make_wav()
    session = begin(client, data)
    send(session, data)
    first, again, once_more = (complete(client, session) for _ in range(3))
    assert [first.status_code, again.status_code, once_more.status_code] == [201, 200, 200]
    assert first.json() == again.json() and again.headers["Location"] == first.headers["Location"]
    assert AudioUpload.objects.count() == 1 and len(list(held_by(bucket))) == 1
    shown = client.get(f"{DIRECT}{session['id']}/").json()
    assert (shown["status"], shown["requests"], shown["upload"]) == ("completed", [], first.json()["id"])
    assert UploadSession.objects.get().handle == ""


def test_a_completion_whose_process_died_before_the_database_knew_can_be_asked_again(
    bucket: AudioStorage, client: APIClient, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    """Promise 13. The provider has completed it; that it is asked to do so again makes no second object."""
    data = make_wav()
    session = begin(client, data, workspace=workspace.slug)
    send(session, data)
    with monkeypatch.context() as dying:
        dying.setattr("uploads.intake.sessions.direct.finish_receiving", lambda *args, **kwargs: 1 / 0)
        client.raise_request_exception = False
        assert complete(client, session).status_code == 500
    assert counted(workspace) == (0, 0, len(data), 1)
    answer = complete(client, session)
    assert answer.status_code == 201, answer.content
    assert list(held_by(bucket)) == [answer.json()["storage_path"]]
    assert counted(workspace) == (len(data), 1, 0, 0)


def test_two_completions_at_once_make_one_file(bucket: AudioStorage, client: APIClient, workspace: Workspace) -> None:
    """Promises 13 and 33."""
    for seed in range(5):
        data = make_wav(seed=seed)
        session = begin(client, data, workspace=workspace.slug)
        send(session, data)
        answers = at_once(lambda: complete(client, session), lambda: complete(client, session))  # noqa: B023
        codes = sorted(answer.status_code for answer in answers)
        assert codes in ([200, 201], [201, 409]), [answer.content for answer in answers]
        if codes == [201, 409]:
            (late,) = (answer for answer in answers if answer.status_code == 409)
            assert (late.json()["code"], late.headers["Retry-After"]) == ("direct_upload_busy", "5")
        assert complete(client, session).status_code == 200
        assert len(list(held_by(bucket))) == AudioUpload.objects.count() == seed + 1
        assert counted(workspace) == actual(workspace)


def test_a_completion_that_was_killed_is_taken_over_when_its_time_is_over(
    request: pytest.FixtureRequest, settings: Any, client: APIClient
) -> None:
    """Promise 33. One provider is enough: what is leased is the row."""
    use_storage("s3", request, settings)
    data = make_wav()
    session = begin(client, data)
    send(session, data)
    UploadSession.objects.update(claimable_at=ago(seconds=-60))
    assert complete(client, session).json()["code"] == "direct_upload_busy"
    UploadSession.objects.update(claimable_at=ago(seconds=1))
    assert complete(client, session).status_code == 201
    assert UploadSession.objects.get().claimable_at is None


def test_what_is_missing_can_still_be_sent(bucket: AudioStorage, client: APIClient, workspace: Workspace) -> None:
    """Promise 18. What the bucket has already is not asked for again, and nothing is lost by asking too early."""
    data = noise(6 * MEBIBYTE)
    session = begin(client, data, workspace=workspace.slug)
    early = complete(client, session)
    assert (early.status_code, early.json()["code"]) == (409, "direct_upload_incomplete")
    assert early.json()["expected"] == len(data)
    if session["method"] == "parts":
        send_one(session["requests"][0], data)
        left = client.get(f"{DIRECT}{session['id']}/").json()
        assert [asked["number"] for asked in left["requests"]] == [2]
        assert complete(client, session).status_code == 409
        session = left
    assert counted(workspace) == (0, 0, len(data), 1)
    send(session, data)
    assert client.get(f"{DIRECT}{session['id']}/").json()["requests"] == []
    assert complete(client, session).status_code == 201


def test_a_part_that_was_sent_twice_is_there_once(bucket: AudioStorage, client: APIClient) -> None:
    """Promise 19. A client that did not hear the answer sends again."""
    data = noise(6 * MEBIBYTE)
    session = begin(client, data)
    if session["method"] != "session":
        send(session, data)
    send(session, data)
    answer = complete(client, session)
    assert answer.status_code == 201, answer.content
    with bucket.open_range(answer.json()["storage_path"]) as stored:
        assert stored.read() == data


def test_content_that_is_not_what_the_name_says_is_refused_and_nothing_stays(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 41."""
    data = make_mp3()
    session = begin(client, data, "song.flac", workspace=workspace.slug)
    send(session, data)
    answer = complete(client, session)
    assert (answer.status_code, answer.json()["code"]) == (415, "content_mismatch")
    assert nothing_is_left(bucket, workspace)
    assert complete(client, session).status_code == 404


def test_an_md5_that_the_provider_computed_and_the_client_did_not_tell_is_refused_at_once(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 1."""
    data = make_wav()
    session = begin(client, data, md5="0" * 32, workspace=workspace.slug)
    send(session, data)
    answer = complete(client, session)
    known = (
        "md5" in bucket.stat(AudioUpload.objects.get().storage_path).checksums if answer.status_code == 201 else True
    )
    if known:
        assert (answer.status_code, answer.json()["code"], answer.json()["algorithm"]) == (
            422,
            "digest_mismatch",
            "md5",
        )
        assert nothing_is_left(bucket, workspace)
    else:
        process_upload(answer.json()["id"])
        assert AudioUpload.objects.get().error_code == "object_damaged"


def test_more_bytes_than_announced_never_become_a_file(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 21. Either the provider takes no more, or the file is refused."""
    data = make_wav()
    session = begin(client, data[:-100], workspace=workspace.slug)
    taken = put(session["requests"][0], data).ok
    answer = complete(client, session)
    assert not AudioUpload.objects.exclude(status=Status.RECEIVING).exists()
    if session["method"] == "staged":
        assert taken and (answer.status_code, answer.json()["code"]) == (422, "direct_upload_too_long")
        assert (answer.json()["expected"], answer.json()["received"]) == (len(data) - 100, len(data))
        assert nothing_is_left(bucket, workspace)
    else:
        assert not taken and (answer.status_code, answer.json()["code"]) == (409, "direct_upload_incomplete")
        assert not list(held_by(bucket))


def test_giving_up_removes_what_was_sent(bucket: AudioStorage, client: APIClient, workspace: Workspace) -> None:
    """Promise 22."""
    data = noise(6 * MEBIBYTE)
    session = begin(client, data, workspace=workspace.slug)
    send_one(session["requests"][0], data)
    assert client.delete(f"{DIRECT}{session['id']}/").status_code == 204
    assert nothing_is_left(bucket, workspace)
    for answer in (
        client.get(f"{DIRECT}{session['id']}/"),
        client.delete(f"{DIRECT}{session['id']}/"),
        complete(client, session),
    ):
        assert answer.status_code == 404
    assert not put(session["requests"][0], data[: session["requests"][0]["size"]]).ok or not list(held_by(bucket))


def test_a_file_that_arrived_is_not_given_up_with_its_session(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    data = make_wav()
    session = begin(client, data, workspace=workspace.slug)
    send(session, data)
    file = complete(client, session).json()
    answer = client.delete(f"{DIRECT}{session['id']}/")
    assert (answer.status_code, answer.json()["code"], answer.json()["upload"]) == (
        409,
        "direct_upload_ended",
        file["id"],
    )
    assert bucket.stat(file["storage_path"]).size == len(data)


def test_rights_and_limits_are_asked_again_at_the_end(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 23."""
    data = make_wav()
    session = begin(client, data, workspace=workspace.slug)
    send(session, data)
    membership = Membership.objects.get(workspace=workspace)
    Membership.objects.filter(pk=membership.pk).update(role=Membership.Role.VIEWER)
    assert complete(client, session).status_code == 403
    membership.delete()
    assert complete(client, session).status_code == 404
    membership.save(force_insert=True)
    change_quota(workspace, changes={"max_storage_bytes": len(data) - 1})
    answer = complete(client, session)
    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded"), answer.content
    assert counted(workspace) == (0, 0, len(data), 1)
    change_quota(workspace, changes={"max_storage_bytes": len(data), "max_file_count": 1, "max_monthly_uploads": 1})
    assert complete(client, session).status_code == 201
    assert ensure_quota(workspace).monthly_uploads == 1


def test_what_is_signed_is_on_no_log_line_and_in_no_cache(
    bucket: AudioStorage, client: APIClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Promises 49 and 52. Nor is what we keep of it, in a log or in an answer."""
    data = make_wav()
    answers = [client.post(DIRECT, {"filename": "tone.wav", "file_size": len(data)}, format="json")]
    asked, given_up = answers[0].json(), begin(client, data)
    handles = list(UploadSession.objects.values_list("handle", flat=True))
    answers.append(client.get(f"{DIRECT}{asked['id']}/"))
    send(asked, data)
    answers.append(complete(client, asked))
    assert client.delete(f"{DIRECT}{given_up['id']}/").status_code == 204
    assert [answer.status_code for answer in answers] == [201, 200, 201]
    for answer in answers:
        assert not [handle for handle in handles if handle in answer.content.decode()]
        assert answer.headers["Cache-Control"] == "private, no-store"
    logged = "\n".join(str(record.msg) for record in caplog.records) + caplog.text
    assert "direct_upload_begun" in logged
    secrets = [value for handle in handles for value in json.loads(handle).values() if len(value) >= 32]
    queries = [urlsplit(request["url"]).query for request in (*asked["requests"], *given_up["requests"])]
    assert len(secrets) >= 2 and all(queries)
    assert not [secret for secret in (*secrets, *queries) if secret in logged]

"""Direct uploads whose client never comes back: what was promised and what was sent is taken back at each provider."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from objectstore.base import AudioStorage
from objectstore.errors import ObjectNotFound, TransientStorageError
from quotas.models import Membership, QuotaReservation, Workspace
from tests.audio import make_wav
from tests.factories import client_for, member_of
from tests.uploads.direct import DIRECT, MEBIBYTE, begin, complete, held_by, noise, put, send, send_one
from tests.uploads.life import ago, counted
from uploads.intake.sessions.direct import complete_direct_upload
from uploads.models import AudioUpload, Status, UploadSession
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, Membership.Role.EDITOR))


def run_out() -> None:
    QuotaReservation.objects.update(expires_at=ago(seconds=1))
    UploadSession.objects.update(expires_at=ago(seconds=1))


def test_an_abandoned_upload_is_ended_at_the_provider_and_its_room_is_given_back(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promises 16 and 22. One that was sent in half, and one that was sent and never completed; a living one stays."""
    data = noise(6 * MEBIBYTE)
    half, whole, alive = (begin(client, data, workspace=workspace.slug) for _ in range(3))
    send_one(half["requests"][0], data)
    send(whole, data)
    handles = {str(session.pk): session for session in UploadSession.objects.select_related("upload")}
    dead = QuotaReservation.objects.filter(upload__in=[half["upload"], whole["upload"]])
    dead.update(expires_at=ago(seconds=1))
    assert sweep_stale_reservations().items() >= {"abandoned": 2, "released": 0, "partials_removed": 0}.items()
    assert [str(pk) for pk in AudioUpload.objects.values_list("pk", flat=True)] == [alive["upload"]]
    assert counted(workspace) == (0, 0, len(data), 1)
    assert not list(held_by(bucket))
    for asked in (half, whole):
        session = handles[asked["id"]]
        with pytest.raises(ObjectNotFound):
            bucket.direct.requests(session.upload.storage_path, session.direct_upload, size_bytes=len(data), seconds=60)
        assert client.get(f"{DIRECT}{asked['id']}/").status_code == 404
    send(alive, data)
    assert complete(client, alive).status_code == 201


def test_an_upload_that_outlives_its_grace_period_is_not_taken_for_a_leftover(
    bucket: AudioStorage, client: APIClient, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. What a client sends by itself may be as old as its session."""
    asked_before: list[Any] = []

    def remove_partials(older_than: Any, *, sessions_older_than: Any) -> int:
        asked_before.append(sessions_older_than)
        return 0

    monkeypatch.setattr(bucket, "remove_partials", remove_partials)
    settings.ORPHAN_GRACE_HOURS, settings.DIRECT_UPLOAD_SECONDS = 1, 604_800
    sweep_stale_reservations()
    assert asked_before[0] < ago(days=7, minutes=59)


def test_a_provider_that_does_not_answer_keeps_no_room_from_anybody(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promises 16 and 22. What it could not remove, later sweeps find by its age."""
    data = make_wav()
    session = begin(client, data, workspace=workspace.slug)
    send(session, data)
    run_out()

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise TransientStorageError

    with monkeypatch.context() as broken:
        broken.setattr(bucket.direct, "abort", unreachable)
        broken.setattr(bucket, "remove_partials", unreachable)
        assert sweep_stale_reservations()["abandoned"] == 1
    assert counted(workspace) == (0, 0, 0, 0) and not AudioUpload.objects.exists()
    assert sweep_stale_reservations()["sessions_cleaned"] == 1
    assert not list(held_by(bucket)) and not UploadSession.objects.exists()


def test_a_completion_that_comes_after_the_sweep_leaves_nothing_behind(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 28. The sweep strikes while the provider is at work: no file, no object, no room held."""
    data = make_wav()
    asked = begin(client, data, workspace=workspace.slug)
    send(asked, data)
    complete_direct = bucket.direct.complete

    def swept_meanwhile(*args: Any, **kwargs: Any) -> Any:
        stat = complete_direct(*args, **kwargs)
        run_out()
        with monkeypatch.context() as deaf:
            deaf.setattr(bucket.direct, "abort", lambda *args: None)
            assert sweeps.sweep_stale_reservations()["abandoned"] == 1
        return stat

    monkeypatch.setattr(bucket.direct, "complete", swept_meanwhile)
    answer = complete(client, asked)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_expired")
    assert not AudioUpload.objects.exists() and not list(held_by(bucket))
    assert counted(workspace) == (0, 0, 0, 0)


def test_a_completion_under_way_is_not_taken_for_an_abandoned_upload(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. It began in the last second; the provider may take its time."""
    data = make_wav()
    asked = begin(client, data, workspace=workspace.slug)
    send(asked, data)
    QuotaReservation.objects.update(expires_at=ago(seconds=-1))
    complete_direct = bucket.direct.complete

    def swept_meanwhile(*args: Any, **kwargs: Any) -> Any:
        assert QuotaReservation.objects.get().expires_at > ago(seconds=-600)
        return complete_direct(*args, **kwargs)

    monkeypatch.setattr(bucket.direct, "complete", swept_meanwhile)
    assert complete(client, asked).status_code == 201


def test_addresses_of_an_upload_whose_time_is_over_are_not_signed_again(
    bucket: AudioStorage, client: APIClient
) -> None:
    asked = begin(client, make_wav())
    UploadSession.objects.update(expires_at=ago(seconds=1))
    answer = client.get(f"{DIRECT}{asked['id']}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_expired")


def test_an_upload_that_the_provider_forgot_is_taken_back_when_it_is_to_be_completed(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 22. A rule of the bucket, or its operator, may have ended it."""
    asked = begin(client, make_wav(), workspace=workspace.slug)
    session = UploadSession.objects.select_related("upload").get()
    bucket.direct.abort(session.upload.storage_path, session.direct_upload)
    assert client.get(f"{DIRECT}{asked['id']}/").json()["code"] == "upload_expired"
    answer = complete(client, asked)
    assert (answer.status_code, answer.json()["code"]) == (409, "upload_expired")
    assert not AudioUpload.objects.exists() and counted(workspace) == (0, 0, 0, 0)


def test_a_storage_that_cannot_begin_leaves_nothing_behind(
    bucket: AudioStorage, client: APIClient, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14."""

    def unreachable(*args: Any, **kwargs: Any) -> Any:
        raise TransientStorageError

    begun: list[Any] = []
    begin_direct = bucket.direct.begin

    def noted(*args: Any, **kwargs: Any) -> Any:
        begun.append((args[0], begin_direct(*args, **kwargs)))
        return begun[0][1]

    monkeypatch.setattr(bucket.direct, "begin", noted)
    with monkeypatch.context() as broken:
        broken.setattr(bucket.direct, "requests", unreachable)
        answer = client.post(DIRECT, {"filename": "a.wav", "file_size": 500, "workspace": workspace.slug})
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert not AudioUpload.objects.exists() and counted(workspace) == (0, 0, 0, 0)
    ((name, direct),) = begun
    with pytest.raises(ObjectNotFound):
        bucket.direct.requests(name, direct, size_bytes=500, seconds=60)


def test_what_is_signed_is_dead_when_the_file_has_arrived(
    bucket: AudioStorage, client: APIClient, workspace: Workspace
) -> None:
    """Promise 12. Whoever still has an address cannot change the file with it."""
    data, other = make_wav(seed=1), make_wav(seed=2)
    assert len(data) == len(other)
    asked = begin(client, data, workspace=workspace.slug)
    session = UploadSession.objects.select_related("upload", "upload__reservation", "upload__workspace").get()
    send(asked, data)
    upload, is_new = complete_direct_upload(session, actor=workspace.memberships.get().user)
    assert is_new and upload.status == Status.UPLOADED
    put(asked["requests"][0], other)
    with bucket.open_range(upload.storage_path) as stored:
        assert stored.read() == data


def test_a_session_is_forgotten_when_nobody_can_ask_for_its_answer_any_more(
    bucket: AudioStorage, client: APIClient
) -> None:
    data = make_wav()
    asked = begin(client, data)
    send(asked, data)
    assert complete(client, asked).status_code == 201
    sweep_stale_reservations()
    assert UploadSession.objects.exists()
    UploadSession.objects.update(expires_at=ago(seconds=1))
    sweep_stale_reservations()
    assert not UploadSession.objects.exists() and AudioUpload.objects.exists()
    assert client.get(f"{DIRECT}{asked['id']}/").status_code == 404

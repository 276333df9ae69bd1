"""What people and programs see of a storage's bad days: a clean answer, nothing kept, and everything later."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from objectstore import get_storage
from objectstore.errors import TransientStorageError
from objectstore.retry import PRESETS, RetryPolicy
from quotas.models import QuotaReservation, Workspace
from tests.audio import make_mp3
from tests.clocks import go_ahead
from tests.factories import client_for, member_of
from tests.object_servers import ObjectServer
from tests.object_servers.faults import Fault, FaultyProxy
from tests.object_servers.fixtures import ALIASES, configure
from tests.quotas.threads import at_once
from tests.uploads import direct
from tests.uploads.life import age_all, arrive, assert_books_balance, complete, counted, put_orphan, stored_names
from tests.uploads.listening import hear
from tests.uploads.sending import post_raw
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload, Status, StorageCondition, StoredObject
from uploads.objects.conditions import note_answer, note_failure, storages_left_alone
from uploads.objects.marks import ensure_ours
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.upkeep.sweeps import sweep_stale_reservations, sweep_stale_work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

MP3 = make_mp3(seconds=3)
#: The requests for an object's bytes.
READS = {"s3": r"/audio\.mp3", "gcs": "alt=media", "azure": r"/audio\.mp3"}
UNAVAILABLE = Fault(status=503)
#: In the words of servers that speak as Amazon's does.
S3_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>No room at s3://secret/audio/</Message></Error>"
NO_ROOM = Fault(status=507)
FULL = {
    "s3": [
        NO_ROOM,
        Fault(status=507, body=S3_ERROR.format("XMinioStorageFull").encode()),
        Fault(status=403, body=S3_ERROR.format("QuotaExceeded").encode()),
    ],
    "azure": [NO_ROOM],
    "gcs": [NO_ROOM],
}
#: Google has room: what stands in its place and has none is an error like any other.
NOT_TOLD_APART = {"gcs": (500, "storage_failed")}


@pytest.fixture(params=ALIASES)
def proxy(request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """Before the storage that new files go to."""
    server: ObjectServer = request.getfixturevalue(f"{request.param}_server")
    monkeypatch.setitem(PRESETS, settings.STORAGE_RETRY, RetryPolicy(3, 0.001, 0.01))
    with FaultyProxy(server.options["endpoint_url"]) as proxy:
        configure(settings, server, endpoint_url=proxy.url)
        settings.AUDIO_STORAGE = server.alias
        yield proxy


@pytest.fixture
def path(workspace: Workspace) -> str:
    return f"/api/v1/uploads/?workspace={workspace.slug}"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (UNAVAILABLE, 503, "storage_unavailable"),
        (Fault(status=403), 500, "storage_credentials_refused"),
        (Fault(request="reset"), 503, "storage_unavailable"),
        (Fault(answer="lost"), 503, "storage_unavailable"),
    ],
    ids=["503", "403", "reset", "answer lost"],
)
def test_an_upload_that_cannot_be_stored_is_refused_and_leaves_nothing(
    proxy: FaultyProxy,
    workspace: Workspace,
    path: str,
    fault: Fault,
    status: int,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 14, Promise 16. No row, no reservation, the quota as before, and no object when the sweeps were there."""
    client = client_for(member_of(workspace))
    with proxy.doing(fault):
        answer = post_raw(client, MP3, path=path)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code
    told = answer.content.decode()
    assert proxy.netloc not in told and "audio/" not in told
    assert not AudioUpload.objects.exists() and not QuotaReservation.objects.exists()
    assert counted(workspace) == (0, 0, 0, 0)

    go_ahead(monkeypatch, days=2)
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") - timedelta(days=2))
    sweep_orphaned_objects()
    sweep_stale_reservations()
    assert stored_names() == set()
    assert post_raw(client, MP3, path=path).status_code == 201
    assert_books_balance(workspace)


def test_a_storage_that_is_full_says_so_and_takes_files_when_there_is_room(
    proxy: FaultyProxy, workspace: Workspace, path: str, settings: Any
) -> None:
    """Promise 5. Whether the first request finds no room or a later one: nothing of it stays, nothing is reserved."""
    client = client_for(member_of(workspace))
    expected = NOT_TOLD_APART.get(settings.AUDIO_STORAGE, (507, "storage_full"))
    settings.STORAGE_PART_BYTES = 5 * 1024**2
    for fault in FULL[settings.AUDIO_STORAGE]:
        for body, asked_before in ((MP3, 0), (MP3 + bytes(6 * 1024**2), 1)):
            with proxy.doing(fault, after=asked_before, times=1) as rule:
                answer = post_raw(client, body, path=path)
            assert (rule.fired, answer.status_code, answer.json()["code"]) == (1, *expected)
            assert "secret" not in answer.content.decode()
            assert not AudioUpload.objects.exists() and not QuotaReservation.objects.exists()
            assert counted(workspace) == (0, 0, 0, 0)
            assert stored_names() == set()
    assert get_storage(settings.AUDIO_STORAGE).remove_partials(datetime.now(UTC) + timedelta(hours=1)) == 0
    assert post_raw(client, MP3, path=path).status_code == 201
    assert_books_balance(workspace)


def test_an_upload_whose_storage_stumbles_is_stored_once(proxy: FaultyProxy, workspace: Workspace, path: str) -> None:
    """Promise 12, Promise 13, Promise 14."""
    client = client_for(member_of(workspace))
    for fault in (UNAVAILABLE, Fault(request="corrupt"), Fault(answer="lost")):
        with proxy.doing(fault, times=1) as rule:
            answer = post_raw(client, MP3, path=path)
        assert (rule.fired, answer.status_code) == (1, 201), fault
    assert len(stored_names()) == 3
    assert_books_balance(workspace)


def test_what_a_worker_cannot_read_now_it_gives_back(proxy: FaultyProxy, workspace: Workspace) -> None:
    """Promise 14. The file fails not for a storage that is away, and is completed when that is over."""
    upload = arrive(workspace, MP3, filename="one.mp3")
    with proxy.doing(UNAVAILABLE):
        process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == (Status.UPLOADED, "storage_unavailable")
    AudioUpload.objects.update(claimable_at=F("claimable_at") - timedelta(minutes=5))
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == Status.COMPLETED
    assert_books_balance(workspace)


@pytest.mark.parametrize("kind", ["corrupt", "cut", "reset"])
def test_what_came_damaged_is_read_again_before_a_file_is_called_so(
    proxy: FaultyProxy, workspace: Workspace, settings: Any, kind: Any
) -> None:
    """Promise 14. By workers, and for those who hear the file through us."""
    upload = arrive(workspace, MP3, filename="one.mp3")
    reads = READS[settings.AUDIO_STORAGE]
    with proxy.doing(Fault(answer=kind), method="GET", target=reads, times=1) as rule:
        process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (rule.fired, upload.status) == (1, Status.COMPLETED), upload.error_message

    settings.DOWNLOAD_REDIRECTS = False
    if kind != "corrupt":
        content = f"/api/v1/uploads/{upload.pk}/content/"
        with proxy.doing(Fault(answer=kind), method="GET", target=reads, times=1) as rule:
            heard = hear(client_for(member_of(workspace, "viewer")), content)
        assert (rule.fired, heard.status, heard.address) == (1, 200, "")
        assert heard.body == MP3


def test_a_purge_that_the_storage_does_not_take_ends_later(
    proxy: FaultyProxy, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7. A tombstone, of which nothing can be heard, until the object is gone."""
    client = client_for(member_of(workspace))
    upload = complete(workspace, MP3, filename="one.mp3")
    delete_upload(upload, actor=None)
    with proxy.doing(UNAVAILABLE, method="DELETE") as rule:
        purge_upload(upload, actor=None)
    assert rule.fired
    assert AudioUpload.objects.get().status == Status.PURGED
    assert hear(client, f"/api/v1/uploads/{upload.pk}/content/").status == 404
    assert counted(workspace) == (0, 0, 0, 0)
    assert len(stored_names()) == 1
    go_ahead(monkeypatch, minutes=2)
    assert sweep_stale_work()["purges_finished"] == 1
    assert not AudioUpload.objects.exists() and not stored_names()


@pytest.mark.parametrize("proxy", ["s3"], indirect=True)
def test_a_storage_that_fails_again_and_again_is_left_alone_and_holds_up_no_other(
    proxy: FaultyProxy, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 14. All processes remember it, for a time that grows; when it answers, all is made good."""
    for seed in range(5):
        upload = complete(workspace, make_mp3(seconds=1, seed=seed), filename="one.mp3")
        delete_upload(upload, actor=None)
    ensure_ours("local")
    orphan = put_orphan(audio_root)
    age_all(audio_root)
    go_ahead(monkeypatch, minutes=2)
    pauses = []
    with proxy.doing(UNAVAILABLE) as rule:
        for upload in AudioUpload.objects.in_trash():
            purge_upload(upload, actor=None)
        first_asked = rule.fired
        for _ in range(3):
            before = rule.fired
            for sweep in (sweep_stale_work, sweep_stale_reservations, sweep_orphaned_objects):
                assert sweep()["storages_left_alone"] == 1
            assert rule.fired == before, "nobody asks it in its pause"
            pauses.append(pause_of("s3"))
            end_of_pause()
            assert sweep_stale_work()["storages_left_alone"] == 1
            assert rule.fired > before
    assert first_asked < 3 * 5
    assert pauses[0] < pauses[1] < pauses[2]
    assert StoredObject.objects.unneeded().filter(storage_path=orphan).exists(), "the other storage was swept"
    end_of_pause()
    assert sweep_stale_work() == {"taken_back": 0, "sent_again": 0, "purges_finished": 5}
    assert StorageCondition.objects.get(storage="s3").failures == 0
    assert not AudioUpload.objects.exists()


def end_of_pause() -> None:
    StorageCondition.objects.update(left_alone_until=Now())


def pause_of(alias: str) -> timedelta:
    left_alone_until = StorageCondition.objects.get(storage=alias).left_alone_until
    assert left_alone_until is not None
    return left_alone_until - datetime.now(UTC)


def test_one_that_swallows_requests_is_left_alone_after_the_first(workspace: Workspace) -> None:
    """Each of them costs a time-out, which all that a sweep has to do would wait for."""
    note_failure("s3", TransientStorageError(), seconds=1)
    assert storages_left_alone() == set()
    note_failure("s3", TransientStorageError(), seconds=60)
    assert storages_left_alone() == {"s3"}
    note_answer("s3")
    assert storages_left_alone() == set()


@pytest.mark.race
def test_those_who_wait_for_a_storage_at_the_same_time_note_one_failure(workspace: Workspace) -> None:
    at_once(*[lambda: note_failure("s3", TransientStorageError(), seconds=60)] * 6)
    assert StorageCondition.objects.get(storage="s3").failures == 1


@pytest.mark.parametrize("fault", [UNAVAILABLE, Fault(answer="lost")], ids=["503", "answer lost"])
def test_a_direct_upload_that_could_not_be_completed_is_completed_later(
    proxy: FaultyProxy, workspace: Workspace, fault: Fault
) -> None:
    """Promise 13. The session, its bytes and what is reserved for them stay; asked again, it gives one object."""
    client = client_for(member_of(workspace))
    session = direct.begin(client, MP3, "one.mp3", workspace=workspace.slug)
    direct.send(session, MP3)
    with proxy.doing(fault):
        answer = direct.complete(client, session)
    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
    assert counted(workspace) == (0, 0, len(MP3), 1)
    for _ in range(2):
        assert direct.complete(client, session).status_code in (200, 201)
    (upload,) = AudioUpload.objects.all()
    assert upload.status == Status.UPLOADED
    assert stored_names() == {upload.storage_path}
    assert_books_balance(workspace)

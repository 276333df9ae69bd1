"""Many uploads at once through the real web server, and a server that is killed under them.

It has a pool of two database connections: an upload must not hold one while its bytes come.
"""

import io
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psutil
import pytest
import requests
from django.db.models.functions import Now

from accounts.tokens import create_token
from audiotricks.models import IdempotencyKey
from objectstore.local import LocalStorage
from quotas.models import QuotaReservation, StorageQuota
from quotas.workspaces import personal_workspace
from tests.audio import make_mp3, make_wav
from tests.factories import StorageQuotaFactory, UserFactory
from tests.servers import accepts_connections, wait_until
from tests.uploads.sending import UPLOADS, field, file_part, files_under, form, form_type
from tests.uploads.web import Connection, WebServer, running_web_server
from uploads.models import AudioUpload, Status
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.race]

MP3 = make_mp3()
WAV = make_wav(seconds=20)
THREADS = 12


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None, django_db_blocker: Any) -> Iterator[WebServer]:
    settings = {"DATABASE_POOL_SIZE": "2", "WEB_THREADS": "16", "UPLOAD_STALL_SECONDS": "60"}
    with django_db_blocker.unblock(), running_web_server(tmp_path_factory.mktemp("web"), **settings) as web:
        yield web


@pytest.fixture(autouse=True)
def clean(web: WebServer) -> Iterator[None]:
    yield
    for name in files_under(web.root):
        (web.root / name).unlink()


@pytest.fixture
def user() -> Any:
    return UserFactory()


@pytest.fixture
def token(user: Any) -> str:
    return create_token(user, name="test", expires_in=timedelta(days=1))[1]


def receiving() -> int:
    return AudioUpload.objects.filter(status=Status.RECEIVING).count()


def held_open(web: WebServer, token: str, *headers: str) -> Connection:
    """An upload that stands half way: its row is made, and the rest of its bytes is awaited."""
    before = receiving()
    client = web.connect()
    client.head(token, len(WAV), *headers, filename="one.wav")
    client.send(WAV[: len(WAV) * 3 // 4])
    wait_until(lambda: receiving() > before, what="the receiving row")
    return client


def finish(client: Connection) -> Any:
    client.send(WAV[len(WAV) * 3 // 4 :])
    return client.answer()


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


# Limits


@pytest.mark.parametrize(
    ("limit", "maximum"),
    [
        ("max_file_count", 5),
        ("max_monthly_uploads", 5),
        ("max_storage_bytes", 5 * len(MP3) + len(MP3) // 2),
        ("max_monthly_upload_bytes", 5 * len(MP3) + len(MP3) // 2),
    ],
)
def test_uploads_in_parallel_never_exceed_a_limit(
    limit: str, maximum: int, web: WebServer, user: Any, token: str
) -> None:
    """Promise 27. As many as fit arrive, the others are refused by the limit's name, the counters are the rows."""
    workspace = personal_workspace(user)
    StorageQuotaFactory(workspace=workspace, **{limit: maximum})

    def upload(number: int) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        with requests.Session() as session:
            if number % 2:
                answer = session.post(web.url + UPLOADS, headers=headers, files={"file": (f"{number}.mp3", MP3)})
            else:
                headers["Content-Disposition"] = f"attachment; filename={number}.mp3"
                answer = session.post(web.url + UPLOADS, headers=headers, data=MP3)
        return answer.status_code, answer.json().get("limit", "")

    answers = at_once(THREADS, upload) + [upload(number) for number in range(THREADS)]
    refused = [answer for answer in answers if answer[0] != 201]
    assert set(refused) == {(413, limit)}
    assert len(answers) - len(refused) == 5
    quota = StorageQuota.objects.get(workspace=workspace)
    rows = AudioUpload.objects.filter(workspace=workspace)
    assert (quota.current_file_count, quota.monthly_uploads) == (rows.count(), rows.count()) == (5, 5)
    assert quota.current_storage_bytes == quota.monthly_upload_bytes == 5 * len(MP3)
    assert (quota.reserved_bytes, quota.reserved_files, QuotaReservation.objects.count()) == (0, 0, 0)
    assert len(files_under(web.root)) == 5


# Idempotency-Key


def test_an_upload_that_is_still_coming_is_a_409_and_then_its_answer(web: WebServer, token: str) -> None:
    """Promise 29. The second one is told at once, while the first one's body is open."""
    key = "Idempotency-Key: k"
    with held_open(web, token, key) as first, web.connect() as second:
        second.head(token, len(WAV), key, filename="one.wav")
        second.send(WAV[:65_536])
        conflict = second.answer()
        assert (conflict.status, conflict.json()["code"]) == (409, "idempotency_in_progress")
        assert int(conflict.headers["retry-after"]) > 0
        answer = finish(first)
        assert answer.status == 201
    with web.connect() as third:
        third.head(token, len(WAV), key, filename="one.wav")
        third.send(WAV)
        again = third.answer()
    assert (again.status, again.json()) == (201, answer.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert AudioUpload.objects.count() == 1


def test_one_upload_sent_many_times_at_once_is_stored_once(web: WebServer, token: str) -> None:
    """Promise 29. Each gets the one answer, or is told that it is being worked on."""

    def upload(number: int) -> tuple[int, str]:
        with requests.Session() as session:
            answer = session.post(
                web.url + UPLOADS,
                headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "k"},
                files={"file": ("one.wav", io.BytesIO(WAV))},
            )
        return answer.status_code, answer.json().get("id") or answer.json()["code"]

    answers = set(at_once(THREADS, upload))
    stored = AudioUpload.objects.get()
    assert answers <= {(201, str(stored.pk)), (409, "idempotency_in_progress")}
    assert (201, str(stored.pk)) in answers


# Connections to the database


def test_slow_clients_leave_the_two_database_connections_to_others(web: WebServer, token: str) -> None:
    """They stand in their first bytes, a form's fields, the file, a repetition, a picture, or some JSON."""
    headers = {"Authorization": f"Bearer {token}"}
    done = requests.post(
        web.url + UPLOADS,
        headers={**headers, "Idempotency-Key": "done", "Content-Disposition": "attachment; filename=one.wav"},
        data=WAV,
    )
    assert done.status_code == 201
    beginning = form(field("workspace", ""), file_part(WAV, "one.wav"))
    with ExitStack() as stack:
        slow = [stack.enter_context(held_open(web, token)) for _ in range(4)]
        for start in (b"", beginning[:20]):
            for _ in range(2):
                client = stack.enter_context(web.connect())
                client.head(token, len(beginning), f"Content-Type: {form_type()}")
                client.send(start)
        for _ in range(2):
            client = stack.enter_context(web.connect())
            client.head(token, len(WAV), "Idempotency-Key: done", filename="one.wav")
            client.send(WAV[:100_000])
            picture = stack.enter_context(web.connect())
            picture.head(token, 100_000, path=f"{UPLOADS}{done.json()['id']}/thumbnail/", method="PUT")
            picture.send(b"x" * 1000)
            asking = stack.enter_context(web.connect())
            asking.head(token, 100_000, "Content-Type: application/json", path=f"{UPLOADS}preflight/")
            asking.send(b"{" + b" " * 1000)
        for _ in range(5):
            listed = requests.get(web.url + UPLOADS, headers=headers, timeout=10)
            assert listed.status_code == 200
        assert requests.get(f"{web.url}/sign-in/", timeout=10).status_code == 200
        assert [finish(client).status for client in slow] == [201] * 4
    wait_until(lambda: receiving() == 0, what="the end of the others")
    assert AudioUpload.objects.count() == 5


# The server is killed


def test_a_web_worker_that_is_killed_half_way_loses_nothing_that_was_answered(
    web: WebServer, user: Any, token: str
) -> None:
    """Promise 2. What was answered is served; what was not goes with its reservation; the key is free in time."""
    headers = {"Authorization": f"Bearer {token}"}
    stored = requests.post(web.url + UPLOADS, headers=headers, files={"file": ("one.wav", WAV)}).json()
    worker = web.worker()
    with held_open(web, token, "Idempotency-Key: k") as client:
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(ConnectionError):
            finish(client)

    def replaced() -> bool:
        children = psutil.Process(web.program.process.pid).children()
        return worker.pid not in [child.pid for child in children] and accepts_connections(web.port)

    wait_until(replaced, what="another worker")
    workspace = personal_workspace(user)
    quota = StorageQuota.objects.get(workspace=workspace)
    assert (quota.current_file_count, quota.reserved_files, receiving()) == (1, 1, 1)
    content = requests.get(f"{web.url}{UPLOADS}{stored['id']}/content/", headers=headers, timeout=60)
    assert content.content == WAV
    busy = requests.post(
        web.url + UPLOADS, headers={**headers, "Idempotency-Key": "k"}, files={"file": ("one.wav", WAV)}
    )
    assert busy.status_code == 409

    QuotaReservation.objects.update(expires_at=Now() - timedelta(seconds=1))
    IdempotencyKey.objects.update(expires_at=Now() - timedelta(seconds=1))
    assert sweep_stale_reservations()["abandoned"] == 1
    quota.refresh_from_db()
    assert (quota.current_file_count, quota.reserved_files, quota.reserved_bytes) == (1, 0, 0)
    again = requests.post(
        web.url + UPLOADS, headers={**headers, "Idempotency-Key": "k"}, files={"file": ("one.wav", WAV)}
    )
    assert again.status_code == 201
    partials = [name for name in files_under(web.root) if name.endswith(".part")]
    assert len(partials) == 1
    assert LocalStorage(web.root).remove_partials(AudioUpload.objects.latest("uploaded_at").uploaded_at) == 1
    assert len(files_under(web.root)) == 2

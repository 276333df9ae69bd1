"""Who gets an object when two want it at once: each race is held at its worst moment, by a thread that waits there.

A thread stops before a statement that it is about to send; the other one has all the time that it wants.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.backends.signals import connection_created

from objectstore import get_storage
from quotas.models import Workspace
from tests.audio import make_wav
from tests.factories import UserFactory
from tests.servers import wait_until
from tests.uploads.life import (
    Bytes,
    age_all,
    ago,
    assert_books_balance,
    assert_ledger_agrees,
    complete,
    end_grace_periods,
    names_in,
    stored_names,
)
from tests.uploads.life import arrive as arrived
from uploads.intake.arrivals import UploadTakenBack
from uploads.intake.ingest import ingest_audio
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.upkeep.moving import Outcome, StorageMove
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.race,
    pytest.mark.usefixtures("without_decoding"),
]

LOCKED = 'FROM "stored_objects" WHERE "stored_objects"."id" IN'
OWNERS_CHANGE = 'UPDATE "audio_uploads" SET'


class Stopped:
    """Work on a thread that stops before (or behind) the first statement with these words, until it may go on."""

    def __init__(self, work: Callable[[], Any], words: str, *, behind: bool = False) -> None:
        self._words, self._behind = words, behind
        self._reached, self._may_go_on = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,))
        self.outcome: Any = None
        self._thread.start()
        assert self._reached.wait(30), f"no statement with {words}"

    def _run(self, work: Callable[[], Any]) -> None:
        connection_created.connect(self._watch_threads_of_a_move)
        try:
            with connection.execute_wrapper(self._stop):
                self.outcome = work()
        except Exception as error:
            self.outcome = error
        finally:
            connection_created.disconnect(self._watch_threads_of_a_move)
            connection.close()

    def _watch_threads_of_a_move(self, connection: Any, **_signal: Any) -> None:
        if threading.current_thread().name.startswith("move"):
            connection.execute_wrappers.append(self._stop)

    def _stop(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        stops = self._words in sql and not self._reached.is_set()
        if stops and not self._behind:
            self._wait()
        answer = execute(sql, params, many, context)
        if stops and self._behind:
            self._wait()
        return answer

    def _wait(self) -> None:
        self._reached.set()
        assert self._may_go_on.wait(60)

    def go_on(self) -> Any:
        self._may_go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.outcome


@contextmanager
def waiting(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """``work`` on a thread, which waits for an object's lock while the block runs; its outcome, afterwards."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(somebody_waits_for_an_object, what="the other one to wait")
    yield outcome
    thread.join(60)
    assert not thread.is_alive()


def somebody_waits_for_an_object() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            """ AND query LIKE 'SELECT%FROM "stored_objects"%FOR UPDATE%'"""
        )
        return bool(cursor.fetchone()[0])


def thrown_away(upload: AudioUpload) -> AudioUpload:
    upload.refresh_from_db()
    delete_upload(upload, actor=None)
    return upload


def purge(upload: AudioUpload) -> None:
    purge_upload(AudioUpload.objects.get(pk=upload.pk), actor=None)


def content_of(upload: AudioUpload) -> bytes:
    upload.refresh_from_db()
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as file:
        return file.read()


# A duplicate and a purge


def test_a_purge_waits_for_a_duplicate_that_is_about_to_share_the_object(workspace: Workspace) -> None:
    """Promise 8. The duplicate has found the object whole and has its row; then the purge comes."""
    first, second = complete(workspace), arrived(workspace)
    keeper = complete(workspace)
    thrown_away(first)
    deciding = Stopped(lambda: process_upload(str(second.pk)), 'SET "status" = %s, "processing_started_at"')
    with waiting(lambda: (purge(first), purge(thrown_away(keeper)))):
        assert deciding.go_on() is True
    assert content_of(second) == make_wav()
    assert second.storage_path == first.storage_path
    assert set(AudioUpload.objects.values_list("pk", flat=True)) == {second.pk}
    assert_books_balance(workspace)


def test_a_duplicate_that_comes_while_a_purge_decides_keeps_its_own_object(workspace: Workspace) -> None:
    """Promise 8. The object was read and found whole, and is as good as gone when it is to be shared."""
    first = complete(workspace)
    second = arrived(workspace)
    opened = Stopped(lambda: process_upload(str(second.pk)), LOCKED)
    thrown_away(first)
    purging = Stopped(lambda: purge(first), 'SET "state" = ')
    with waiting(opened.go_on):
        purging.go_on()
    assert content_of(second) == make_wav()
    assert (second.status, second.duplicate_of) == (Status.COMPLETED, None)
    assert stored_names() == {second.storage_path}
    assert_books_balance(workspace)


# A move and a purge


@pytest.fixture
def other(settings: Any, tmp_path: Path) -> str:
    settings.STORAGES = {
        **settings.STORAGES,
        "other": {**settings.STORAGES["local"], "OPTIONS": {"location": tmp_path / "other"}},
    }
    return "other"


def moved(source: str, target: str) -> list[Outcome]:
    return [result.outcome for result in StorageMove(source, target).run()]


def test_a_purge_that_comes_while_a_move_switches_takes_the_copy(workspace: Workspace, other: str) -> None:
    """Promise 7, Promise 8. The move has the object's row and is about to switch its owners."""
    first, second = complete(workspace), complete(workspace)
    thrown_away(first)
    thrown_away(second)
    moving = Stopped(lambda: moved("local", other), OWNERS_CHANGE)
    with waiting(lambda: purge(first)):
        assert moving.go_on() == [Outcome.MOVED]
    purge(second)
    assert names_in(other) == set()
    assert not AudioUpload.objects.exists()
    assert_ledger_agrees()


def test_a_move_that_comes_while_a_purge_decides_leaves_nothing_behind(workspace: Workspace, other: str) -> None:
    """Promise 7, Promise 8. The copy is made, and its object is being purged when it is to be switched."""
    upload = thrown_away(complete(workspace))
    moving = Stopped(lambda: moved("local", other), LOCKED)
    purging = Stopped(lambda: purge(upload), 'SET "state" = ')
    with waiting(moving.go_on):
        purging.go_on()
    assert moving.outcome == [Outcome.GONE]
    assert names_in(other) == stored_names() == set()
    assert not StoredObject.objects.exists()


# The sweep of orphaned objects and a slow upload


def test_the_sweep_spares_the_object_of_an_upload_that_is_about_to_say_that_it_arrived(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 9. The object has lain there for two days when the last commit comes."""
    owner = UserFactory()
    arriving = Stopped(
        lambda: ingest_audio(Bytes(make_wav()), workspace=workspace, owner=owner, door="test"),
        'UPDATE "stored_objects" SET "written_at" = ',
    )
    age_all(audio_root)
    end_grace_periods()
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    upload = arriving.go_on()
    assert content_of(upload) == make_wav()
    assert_books_balance(workspace)


def test_an_upload_that_was_taken_back_while_it_wrote_is_told_so_and_leaves_nothing(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 2. Its row is gone, and its object is young: the grace period of that begins anew."""
    owner = UserFactory()
    arriving = Stopped(
        lambda: ingest_audio(Bytes(make_wav()), workspace=workspace, owner=owner, door="test"),
        'FROM "storage_quotas"',
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE quota_reservations SET expires_at = %s", [ago(hours=1)])
    assert sweep_stale_reservations()["abandoned"] == 1
    end_grace_periods()
    assert sweep_orphaned_objects()["removed"] == 0
    assert StoredObject.objects.get().unneeded_since > ago(hours=1)
    assert isinstance(arriving.go_on(), UploadTakenBack)
    assert stored_names() == set()
    assert not StoredObject.objects.exists()

"""One action on many files: an outcome for each, once, whoever dies meanwhile."""

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError, connection
from django.utils import timezone, translation

from quotas.models import Workspace
from quotas.reservations import change_quota
from tests.api.rows import store_upload
from tests.audio import make_wav
from tests.factories import operator
from tests.quotas.threads import at_once
from tests.uploads.life import actions, arrive, assert_books_balance, new_workspace, row, stored_names
from uploads.actions import bulk, file_actions
from uploads.actions.base import BulkFileAction, Outcome
from uploads.actions.bulk import TooManyFiles, preview, run_bulk_action, start
from uploads.actions.holds import HOLD, RELEASE
from uploads.actions.retry import RETRY
from uploads.actions.trash import DELETE, PURGE, UNDELETE
from uploads.actions.verify import VERIFY
from uploads.lifecycle import trash, work
from uploads.models import AudioUpload, BulkAction, BulkActionItem, Status, UploadEvent
from uploads.upkeep import sweeps

pytestmark = pytest.mark.django_db(transaction=True)
IN_TRANSACTION = [action for action in file_actions() if not action.reads_object]


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


def chosen(*uploads: AudioUpload) -> Any:
    return AudioUpload.objects.filter(pk__in=[upload.pk for upload in uploads])


def outcomes(bulk_action: BulkAction) -> list[tuple[str, str]]:
    return list(bulk_action.items.order_by("name", "id").values_list("outcome", "message"))


def in_states(workspace: Workspace) -> list[AudioUpload]:
    """A row in each state that there is, and one on hold."""
    rows = [row(workspace, status, original_filename=f"{status}.wav") for status in Status]
    return [*rows, row(workspace, Status.COMPLETED, legal_hold=True)]


# What it would do, and what it does


@pytest.mark.parametrize("action", IN_TRANSACTION, ids=lambda action: action.name)
def test_what_the_preview_says_is_what_happens(action: BulkFileAction) -> None:
    files = in_states(new_workspace(current_file_count=100, current_storage_bytes=100_000))
    with_room = preview(action, chosen(*files))
    allowed = [action.is_possible(status=file.status, legal_hold=file.legal_hold) for file in files]
    done = [action.apply(file, actor=None).done for file in files]
    assert done == allowed
    assert (with_room.total, with_room.possible, with_room.refused) == (
        len(files),
        sum(done),
        len(files) - sum(done),
    )


def test_a_refusal_is_an_outcome_with_words(workspace: Workspace) -> None:
    held = row(workspace, Status.COMPLETED, legal_hold=True, original_filename="held.wav")
    outcome = DELETE.apply(held, actor=None)
    assert (outcome.upload_id, outcome.name, outcome.done) == (held.pk, "held.wav", False)
    assert "legal hold" in outcome.message
    again = HOLD.apply(held, actor=None)
    assert (again.done, again.message) == (False, "It is on hold already.")


@pytest.mark.parametrize("action", IN_TRANSACTION, ids=lambda action: action.name)
def test_a_file_that_went_meanwhile_is_refused_in_words(action: BulkFileAction, workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED, legal_hold=action == RELEASE)
    AudioUpload.objects.all().delete()
    outcome = action.apply(upload, actor=None)
    assert not outcome.done and outcome.message


def test_a_full_quota_is_told_file_by_file(workspace: Workspace) -> None:
    files = [store_upload(workspace, status=Status.DELETED, original_filename=f"{number}.mp3") for number in range(3)]
    change_quota(workspace, changes={"max_file_count": 2})
    done = start(UNDELETE, chosen(*files).order_by("original_filename"), actor=operator())
    assert [outcome for outcome, _ in outcomes(done)] == ["done", "done", "refused"]
    assert "max_file_count" in outcomes(done)[2][1] or "file" in outcomes(done)[2][1]
    assert (done.done, done.refused, done.waiting) == (2, 1, 0)
    assert_books_balance(workspace)


def test_actor_and_reason_stand_in_each_files_history(workspace: Workspace) -> None:
    actor = operator()
    files = [arrive(workspace) for _ in range(2)]
    start(HOLD, chosen(*files), actor=actor, reason="Case 12")
    events = UploadEvent.objects.filter(action="held")
    assert {(event.upload_id, event.actor, event.reason) for event in events} == {
        (file.pk, actor, "Case 12") for file in files
    }


def test_a_selection_that_is_too_large_is_refused_and_leaves_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_FILES", 2)
    files = [row(workspace, Status.COMPLETED) for _ in range(3)]
    for attempt in (
        partial(preview, DELETE, chosen(*files)),
        partial(start, DELETE, chosen(*files), actor=operator()),
    ):
        with pytest.raises(TooManyFiles) as refusal:
            attempt()
        assert refusal.value.members == {"files_allowed": 2}
        assert "at most 2 files" in refusal.value.detail
    assert not BulkAction.objects.exists() and not BulkActionItem.objects.exists()


# Now, or as a task


def test_a_few_files_are_done_while_the_person_waits(workspace: Workspace, sent: list[tuple[str, ...]]) -> None:
    files = [arrive(workspace, make_wav(seed=number)) for number in range(3)]
    sent.clear()
    done = start(DELETE, chosen(*files), actor=operator(), reason="spring cleaning")
    assert (done.total, done.done, done.refused) == (3, 3, 0)
    assert done.started_at and done.finished_at
    assert sent == []
    assert not AudioUpload.objects.listed().exists()


def test_many_files_are_sent_as_a_task_with_the_commit(workspace: Workspace, sent: list[tuple[str, ...]]) -> None:
    """Promise 30. What is to be done is in the database before anybody is told to do it."""
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 1)]
    waiting = start(RETRY, chosen(*files), actor=operator())
    assert sent == [("uploads.tasks.run_bulk_action", str(waiting.pk))]
    assert (waiting.waiting, waiting.started_at, waiting.finished_at) == (len(files), None, None)
    run_bulk_action(str(waiting.pk))
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused) == (len(files), 0)
    assert waiting.finished_at


def test_purging_takes_the_objects_too(workspace: Workspace) -> None:
    files = [arrive(workspace, make_wav(seed=number)) for number in range(3)]
    for file in files:
        trash.delete_upload(file, actor=None)
    done = start(PURGE, chosen(*files), actor=operator())
    assert done.done == 3
    assert stored_names() == set() and not AudioUpload.objects.exists()
    assert set(done.items.values_list("upload_id", flat=True)) == {file.pk for file in files}
    assert_books_balance(workspace)


def test_outcomes_are_written_in_the_language_of_who_asked(workspace: Workspace) -> None:
    file = row(workspace, Status.COMPLETED)
    with translation.override("de"):
        done = start(RETRY, chosen(file), actor=operator())
    assert done.language == "de"


def test_a_slice_ends_and_the_task_goes_on_behind_the_others(
    workspace: Workspace, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 1)]
    waiting = start(RETRY, chosen(*files), actor=operator())
    sent.clear()
    monkeypatch.setattr(bulk, "SLICE_SECONDS", -1)
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.finished_at) == (1, None)
    assert ("uploads.tasks.run_bulk_action", str(waiting.pk)) in sent


def test_an_action_that_no_app_declares_any_more_is_refused_in_words(workspace: Workspace) -> None:
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 1)]
    waiting = start(RETRY, chosen(*files), actor=operator())
    BulkAction.objects.update(action="transmogrify")
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert set(outcomes(waiting)) == {("refused", "There is no such action.")}
    assert (waiting.refused, str(waiting)) == (len(files), "transmogrify") and waiting.finished_at


# Verifying, which reads whole objects


def test_verifying_is_a_task_however_few_the_files_are(
    workspace: Workspace, audio_root: Path, sent: list[tuple[str, ...]]
) -> None:
    whole, damaged, lost = [arrive(workspace, make_wav(seed=number), filename=f"{number}.wav") for number in range(3)]
    (audio_root / damaged.storage_path).write_bytes(b"x" * damaged.file_size)
    (audio_root / lost.storage_path).unlink()
    sent.clear()
    waiting = start(VERIFY, chosen(whole, damaged, lost), actor=operator())
    assert sent == [("uploads.tasks.run_bulk_action", str(waiting.pk))]
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused) == (1, 2)
    assert waiting.finished_at
    assert [outcome for outcome, _ in outcomes(waiting)] == ["done", "refused", "refused"]
    whole.refresh_from_db()
    assert whole.verified_at
    assert [actions(file)[-1] for file in (whole, damaged, lost)] == ["verified", "found_damaged", "found_missing"]


@pytest.mark.race
def test_four_workers_read_each_object_once(workspace: Workspace) -> None:
    """Promise 33. While one reads, the others take the next file, and no transaction is open."""
    files = [arrive(workspace, make_wav(seed=number)) for number in range(8)]
    waiting = start(VERIFY, chosen(*files), actor=operator())
    assert at_once(*[partial(run_bulk_action, waiting.pk)] * 4) == [None] * 4
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused) == (8, 0)
    assert waiting.finished_at
    assert [actions(file) for file in files] == [["uploaded", "verified"]] * 8


def test_a_file_that_a_dead_worker_was_reading_is_read_by_another_after_a_while(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 31."""
    files = [arrive(workspace, make_wav(seed=number)) for number in range(2)]
    waiting = start(VERIFY, chosen(*files), actor=operator())

    class Killed(BaseException):
        pass

    def die(*args: Any, **given: Any) -> None:
        assert not connection.in_atomic_block
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(VERIFY, "run", die)
        run_bulk_action(waiting.pk)
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.finished_at) == (1, None), "the other may still be read"
    BulkActionItem.objects.update(claimable_at=timezone.now() - timedelta(seconds=1))
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused) == (2, 0)
    assert waiting.finished_at
    assert [actions(file) for file in files] == [["uploaded", "verified"]] * 2


def test_a_file_that_is_being_read_calls_no_other_worker(workspace: Workspace, sent: list[tuple[str, ...]]) -> None:
    """Promise 31. One more would come with each minute, until all of them read and none does anything else."""
    files = [arrive(workspace, make_wav(seed=number)) for number in range(2)]
    waiting = start(VERIFY, chosen(*files), actor=operator())
    long_ago = timezone.now() - timedelta(hours=1)
    BulkAction.objects.update(active_at=long_ago)
    in_hand = waiting.items.first()
    assert in_hand
    BulkActionItem.objects.filter(pk=in_hand.pk).update(claimable_at=timezone.now() + timedelta(minutes=20))
    sent.clear()
    assert sweeps.sweep_stale_work()["sent_again"] == 0
    BulkActionItem.objects.filter(pk=in_hand.pk).update(claimable_at=long_ago)
    assert sweeps.sweep_stale_work()["sent_again"] == 1
    assert sent == [("uploads.tasks.run_bulk_action", str(waiting.pk))]


def test_a_file_that_takes_too_long_to_read_is_refused_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = start(VERIFY, chosen(arrive(workspace)), actor=operator())

    def too_slow(*args: Any, **given: Any) -> None:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(VERIFY, "run", too_slow)
    run_bulk_action(waiting.pk)
    assert outcomes(waiting) == [("refused", "It could not be read within 3600 seconds.")]


# Deaths, and two at once


@pytest.mark.race
def test_a_task_that_runs_four_times_at_once_does_each_file_once(workspace: Workspace) -> None:
    """Promise 33. Each file has one event and one outcome, and the counters say so."""
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 10)]
    waiting = start(RETRY, chosen(*files), actor=operator())
    assert at_once(*[partial(run_bulk_action, waiting.pk)] * 4) == [None] * 4
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused) == (len(files), 0)
    assert waiting.finished_at
    assert [actions(file) for file in files] == [["retried"]] * len(files)
    run_bulk_action(waiting.pk)
    assert UploadEvent.objects.count() == len(files)


def test_a_worker_that_dies_half_way_is_followed_by_another(
    workspace: Workspace, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 31. What it did is written down; the file it had in hand is as it was; the rest is done later."""
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 1)]
    waiting = start(RETRY, chosen(*files), actor=operator())
    write_down = bulk._store_outcome

    class Killed(BaseException):
        pass

    def die_at_the_third(item: BulkActionItem, outcome: Outcome) -> None:
        if BulkActionItem.objects.filter(outcome="done").count() == 2:
            raise Killed
        write_down(item, outcome)

    monkeypatch.setattr(bulk, "_store_outcome", die_at_the_third)
    with pytest.raises(Killed):
        run_bulk_action(waiting.pk)
    assert UploadEvent.objects.filter(action="retried").count() == 2
    monkeypatch.setattr(bulk, "_store_outcome", write_down)
    sent.clear()
    sweeps.sweep_stale_work()
    assert sent == [], "somebody may still be at it"
    BulkAction.objects.update(active_at=timezone.now() - timedelta(minutes=2))
    assert sweeps.sweep_stale_work()["sent_again"] == 1
    assert sent == [("uploads.tasks.run_bulk_action", str(waiting.pk))]
    assert sweeps.sweep_stale_work()["sent_again"] == 0, "it was sent a moment ago"
    run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.waiting) == (len(files), 0)
    assert [actions(file) for file in files] == [["retried"]] * len(files)
    BulkAction.objects.update(active_at=timezone.now() - timedelta(minutes=2))
    assert sweeps.sweep_stale_work()["sent_again"] == 0, "it is finished"


def test_one_file_that_breaks_the_code_does_not_end_what_is_done_to_the_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Promise 32. It is refused with a reason, and nothing of it is left in the database."""
    files = [arrive(workspace, make_wav(seed=number), filename=f"{number}.wav") for number in range(3)]
    count_out = trash.count_out

    def break_at_the_second(workspace_id: Any, **given: Any) -> None:
        count_out(workspace_id, **given)
        if AudioUpload.objects.filter(status=Status.DELETED).count() == 2:
            raise RuntimeError("a fault of ours")

    monkeypatch.setattr(trash, "count_out", break_at_the_second)
    done = start(DELETE, chosen(*files).order_by("original_filename"), actor=operator())
    assert [outcome for outcome, _ in outcomes(done)] == ["done", "refused", "refused"]
    assert "unexpected" in outcomes(done)[1][1]
    assert (done.done, done.refused) == (1, 2)
    assert actions(files[1]) == ["uploaded"]
    assert_books_balance(workspace)


def test_a_database_that_goes_away_refuses_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files wait for the next worker: it was no fault of theirs."""
    files = [row(workspace, Status.FAILED) for _ in range(bulk.AT_ONCE + 1)]
    waiting = start(RETRY, chosen(*files), actor=operator())

    def gone(*args: Any, **given: Any) -> None:
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(work, "move", gone)
    with pytest.raises(OperationalError):
        run_bulk_action(waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.done, waiting.refused, waiting.finished_at) == (0, 0, None)

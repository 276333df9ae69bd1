"""The states of a file and the moves between them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from audiotricks.errors import NotFound
from quotas.models import Workspace
from tests.factories import UserFactory, client_for, operator
from tests.quotas.threads import at_once, kinds
from tests.uploads.life import actions, actual, arrive, assert_books_balance, complete, counted, row
from uploads.actions.edits import RENAME
from uploads.actions.holds import set_legal_hold
from uploads.lifecycle import work
from uploads.lifecycle.transitions import OnLegalHold, TransitionRefused, move
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.lifecycle.work import fail_upload, give_back, holder_of, retry_upload, take_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.processing.runner import complete as complete_upload
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

#: The table of the design, written a second time.
ALLOWED = {
    "receiving": {"uploaded"},
    "uploaded": {"validating", "failed", "deleted"},
    "validating": {"processing", "uploaded", "failed", "deleted"},
    "processing": {"completed", "uploaded", "failed", "deleted"},
    "failed": {"uploaded", "deleted"},
    "completed": {"archiving", "deleted"},
    "archiving": {"archived", "completed"},
    "archived": {"restoring", "deleted"},
    "restoring": {"completed", "archived"},
    "deleted": {"completed", "archived", "failed", "uploaded", "purged"},
    "purged": set(),
}
TIMES = {
    "uploaded": "uploaded_at",
    "validating": "validation_started_at",
    "processing": "processing_started_at",
    "completed": "processing_completed_at",
    "failed": "failed_at",
    "archiving": "archiving_started_at",
    "archived": "archived_at",
    "restoring": "restoring_started_at",
    "deleted": "deleted_at",
    "purged": "purged_at",
}


@pytest.mark.parametrize("seen", Status.values)
def test_a_file_goes_where_the_table_says_and_nowhere_else(workspace: Workspace, seen: str) -> None:
    actor = UserFactory()
    for to in Status.values:
        upload = row(workspace, Status(seen))
        began = timezone.now()
        if to in ALLOWED[seen]:
            move(upload, Status(to), "moved", actor=actor, reason="because", details={"a": 1})
            stored = AudioUpload.objects.get(pk=upload.pk)
            assert stored.status == upload.status == to
            assert getattr(stored, TIMES[to]) is not None
            event = UploadEvent.objects.get(upload_id=upload.pk)
            assert (event.action, event.from_status, event.to_status) == ("moved", seen, to)
            assert (event.actor, event.reason, event.details) == (actor, "because", {"a": 1})
            assert event.workspace == workspace and began <= event.created_at <= timezone.now()
        else:
            with pytest.raises(TransitionRefused) as refused:
                move(upload, Status(to), "moved")
            assert (refused.value.status, refused.value.code) == (409, "state_conflict")
            assert refused.value.members == {"state": seen, "allowed": sorted(ALLOWED[seen])}
            assert AudioUpload.objects.get(pk=upload.pk).status == seen
            assert actions(upload) == []


def test_each_state_has_its_time_and_the_first_arrival_keeps_its_own(workspace: Workspace) -> None:
    long_ago = timezone.now() - timedelta(days=300)
    upload = row(workspace, Status.FAILED, uploaded_at=long_ago, failed_at=long_ago)
    move(upload, Status.UPLOADED, "retried")
    assert upload.uploaded_at == long_ago
    move(upload, Status.FAILED, "failed")
    assert upload.failed_at and upload.failed_at > long_ago

    restored = row(workspace, Status.DELETED, uploaded_at=long_ago, processing_completed_at=long_ago)
    move(restored, Status.COMPLETED, "undeleted")
    assert (restored.uploaded_at, restored.processing_completed_at) == (long_ago, long_ago)


def test_a_move_narrowed_by_its_caller_or_by_a_condition_is_refused(workspace: Workspace) -> None:
    upload = row(workspace, Status.UPLOADED)
    with pytest.raises(TransitionRefused):
        move(upload, Status.FAILED, "failed", only_from=frozenset({Status.VALIDATING}))
    with pytest.raises(TransitionRefused):
        move(upload, Status.FAILED, "failed", only_if={"retry_count": 7})
    assert AudioUpload.objects.get().status == Status.UPLOADED
    assert actions(upload) == []


def test_a_stale_row_in_memory_is_looked_at_again(workspace: Workspace) -> None:
    upload = row(workspace, Status.UPLOADED)
    stale = AudioUpload.objects.get(pk=upload.pk)
    move(upload, Status.FAILED, "failed")
    move(stale, Status.DELETED, "deleted")
    event = UploadEvent.objects.get(action="deleted")
    assert (event.from_status, stale.status) == (Status.FAILED, Status.DELETED)


def test_a_row_that_is_gone_is_not_found(workspace: Workspace) -> None:
    upload = row(workspace, Status.UPLOADED)
    AudioUpload.objects.all().delete()
    with pytest.raises(NotFound):
        move(upload, Status.DELETED, "deleted")
    with pytest.raises(NotFound):
        RENAME.run(upload, actor=None, name="other.wav")


# The diary


def test_every_change_is_in_the_diary_with_whoever_made_it(workspace: Workspace) -> None:
    owner, other = UserFactory(), UserFactory()
    upload = arrive(workspace, owner=owner)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    RENAME.run(upload, actor=other, name="new.wav")
    RENAME.run(upload, actor=other, name="new.wav")
    set_legal_hold(upload, held=True, actor=other, reason="a case")
    set_legal_hold(upload, held=True, actor=other)
    set_legal_hold(upload, held=False, actor=owner)
    delete_upload(upload, actor=other, reason="old")
    undelete_upload(upload, actor=owner)
    delete_upload(upload, actor=None, reason="by itself")
    purge_upload(upload, actor=owner)

    assert not AudioUpload.objects.exists()
    told = UploadEvent.objects.filter(upload_id=upload.pk)
    assert list(told.values_list("action", "from_status", "to_status", "actor", "reason")) == [
        ("uploaded", "receiving", "uploaded", owner.pk, ""),
        ("validating", "uploaded", "validating", None, ""),
        ("processing", "validating", "processing", None, ""),
        ("step_done", "", "", None, ""),
        ("completed", "processing", "completed", None, ""),
        ("renamed", "", "", other.pk, ""),
        ("held", "", "", other.pk, "a case"),
        ("released", "", "", owner.pk, ""),
        ("deleted", "completed", "deleted", other.pk, "old"),
        ("undeleted", "deleted", "completed", owner.pk, ""),
        ("deleted", "completed", "deleted", None, "by itself"),
        ("purged", "deleted", "purged", owner.pk, ""),
    ]
    assert told[5].details == {"from": "tone.wav", "to": "new.wav"}


def test_a_failure_and_its_retry_are_in_the_diary(workspace: Workspace) -> None:
    actor = UserFactory()
    upload = arrive(workspace)
    fail_upload(upload, error_code="truncated_audio", reason="It ends early.")
    retry_upload(upload, actor=actor)
    failed, retried = UploadEvent.objects.filter(upload_id=upload.pk, action__in=("failed", "retried"))
    assert (failed.reason, failed.details, failed.actor) == ("It ends early.", {"error_code": "truncated_audio"}, None)
    assert (retried.from_status, retried.to_status, retried.actor) == ("failed", "uploaded", actor)
    assert (upload.error_code, upload.error_message, upload.retry_count) == ("", "", 0)


def test_a_change_that_is_rolled_back_is_not_told(workspace: Workspace) -> None:
    upload = complete(workspace)
    before = actions(upload)
    with pytest.raises(RuntimeError), transaction.atomic():
        delete_upload(upload, actor=None)
        raise RuntimeError
    assert AudioUpload.objects.get().status == Status.COMPLETED
    assert actions(upload) == before
    assert_books_balance(workspace)


# Legal hold


def test_a_file_on_hold_is_neither_deleted_nor_purged(workspace: Workspace) -> None:
    upload = complete(workspace)
    set_legal_hold(upload, held=True, actor=None)
    with pytest.raises(OnLegalHold) as refused:
        delete_upload(upload, actor=None)
    assert (refused.value.status, refused.value.code) == (409, "legal_hold")
    assert AudioUpload.objects.get().status == Status.COMPLETED
    assert_books_balance(workspace)

    staff = client_for(operator())
    answer = staff.delete(f"/api/v1/uploads/{upload.pk}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "legal_hold")

    set_legal_hold(upload, held=False, actor=None)
    assert staff.delete(f"/api/v1/uploads/{upload.pk}/").status_code == 204


def test_a_hold_that_came_while_the_row_was_in_memory_is_seen(workspace: Workspace) -> None:
    upload = complete(workspace)
    stale = AudioUpload.objects.get()
    set_legal_hold(upload, held=True, actor=None)
    with pytest.raises(OnLegalHold):
        delete_upload(stale, actor=None)


def test_the_database_itself_keeps_a_held_file_out_of_the_trash(workspace: Workspace) -> None:
    upload = complete(workspace)
    set_legal_hold(upload, held=True, actor=None)
    for status in (Status.DELETED, Status.PURGED):
        with pytest.raises(IntegrityError), transaction.atomic():
            AudioUpload.objects.update(status=status)


def test_a_file_in_the_trash_cannot_be_put_on_hold(workspace: Workspace) -> None:
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    with pytest.raises(TransitionRefused):
        set_legal_hold(upload, held=True, actor=None)
    assert not AudioUpload.objects.get().legal_hold


# Races


def fresh(upload: AudioUpload) -> AudioUpload:
    return AudioUpload.objects.get(pk=upload.pk)


def each_with_its_own(upload: AudioUpload, *calls: Callable[[AudioUpload], Any]) -> list[Any]:
    rows = [fresh(upload) for _ in calls]
    return at_once(*[lambda call=call, mine=mine: call(mine) for call, mine in zip(calls, rows, strict=True)])


@pytest.mark.race
def test_one_of_many_workers_gets_the_file(workspace: Workspace) -> None:
    upload = arrive(workspace)
    claims = at_once(*[lambda: take_upload(str(upload.pk))] * 12)
    assert sum(claim is not None for claim in claims) == 1
    assert actions(upload) == ["uploaded", "validating"]


@pytest.mark.race
def test_deleting_twice_at_once_counts_out_once(workspace: Workspace) -> None:
    upload = complete(workspace)
    outcomes = each_with_its_own(upload, *[lambda mine: delete_upload(mine, actor=None)] * 8)
    assert kinds(outcomes) == {"NoneType": 1, "TransitionRefused": 7}
    assert actions(upload).count("deleted") == 1
    assert counted(workspace) == (0, 0, 0, 0)


@pytest.mark.race
def test_undeleting_twice_at_once_counts_in_once(workspace: Workspace) -> None:
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    outcomes = each_with_its_own(upload, *[lambda mine: undelete_upload(mine, actor=None)] * 8)
    assert kinds(outcomes) == {"NoneType": 1, "TransitionRefused": 7}
    assert_books_balance(workspace)


@pytest.mark.race
def test_undelete_and_purge_at_once_leave_a_whole_file_or_none(workspace: Workspace) -> None:
    """Promise 7. Whichever was first, no row is without its object and no object without its row."""
    for _ in range(10):
        upload = complete(workspace)
        delete_upload(upload, actor=None)
        outcomes = each_with_its_own(
            upload, lambda mine: undelete_upload(mine, actor=None), lambda mine: purge_upload(mine, actor=None)
        )
        assert sum(outcome is None for outcome in outcomes) == 1
        assert_books_balance(workspace)
        for left in AudioUpload.objects.all():
            delete_upload(left, actor=None)
            purge_upload(left, actor=None)


@pytest.mark.race
def test_hold_and_delete_at_once_never_end_in_both(workspace: Workspace) -> None:
    for _ in range(10):
        upload = complete(workspace)
        each_with_its_own(
            upload,
            lambda mine: set_legal_hold(mine, held=True, actor=None),
            lambda mine: delete_upload(mine, actor=None),
        )
        after = fresh(upload)
        assert after.legal_hold != (after.status == Status.DELETED)
        assert counted(workspace) == actual(workspace)


@pytest.mark.race
def test_a_file_deleted_while_it_is_processed_stays_deleted(workspace: Workspace) -> None:
    for _ in range(10):
        upload = arrive(workspace)
        each_with_its_own(
            upload, lambda mine: process_upload(str(mine.pk)), lambda mine: delete_upload(mine, actor=None)
        )
        assert fresh(upload).status == Status.DELETED
        assert actions(upload).count("deleted") == 1
        assert_books_balance(workspace)


# Claims


@pytest.fixture
def taken_over(workspace: Workspace) -> tuple[AudioUpload, AudioUpload]:
    """A file as the worker sees it that lost it, and as the one that has it now. Both are ``validating``."""
    upload = arrive(workspace)
    lost = take_upload(str(upload.pk))
    assert lost is not None
    give_back(fresh(upload), error_code="worker_lost", reason="lost")
    now_has_it = take_upload(str(upload.pk))
    assert now_has_it is not None
    return lost, now_has_it


@pytest.mark.parametrize(
    "act",
    [
        lambda lost: fail_upload(lost, error_code="x", reason="y", only_if=holder_of(lost)),
        lambda lost: give_back(lost, error_code="x", reason="y", only_if=holder_of(lost)),
        complete_upload,
    ],
)
def test_a_worker_that_lost_its_file_no_longer_moves_it(
    taken_over: tuple[AudioUpload, AudioUpload], act: Callable[[AudioUpload], None]
) -> None:
    """Promise 31. What a worker does after its claim was given to another has no effect."""
    lost, now_has_it = taken_over
    before = actions(lost)
    with pytest.raises(TransitionRefused):
        act(lost)
    stored = fresh(now_has_it)
    assert (stored.status, stored.retry_count, stored.claimable_at) == (
        Status.VALIDATING,
        1,
        now_has_it.claimable_at,
    )
    assert actions(lost) == before


def test_a_claim_counts_the_retries_and_not_the_first_try(workspace: Workspace) -> None:
    upload = arrive(workspace)
    for retries in range(3):
        claimed = take_upload(str(upload.pk))
        assert claimed is not None and claimed.retry_count == retries
        give_back(claimed, error_code="x", reason="y", only_if=holder_of(claimed))
    claimed = take_upload(str(upload.pk))
    assert claimed is not None and claimed.retry_count == claimed.max_retries == 3
    give_back(claimed, error_code="x", reason="It took the last one.", only_if=holder_of(claimed))
    assert (claimed.status, claimed.error_message) == (Status.FAILED, "It took the last one.")


def test_a_file_that_pauses_is_not_claimed_before_its_time(workspace: Workspace) -> None:
    upload = arrive(workspace)
    claimed = take_upload(str(upload.pk))
    assert claimed is not None
    give_back(claimed, error_code="x", reason="y", wait=timedelta(hours=1))
    assert take_upload(str(upload.pk)) is None
    AudioUpload.objects.update(claimable_at=Now())
    assert take_upload(str(upload.pk)) is not None


def test_a_file_is_given_back_with_its_task_and_without_one_when_it_pauses(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 34. A pause is a time in the row, which a sweep ends; nothing waits inside the broker."""
    sent: list[Any] = []
    monkeypatch.setattr(work, "send_on_commit", lambda name, pk: sent.append((name, pk)))
    for wait in (timedelta(), timedelta(seconds=10)):
        upload = arrive(workspace)
        claimed = take_upload(str(upload.pk))
        assert claimed is not None
        give_back(claimed, error_code="x", reason="y", wait=wait)
    (task,) = sent
    assert task[0] == "uploads.tasks.process_upload" and task[1] != upload.pk

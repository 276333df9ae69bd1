"""What a worker does with a file: steps once each, retries with pauses, failures with their reasons."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from audiotricks.plug import processing_steps
from objectstore.errors import PermanentStorageError, TransientStorageError
from quotas.models import Workspace
from tests.audio import audio_bytes
from tests.plugging import steps_of
from tests.servers import wait_until
from tests.uploads.life import actions, arrive, assert_books_balance, complete, steps, validating_only
from uploads.lifecycle.trash import delete_upload, undelete_upload
from uploads.lifecycle.work import give_back, lease_of, retry_upload, take_upload
from uploads.models import AudioUpload, UploadEvent
from uploads.processing.runner import pause_before, process_upload
from uploads.processing.steps import StepResult
from uploads.upkeep.sweeps import sweep_stale_work

pytestmark = pytest.mark.django_db(transaction=True)

PROCESS_TASK = "uploads.tasks.process_upload"


# Steps of the tests, by their dotted paths

ran: list[str] = []
trouble: dict[str, Exception] = {}


def first(upload: AudioUpload) -> StepResult:
    return step("first", upload)


def second(upload: AudioUpload) -> StepResult:
    return step("second", upload)


def third(upload: AudioUpload) -> StepResult:
    return step("third", upload)


def step(name: str, upload: AudioUpload) -> StepResult:
    ran.append(name)
    if name in trouble:
        raise trouble[name]
    return StepResult(columns={"metadata": {**upload.metadata, name: True}}, details={"said": name})


FIRST, SECOND, THIRD = (f"{__name__}.{name}" for name in ("first", "second", "third"))


@pytest.fixture
def three_steps(declare: Callable[..., None]) -> Iterator[None]:
    declare(processing_steps=steps_of(FIRST, SECOND, THIRD))
    ran.clear()
    trouble.clear()
    yield
    trouble.clear()


def let_the_pause_end(upload: AudioUpload) -> None:
    AudioUpload.objects.filter(pk=upload.pk).update(claimable_at=timezone.now() - timedelta(seconds=1))


def test_steps_run_in_order_and_each_leaves_its_columns_and_its_event(workspace: Workspace, three_steps: None) -> None:
    upload = complete(workspace)
    assert ran == ["first", "second", "third"]
    assert upload.metadata == {"first": True, "second": True, "third": True}
    told = UploadEvent.objects.filter(upload_id=upload.pk, action="step_done").values_list("details", flat=True)
    assert list(told) == [
        {"step": FIRST, "said": "first"},
        {"step": SECOND, "said": "second"},
        {"step": THIRD, "said": "third"},
    ]
    process_upload(str(upload.pk))
    assert ran == ["first", "second", "third"]


def test_follow_up_steps_are_sent_when_the_file_is_completed_and_not_before(
    workspace: Workspace, three_steps: None, declare: Callable[..., None], sent: list[tuple[str, ...]]
) -> None:
    declare(follow_up_tasks=("chunks.tasks.cut", "transcription.tasks.transcribe"))
    trouble["third"] = PermanentStorageError("broken")
    upload = arrive(workspace)
    process_upload(str(upload.pk))
    assert sent == [(PROCESS_TASK, str(upload.pk))]
    trouble.clear()
    upload.refresh_from_db()
    retry_upload(upload, actor=None)
    sent.clear()
    process_upload(str(upload.pk))
    assert sent == [("chunks.tasks.cut", str(upload.pk)), ("transcription.tasks.transcribe", str(upload.pk))]


def test_after_a_take_back_only_the_missing_steps_run(workspace: Workspace, three_steps: None) -> None:
    """Promise 31. What the lost worker had finished is not done again."""
    upload = arrive(workspace)
    trouble["second"] = TransientStorageError()
    process_upload(str(upload.pk))
    assert ran == ["first", "second"]
    trouble.clear()
    ran.clear()
    let_the_pause_end(upload)
    process_upload(str(upload.pk))
    assert ran == ["second", "third"]
    assert steps(upload) == [FIRST, SECOND, THIRD]


@pytest.mark.parametrize("again", ["retry", "undelete"])
def test_a_new_start_runs_every_step_again_with_all_retries(
    workspace: Workspace, three_steps: None, again: str
) -> None:
    upload = arrive(workspace)
    trouble["third"] = TransientStorageError()
    for _ in range(4 if again == "retry" else 2):
        process_upload(str(upload.pk))
        let_the_pause_end(upload)
    upload.refresh_from_db()
    if again == "retry":
        assert (upload.status, upload.retry_count) == ("failed", 3)
        retry_upload(upload, actor=None)
    else:
        assert (upload.status, upload.retry_count) == ("uploaded", 1)
        delete_upload(upload, actor=None)
        undelete_upload(upload, actor=None)
    assert (upload.retry_count, upload.error_code, upload.error_message) == (0, "", "")
    trouble.clear()
    ran.clear()
    process_upload(str(upload.pk))
    assert ran == ["first", "second", "third"]
    upload.refresh_from_db()
    assert (upload.status, upload.retry_count) == ("completed", 0)


def test_a_step_of_a_test_runs_behind_one_of_ours(
    workspace: Workspace, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    validating_only(monkeypatch)
    declare(processing_steps=steps_of(*processing_steps(), FIRST))
    ran.clear()
    trouble.clear()
    assert steps(complete(workspace)) == ["uploads.processing.validation.validate", FIRST]


# Faults


def test_a_passing_fault_pauses_longer_each_time_and_gives_up_after_max_retries(
    workspace: Workspace, three_steps: None, sent: list[tuple[str, ...]]
) -> None:
    """Promise 34. The pauses stand in the row; no task waits for them inside the broker."""
    upload = arrive(workspace)
    sent.clear()
    trouble["second"] = TransientStorageError("Ask again later.")
    for seconds in (10, 40, 160):
        before = timezone.now()
        process_upload(str(upload.pk))
        upload.refresh_from_db()
        assert (upload.status, upload.error_code, upload.error_message) == (
            "uploaded",
            "storage_unavailable",
            "Ask again later.",
        )
        assert timedelta(0) <= upload.claimable_at - before - timedelta(seconds=seconds) < timedelta(seconds=9)
        calls = len(ran)
        process_upload(str(upload.pk))
        assert len(ran) == calls
        let_the_pause_end(upload)
    assert sent == []
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_message, upload.retry_count) == ("failed", "Ask again later.", 3)
    assert ran.count("second") == 4


def test_a_pause_that_is_over_is_ended_by_the_sweep(
    workspace: Workspace, three_steps: None, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = arrive(workspace)
    trouble["first"] = TransientStorageError()
    process_upload(str(upload.pk))
    sent.clear()
    assert sweep_stale_work()["sent_again"] == 0
    let_the_pause_end(upload)
    assert sweep_stale_work()["sent_again"] == 1
    assert sent == [(PROCESS_TASK, str(upload.pk))]


def test_pauses_end_at_an_hour() -> None:
    assert [pause_before(attempt).total_seconds() for attempt in (1, 2, 3, 9)] == [10, 40, 160, 3600]


def test_a_lasting_fault_fails_the_file_at_once_with_its_reason(workspace: Workspace, three_steps: None) -> None:
    upload = arrive(workspace)
    trouble["second"] = PermanentStorageError("The disk is dying.")
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code, upload.error_message) == (
        "failed",
        "storage_failed",
        "The disk is dying.",
    )
    assert upload.failed_at is not None
    event = UploadEvent.objects.get(upload_id=upload.pk, action="failed")
    assert (event.reason, event.details) == ("The disk is dying.", {"error_code": "storage_failed"})


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SoftTimeLimitExceeded(), "processing_time_limit", "longer than 3600 seconds"),
        (ZeroDivisionError("secret"), "internal_error", "unexpected error"),
    ],
)
def test_what_was_not_expected_is_tried_again_and_its_words_stay_in_the_log(
    workspace: Workspace, three_steps: None, error: Exception, code: str, words: str
) -> None:
    upload = arrive(workspace)
    trouble["first"] = error
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("uploaded", code)
    assert words in upload.error_message and "secret" not in upload.error_message


@pytest.mark.parametrize(
    ("extension", "change", "code"),
    [
        ("mp3", lambda data: data[: len(data) * 3 // 5], "truncated_audio"),
        ("wav", lambda data: data[:4000], "truncated_audio"),
        ("flac", lambda data: data[:42] + random.Random(1).randbytes(9000), "undecodable_audio"),
    ],
)
def test_a_file_that_is_not_what_it_says_fails_with_its_reason(
    workspace: Workspace, extension: str, change: Callable[[bytes], bytes], code: str
) -> None:
    """Promise 41. What arrived under a right signature is decoded before it is believed."""
    upload = arrive(workspace, change(audio_bytes(extension)), filename=f"x.{extension}")
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("failed", code), upload.error_message
    assert len(upload.error_message) > 20
    assert_books_balance(workspace)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda path: path.unlink(), "object_missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "object_damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "object_damaged"),
    ],
    ids=["gone", "shorter", "one byte differs"],
)
def test_an_object_that_is_not_what_arrived_fails_the_file(
    workspace: Workspace, audio_root: Path, harm: Callable[[Path], None], code: str
) -> None:
    """Promise 1. Nothing is ``processing`` whose stored bytes do not have the hashes of what arrived."""
    upload = arrive(workspace)
    harm(audio_root / upload.storage_path)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("failed", code)
    assert "processing" not in actions(upload)


def test_a_file_deleted_meanwhile_is_left_alone(workspace: Workspace, declare: Callable[..., None]) -> None:
    declare(processing_steps=steps_of(f"{__name__}.delete_it", SECOND))
    ran.clear()
    upload = arrive(workspace)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code, ran) == ("deleted", "", [])
    assert steps(upload) == []


def delete_it(upload: AudioUpload) -> StepResult:
    delete_upload(AudioUpload.objects.get(pk=upload.pk), actor=None)
    return StepResult()


@pytest.mark.parametrize(
    "ends_with", [StepResult(columns={"codec": "old"}), ZeroDivisionError(), PermanentStorageError()]
)
def test_a_run_whose_claim_went_to_another_changes_nothing(
    workspace: Workspace, declare: Callable[..., None], ends_with: StepResult | Exception
) -> None:
    """Promise 31. The worker that was taken for dead comes back while another has the file."""
    global outcome
    outcome = ends_with
    declare(processing_steps=steps_of(f"{__name__}.lose_the_lease"))
    upload = arrive(workspace)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.retry_count, upload.codec, upload.error_code) == ("validating", 1, "", "")
    assert actions(upload) == ["uploaded", "validating", "taken_back", "validating"]


outcome: StepResult | Exception = StepResult()


def lose_the_lease(upload: AudioUpload) -> StepResult:
    give_back(AudioUpload.objects.get(pk=upload.pk), error_code="worker_lost", reason="lost")
    assert take_upload(str(upload.pk)) is not None
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def test_a_file_is_held_for_as_long_as_its_worker_runs(workspace: Workspace, settings: Any) -> None:
    """Promise 9. A file that a living worker holds is in flight, however long the work takes."""
    settings.PROCESSING_CLAIM_SECONDS = 0.2
    upload = arrive(workspace)
    taken = take_upload(str(upload.pk))
    assert taken is not None

    def moved_ahead() -> bool:
        return AudioUpload.objects.get(pk=upload.pk).claimable_at > taken.claimable_at + timedelta(seconds=0.3)

    with lease_of(taken).kept():
        wait_until(moved_ahead, what="the lease to be extended more than once")
    give_back(AudioUpload.objects.get(pk=upload.pk), error_code="worker_lost", reason="lost")
    other = take_upload(str(upload.pk))
    assert other is not None
    lost = lease_of(taken)
    with lost.kept():
        wait_until(lambda: lost.is_lost, what="the worker that lost it to notice")
    assert AudioUpload.objects.get(pk=upload.pk).claimable_at == other.claimable_at

"""Files whose worker or whose task was lost: what the sweep takes back and sends again, and what it leaves alone."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from quotas.models import Workspace
from tests.audio import make_wav
from tests.quotas.threads import at_once
from tests.uploads.life import Bytes, actions, ago, arrive, row
from uploads.intake import ingest
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.processing.runner import process_upload
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import sweep_stale_work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


def test_the_file_of_a_dead_worker_is_taken_back_and_finished_by_another(workspace: Workspace) -> None:
    """Promise 31. Its steps are finished once, by the next worker."""
    upload = arrive(workspace)
    assert take_upload(str(upload.pk))
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    assert sweep_stale_work()["taken_back"] == 1
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("uploaded", "worker_lost")
    event = UploadEvent.objects.filter(upload_id=upload.pk).last()
    assert event is not None
    assert (event.action, event.from_status, event.actor) == ("taken_back", "validating", None)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.error_code, upload.retry_count) == ("completed", "", 1)


def test_a_file_that_kills_its_worker_each_time_stops_after_its_retries(workspace: Workspace) -> None:
    """Promise 32. It is failed then, with a reason, and no task is sent for it any more."""
    upload = arrive(workspace)
    attempts = 0
    while take_upload(str(upload.pk)) is not None:
        attempts += 1
        AudioUpload.objects.update(claimable_at=ago(seconds=1))
        sweep_stale_work()
    upload.refresh_from_db()
    assert attempts == 1 + upload.max_retries
    assert (upload.status, upload.error_code) == ("failed", "worker_lost")
    assert upload.error_message == "The worker that processed the file was lost."
    AudioUpload.objects.update(claimable_at=ago(days=1))
    assert sweep_stale_work() == {"taken_back": 0, "sent_again": 0, "purges_finished": 0}


def test_the_file_of_a_living_worker_is_left_to_it(workspace: Workspace) -> None:
    """Promise 9. While its claim lasts, the file is in flight."""
    upload = arrive(workspace)
    assert take_upload(str(upload.pk))
    assert sweep_stale_work() == {"taken_back": 0, "sent_again": 0, "purges_finished": 0}


def test_a_claim_that_is_extended_while_the_sweep_looks_is_left_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. The worker was only cut off from the database for a while."""
    upload = arrive(workspace)
    assert take_upload(str(upload.pk))
    AudioUpload.objects.update(claimable_at=ago(seconds=1))
    give_back = sweeps.give_back

    def extended_meanwhile(found: AudioUpload, **given: Any) -> None:
        AudioUpload.objects.update(claimable_at=timezone.now() + timedelta(seconds=60))
        give_back(found, **given)

    monkeypatch.setattr(sweeps, "give_back", extended_meanwhile)
    assert sweep_stale_work()["taken_back"] == 0
    assert actions(upload) == ["uploaded", "validating"]


def test_a_crash_after_the_commit_is_found_and_its_task_sent_again(
    workspace: Workspace, sent: list[tuple[str, ...]]
) -> None:
    """Promise 30. The row says that there is work; a minute later the sweep believes it."""
    upload = arrive(workspace)
    sent.clear()
    assert sweep_stale_work()["sent_again"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=59))
    assert sweep_stale_work()["sent_again"] == 0
    AudioUpload.objects.update(claimable_at=ago(seconds=61))
    assert sweep_stale_work()["sent_again"] == 1
    assert sent == [("uploads.tasks.process_upload", str(upload.pk))]


def test_a_rollback_sends_no_task(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 30. A task is sent after the commit of what it is about, and never otherwise."""
    tasks_sent: list[Any] = []

    def send(name: str, args: list[Any], **options: Any) -> None:
        (seen,) = at_once(lambda: AudioUpload.objects.filter(pk=args[0], status="uploaded").exists())
        tasks_sent.append((name, args[0], seen))

    monkeypatch.setattr("audiotricks.celery.app.send_task", send)

    def refuse(upload: AudioUpload) -> None:
        raise RuntimeError("the answer could not be stored")

    with pytest.raises(RuntimeError):
        ingest.ingest_audio(
            Bytes(make_wav()), workspace=workspace, owner=arrive(workspace).owner, door="test", on_stored=refuse
        )
    assert len(tasks_sent) == 1
    tasks_sent.clear()
    with pytest.raises(RuntimeError), transaction.atomic():
        arrive(workspace, make_wav(seed=1))
        raise RuntimeError
    assert tasks_sent == []
    upload = arrive(workspace, make_wav(seed=2))
    assert tasks_sent == [("uploads.tasks.process_upload", str(upload.pk), True)]


def test_the_longest_waiting_are_sent_first_and_none_while_the_queue_is_long(
    workspace: Workspace, sent: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [ago(hours=hours) for hours in (1, 3, 2)]
    uploads = [row(workspace, Status.UPLOADED, uploaded_at=since, claimable_at=since) for since in waits]
    monkeypatch.setattr(sweeps, "waiting_tasks", lambda: sweeps.BATCH_SIZE)
    assert sweep_stale_work()["sent_again"] == 0
    monkeypatch.setattr(sweeps, "waiting_tasks", lambda: sweeps.BATCH_SIZE - 2)
    assert sweep_stale_work()["sent_again"] == 2
    assert sent == [("uploads.tasks.process_upload", str(upload.pk)) for upload in uploads[1:]]

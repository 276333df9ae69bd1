"""All tasks, each run twice and twice at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.db.models import F

from quotas.models import StorageQuota, Workspace
from tests.audio import make_wav
from tests.quotas.threads import at_once
from tests.uploads.life import (
    ORPHAN,
    ago,
    arrive,
    assert_books_balance,
    complete,
    put_orphan,
    receiving,
    stored_names,
    unneeded_object,
)
from uploads import tasks
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, UploadEvent

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]


def test_every_task_is_safe_twice_and_twice_at_once(workspace: Workspace, audio_root: Path) -> None:
    """Promise 33. One of everything that a task acts on; each is done once, and the books balance."""
    StorageQuota.objects.update(retention_days=10, auto_cleanup=True)
    waiting = arrive(workspace, make_wav(seed=1))
    expired, trashed, tombstone = (complete(workspace, make_wav(seed=seed)) for seed in (2, 3, 4))
    AudioUpload.objects.filter(pk=expired.pk).update(uploaded_at=ago(days=11))
    delete_upload(trashed, actor=None)
    AudioUpload.objects.filter(pk=trashed.pk).update(deleted_at=ago(days=31))
    delete_upload(tombstone, actor=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("uploads.lifecycle.trash.finish_purge", lambda upload: False)
        purge_upload(tombstone, actor=None)
    AudioUpload.objects.filter(pk=tombstone.pk).update(claimable_at=ago(hours=1))
    lost = arrive(workspace, make_wav(seed=5))
    assert take_upload(str(lost.pk))
    AudioUpload.objects.filter(pk=lost.pk).update(claimable_at=ago(seconds=1))
    dead = receiving(workspace, expired=True)
    put_orphan(audio_root)
    unneeded_object(ORPHAN, size_bytes=6, unneeded_since=ago(days=2))
    StorageQuota.objects.update(reserved_bytes=F("reserved_bytes") + 7)
    doors: list[Callable[[], object]] = [
        tasks.sweep_stale_reservations,
        tasks.sweep_stale_work,
        tasks.expire_uploads,
        tasks.purge_trash,
        tasks.sweep_orphaned_objects,
        tasks.recalculate_quotas,
        lambda: tasks.process_upload(str(waiting.pk)),
        lambda: tasks.process_upload(str(lost.pk)),
    ]

    for _ in range(2):
        for door in doors:
            assert not [outcome for outcome in at_once(door, door) if isinstance(outcome, Exception)]

    left = dict(AudioUpload.objects.values_list("pk", "status"))
    assert left == {waiting.pk: "completed", expired.pk: "deleted", lost.pk: "completed"}
    assert stored_names() == {upload.storage_path for upload in (waiting, expired, lost)}
    assert_books_balance(workspace)
    told = UploadEvent.objects.values_list("upload_id", "action", "to_status")
    moves = [event for event in told if event[2]]
    assert len(moves) == len(set(moves)) + 1, "only the lost file was validating twice"
    assert dead.pk not in {event[0] for event in told}

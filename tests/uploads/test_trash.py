"""Thrown away, taken back, gone for good; and what goes to the trash by itself."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from objectstore.errors import TransientStorageError
from objectstore.local import LocalStorage
from quotas.errors import QuotaExceeded
from quotas.models import Membership, StorageQuota, Workspace
from quotas.reservations import change_quota
from tests.audio import make_jpeg, make_wav
from tests.factories import UserFactory, client_for, operator
from tests.forked import Prepared
from tests.quotas.threads import at_once
from tests.uploads import dying
from tests.uploads.life import (
    actions,
    ago,
    arrive,
    assert_books_balance,
    complete,
    counted,
    new_workspace,
    row,
    stored_names,
)
from tests.uploads.staff import client_of
from uploads.actions.holds import set_legal_hold
from uploads.lifecycle.transitions import move
from uploads.lifecycle.trash import delete_upload, finish_purge, purge_upload, undelete_upload
from uploads.lifecycle.work import fail_upload, take_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects.marks import begin_grace_anew
from uploads.processing.runner import process_upload
from uploads.upkeep import sweeps
from uploads.upkeep.sweeps import expire_uploads, purge_trash, sweep_stale_work

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

SIZE = len(make_wav())


def statuses() -> dict[str, int]:
    found = list(AudioUpload.objects.values_list("status", flat=True))
    return {status: found.count(status) for status in set(found)}


# Delete and undelete


def test_a_deleted_file_is_gone_for_listeners_at_once_and_its_quota_is_free(workspace: Workspace) -> None:
    """Promise 7. Its row can still be read; its bytes cannot."""
    upload = complete(workspace, thumbnail=make_jpeg())
    staff = client_for(operator())
    address = f"/api/v1/uploads/{upload.pk}/"
    assert staff.delete(address).status_code == 204

    assert staff.get(f"{address}content/").status_code == 404
    assert staff.get(f"{address}thumbnail/").status_code == 404
    assert staff.get(address).json()["status"] == "deleted"
    assert staff.get("/api/v1/uploads/").json()["results"] == []
    (listed,) = staff.get("/api/v1/uploads/?status=deleted").json()["results"]
    assert listed["id"] == str(upload.pk)
    assert counted(workspace) == (0, 0, 0, 0)
    assert stored_names() == {upload.storage_path, upload.thumbnail_path}

    assert staff.delete(address).json()["code"] == "state_conflict"
    assert staff.post(f"{address}undelete/").json()["status"] == "completed"
    assert staff.get(f"{address}content/").getvalue() == make_wav()
    assert_books_balance(workspace)


def test_a_file_comes_back_to_where_it_was_or_to_the_nearest_safe_state_before(workspace: Workspace) -> None:
    waiting = arrive(workspace, make_wav(seed=1))
    validating = arrive(workspace, make_wav(seed=2))
    assert take_upload(str(validating.pk))
    validating.refresh_from_db()
    processing = arrive(workspace, make_wav(seed=3))
    assert take_upload(str(processing.pk))
    processing.refresh_from_db()
    move(processing, Status.PROCESSING, "processing")
    failed = arrive(workspace, make_wav(seed=4))
    fail_upload(failed, error_code="x", reason="y")
    completed = complete(workspace, make_wav(seed=5))
    archived = complete(workspace, make_wav(seed=6))
    move(archived, Status.ARCHIVING, "archiving")
    move(archived, Status.ARCHIVED, "archived")
    expected = {
        waiting: "uploaded",
        validating: "uploaded",
        processing: "uploaded",
        failed: "failed",
        completed: "completed",
        archived: "archived",
    }
    for upload, status in expected.items():
        delete_upload(upload, actor=None)
        undelete_upload(upload, actor=None)
        assert (upload.status, upload.deleted_at) == (status, None)
        if status == "uploaded":
            process_upload(str(upload.pk))
            upload.refresh_from_db()
            assert upload.status == Status.COMPLETED
    assert failed.error_message == "y"
    assert_books_balance(workspace)


def test_what_does_not_fit_any_more_stays_in_the_trash(workspace: Workspace) -> None:
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    change_quota(workspace, changes={"max_storage_bytes": SIZE - 1})
    stale = AudioUpload.objects.get()
    with pytest.raises(QuotaExceeded):
        undelete_upload(stale, actor=None)
    assert AudioUpload.objects.get().status == Status.DELETED
    assert "undeleted" not in actions(upload)
    assert counted(workspace) == (0, 0, 0, 0)

    staff = client_for(operator())
    answer = staff.post(f"/api/v1/uploads/{upload.pk}/undelete/")
    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")

    change_quota(workspace, changes={"max_storage_bytes": SIZE})
    assert staff.post(f"/api/v1/uploads/{upload.pk}/undelete/").status_code == 200
    assert_books_balance(workspace)


# Purge


def test_a_purge_takes_row_object_and_picture_and_leaves_the_diary(workspace: Workspace) -> None:
    upload = complete(workspace, thumbnail=make_jpeg())
    delete_upload(upload, actor=None)
    purge_upload(upload, actor=None)
    assert not AudioUpload.objects.exists()
    assert stored_names() == set()
    assert actions(upload)[-2:] == ["deleted", "purged"]


def test_the_row_says_purged_before_the_object_goes(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 7. Others see the tombstone by the time that the first byte is removed."""
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    seen: list[Any] = []
    delete = LocalStorage.delete

    def look_first(self: LocalStorage, name: str, **options: Any) -> None:
        seen.extend(at_once(lambda: AudioUpload.objects.get().status))
        delete(self, name, **options)

    monkeypatch.setattr(LocalStorage, "delete", look_first)
    purge_upload(upload, actor=None)
    assert seen == ["purged"]


def test_a_purge_that_is_killed_after_its_commit_is_finished_by_the_sweep(
    workspace: Workspace, prepared: Prepared
) -> None:
    """Promise 7. The process dies between the commit and the object; a tombstone stays and finishes later."""
    upload = complete(workspace, thumbnail=make_jpeg())
    delete_upload(upload, actor=None)
    killed = prepared.run(dying.purge)
    assert killed.returncode == -9, killed.stderr

    tombstone = AudioUpload.objects.get()
    assert tombstone.status == Status.PURGED
    assert stored_names() == {upload.storage_path, upload.thumbnail_path}
    staff = client_for(operator())
    assert staff.get(f"/api/v1/uploads/{upload.pk}/").status_code == 404
    assert staff.get(f"/api/v1/uploads/{upload.pk}/content/").status_code == 404

    assert sweep_stale_work()["purges_finished"] == 0
    AudioUpload.objects.update(claimable_at=timezone.now() - timedelta(seconds=61))
    assert sweep_stale_work()["purges_finished"] == 1
    assert not AudioUpload.objects.exists()
    assert stored_names() == set()


def test_a_storage_that_is_away_leaves_a_tombstone_and_holds_up_no_other(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7. A tombstone waits for its storage, and the others do not wait for it."""
    first, second = complete(workspace), complete(workspace, make_wav(seed=1))
    for upload in (first, second):
        delete_upload(upload, actor=None)
    delete = LocalStorage.delete

    def fail_for_the_first(self: LocalStorage, name: str, **options: Any) -> None:
        if name == first.storage_path:
            raise TransientStorageError
        delete(self, name, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", fail_for_the_first)
        purge_upload(first, actor=None)
        purge_upload(second, actor=None)
        assert statuses() == {"purged": 1}
        AudioUpload.objects.update(claimable_at=ago(days=1))
        assert sweep_stale_work()["purges_finished"] == 0
    assert sweep_stale_work()["purges_finished"] == 1
    assert (statuses(), stored_names()) == ({}, set())


def test_a_tombstone_of_a_storage_that_is_no_longer_configured_waits(workspace: Workspace) -> None:
    lost = row(workspace, Status.PURGED, storage_provider="elsewhere", claimable_at=ago(days=1))
    mine = row(workspace, Status.PURGED, claimable_at=ago(days=1))
    assert sweep_stale_work()["purges_finished"] == 1
    assert AudioUpload.objects.get() == lost != mine


def test_a_purge_that_is_finished_twice_is_finished_once(workspace: Workspace) -> None:
    """Promise 33. Finishing again harms no file that came since."""
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    stale = AudioUpload.objects.get()
    purge_upload(upload, actor=None)
    assert finish_purge(upload)
    kept = complete(workspace)
    assert finish_purge(stale)
    assert statuses() == {"completed": 1}
    assert_books_balance(workspace)
    assert kept.duplicate_of is None


# The trash empties itself


def test_the_trash_keeps_files_for_its_days_and_then_lets_them_go(workspace: Workspace, settings: Any) -> None:
    settings.TRASH_DAYS = 30
    old, young = complete(workspace, make_wav(seed=1)), complete(workspace, make_wav(seed=2))
    for upload in (old, young):
        delete_upload(upload, actor=None)
    AudioUpload.objects.filter(pk=old.pk).update(deleted_at=ago(days=30.01))
    AudioUpload.objects.filter(pk=young.pk).update(deleted_at=ago(days=29.99))
    assert purge_trash() == {"purged": 1, "held": 0}
    assert AudioUpload.objects.get() == young
    assert stored_names() == {young.storage_path}
    event = UploadEvent.objects.get(upload_id=old.pk, action="purged")
    assert (event.actor, event.reason) == (None, "30 days in the trash")


def test_a_file_that_left_the_trash_and_came_back_has_its_days_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9. What was found is looked at again before it goes."""
    upload = complete(workspace)
    delete_upload(upload, actor=None)
    AudioUpload.objects.update(deleted_at=ago(days=31))
    purge = sweeps.purge_upload

    def taken_out_and_back_meanwhile(found: AudioUpload, **given: Any) -> None:
        same = AudioUpload.objects.get()
        undelete_upload(same, actor=None)
        delete_upload(same, actor=None)
        purge(found, **given)

    monkeypatch.setattr(sweeps, "purge_upload", taken_out_and_back_meanwhile)
    assert purge_trash() == {"purged": 0, "held": 0}
    assert statuses() == {"deleted": 1}
    assert stored_names() == {upload.storage_path}


# Retention


def old_files(workspace: Workspace, count: int, *, days: float = 11, **columns: Any) -> list[AudioUpload]:
    files = [row(workspace, Status.COMPLETED, uploaded_at=ago(days=days), **columns) for _ in range(count)]
    quota = StorageQuota.objects.filter(workspace=workspace)
    total = AudioUpload.objects.listed().filter(workspace=workspace).count()
    quota.update(current_storage_bytes=10 * total, current_file_count=total)
    return files


def test_files_expire_only_where_their_workspace_wants_it() -> None:
    wants = new_workspace(retention_days=10, auto_cleanup=True)
    only_days = new_workspace(retention_days=10, auto_cleanup=False)
    no_days = new_workspace(retention_days=None, auto_cleanup=True)
    for workspace in (wants, only_days, no_days):
        old_files(workspace, 2)
        old_files(workspace, 1, days=9.99)
    assert expire_uploads() == {"expired": 2, "workspaces_stopped": 0}
    gone = AudioUpload.objects.in_trash()
    assert {upload.workspace for upload in gone} == {wants}
    assert counted(wants) == (10, 1, 0, 0)
    event = UploadEvent.objects.filter(upload_id=gone[0].pk).get()
    assert (event.action, event.actor, event.reason) == ("deleted", None, "older than 10 days")
    assert expire_uploads() == {"expired": 0, "workspaces_stopped": 0}


def test_files_on_hold_and_files_under_way_do_not_expire() -> None:
    workspace = new_workspace(retention_days=10, auto_cleanup=True)
    (held,) = old_files(workspace, 1)
    set_legal_hold(held, held=True, actor=None)
    under_way = ("uploaded", "validating", "processing", "archiving", "restoring")
    for status in under_way:
        row(workspace, Status(status), uploaded_at=ago(days=100))
    for status in ("failed", "archived"):
        row(workspace, Status(status), uploaded_at=ago(days=100))
    StorageQuota.objects.update(current_storage_bytes=80, current_file_count=8)
    assert expire_uploads() == {"expired": 2, "workspaces_stopped": 0}
    assert statuses() == {"completed": 1, "deleted": 2, **dict.fromkeys(under_way, 1)}


def test_a_file_that_is_put_on_hold_or_retried_meanwhile_does_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 9. What was found is looked at again under the lock before it moves."""
    workspace = new_workspace(retention_days=10, auto_cleanup=True)
    held, retried = old_files(workspace, 2)
    AudioUpload.objects.filter(pk=retried.pk).update(status=Status.FAILED)
    delete = sweeps.delete_upload

    def changed_meanwhile(found: AudioUpload, **given: Any) -> None:
        AudioUpload.objects.filter(pk=held.pk).update(legal_hold=True)
        AudioUpload.objects.filter(pk=retried.pk).update(status=Status.UPLOADED)
        delete(found, **given)

    monkeypatch.setattr(sweeps, "delete_upload", changed_meanwhile)
    assert expire_uploads() == {"expired": 0, "workspaces_stopped": 0}
    assert statuses() == {"completed": 1, "uploaded": 1}


def test_a_run_that_would_empty_a_workspace_stops_and_the_others_go_on(settings: Any) -> None:
    settings.RETENTION_MAX_FRACTION, settings.RETENTION_MIN_COUNT = 0.5, 3
    mistaken = new_workspace(retention_days=10, auto_cleanup=True)
    old_files(mistaken, 5)
    old_files(mistaken, 4, days=1)
    half = new_workspace(retention_days=10, auto_cleanup=True)
    old_files(half, 4)
    old_files(half, 4, days=1)
    few = new_workspace(retention_days=10, auto_cleanup=True)
    old_files(few, 3)
    assert expire_uploads() == {"expired": 7, "workspaces_stopped": 1}
    assert not AudioUpload.objects.in_trash().filter(workspace=mistaken).exists()
    assert counted(mistaken) == (90, 9, 0, 0)
    assert counted(few) == (0, 0, 0, 0)


def test_expired_files_wait_in_the_trash_like_any_other(settings: Any) -> None:
    workspace = new_workspace(retention_days=10, auto_cleanup=True)
    (upload,) = old_files(workspace, 1, days=400)
    expire_uploads()
    assert purge_trash() == {"purged": 0, "held": 0}
    upload.refresh_from_db()
    undelete_upload(upload, actor=None)
    assert counted(workspace) == (10, 1, 0, 0)


def test_a_storage_that_stalls_does_not_keep_the_sweep_from_its_other_work(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 36. Lost tasks are sent again first; then each storage is asked a few times and no more."""
    told: list[str] = []
    for _number in range(6):
        row(workspace, Status.PURGED, storage_provider="stalled", claimable_at=ago(days=2))
    row(workspace, Status.PURGED, storage_provider="well", claimable_at=ago(days=1))
    row(workspace, Status.UPLOADED, claimable_at=ago(days=1))
    monkeypatch.setattr(sweeps, "send_once", lambda *args: told.append("sent") or True)
    monkeypatch.setattr(sweeps, "finish_purge", lambda upload: told.append(upload.storage_provider) or False)
    sweep_stale_work()
    assert (told[0], told.count("stalled"), told.count("well")) == ("sent", 3, 1)
    asked_last = set(AudioUpload.objects.filter(claimable_at__gt=ago(hours=1)).values_list("pk", flat=True))
    sweep_stale_work()
    asked_again = set(AudioUpload.objects.filter(claimable_at__gt=ago(hours=1)).values_list("pk", flat=True))
    assert len(asked_last) == 4 and len(asked_again) == 7


# The trash has a limit of its own


def throw_away(workspace: Workspace, seed: int) -> AudioUpload:
    upload = complete(workspace, make_wav(seed=seed))
    delete_upload(upload, actor=None)
    return upload


def test_what_was_thrown_away_first_goes_when_the_trash_is_full(audio_root: Path) -> None:
    """Promise 63. Filling and emptying a workspace again and again takes no more disk than twice its quota."""
    size = len(make_wav())
    workspace = new_workspace(max_storage_bytes=2 * size)
    thrown = [throw_away(workspace, seed) for seed in range(6)]
    assert stored_names() == {upload.storage_path for upload in thrown[-2:]}
    assert actions(thrown[0])[-1] == "displaced"
    assert set(AudioUpload.objects.values_list("pk", "status")) == {(upload.pk, "deleted") for upload in thrown[-2:]}
    owner = Membership.objects.create(workspace=workspace, user=UserFactory(), role="owner").user
    page = client_of(owner).get("/trash/", {"workspace": workspace.pk}).content.decode()
    assert "4 files went for good before their time" in page
    undelete_upload(AudioUpload.objects.get(pk=thrown[-1].pk), actor=None)
    assert_books_balance(workspace)


def test_a_full_trash_leaves_what_was_there_before_a_restore() -> None:
    """Promise 58. Of those files some may have been taken out after the backup; what comes later makes room itself."""
    workspace = new_workspace(max_storage_bytes=2 * len(make_wav()))
    before = [throw_away(workspace, seed) for seed in range(2)]
    begin_grace_anew()
    later = [throw_away(workspace, seed) for seed in range(2, 5)]
    in_trash = set(AudioUpload.objects.in_trash().values_list("pk", flat=True))
    assert in_trash == {*(upload.pk for upload in before), later[-1].pk}


def test_the_number_of_files_in_the_trash_is_bounded_too() -> None:
    """Promise 63."""
    workspace = new_workspace(max_file_count=2)
    for seed in range(4):
        throw_away(workspace, seed)
    assert AudioUpload.objects.in_trash().count() == 2


def test_an_unlimited_workspace_has_an_unlimited_trash() -> None:
    workspace = new_workspace(max_storage_bytes=None, max_file_count=None)
    for seed in range(4):
        throw_away(workspace, seed)
    assert AudioUpload.objects.in_trash().count() == 4


def test_a_quota_that_is_lowered_to_nothing_empties_no_trash(settings: Any) -> None:
    """What is there stays its days; what comes in addition displaces as much."""
    workspace = new_workspace()
    old = [throw_away(workspace, seed) for seed in range(2)]
    kept = complete(workspace, make_wav(seed=5))
    StorageQuota.objects.filter(workspace=workspace).update(max_storage_bytes=0)
    assert AudioUpload.objects.in_trash().count() == 2
    delete_upload(kept, actor=None)
    assert set(AudioUpload.objects.in_trash().values_list("pk", flat=True)) == {old[1].pk, kept.pk}
    with pytest.raises(QuotaExceeded):
        undelete_upload(kept, actor=None)


def test_a_file_larger_than_the_share_of_the_trash_can_be_taken_back(settings: Any) -> None:
    settings.TRASH_MAX_FRACTION = 0.0
    workspace = new_workspace()
    upload = throw_away(workspace, 1)
    undelete_upload(upload, actor=None)
    assert upload.status == Status.COMPLETED

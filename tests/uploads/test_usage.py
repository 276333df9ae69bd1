"""What the rows add up to, and counters brought back to it."""

import pytest

from quotas.models import StorageQuota, Workspace
from quotas.reservations import reserve_storage
from tests.audio import make_wav
from tests.factories import UserFactory, WorkspaceFactory
from tests.quotas.threads import at_once
from tests.uploads.life import arrive, assert_books_balance, complete, counted, new_workspace, row
from uploads.lifecycle.trash import delete_upload, undelete_upload
from uploads.models import AudioUpload, Status
from uploads.upkeep import usage
from uploads.upkeep.usage import Drift, recalculate, storage_stats

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

SIZE = len(make_wav())


def test_what_counts_is_what_has_arrived_and_is_neither_deleted_nor_purged() -> None:
    workspace = new_workspace()
    for status in Status.values:
        row(workspace, Status(status), file_size=10)
    reserve_storage(workspace, size_bytes=70, files=2)
    assert len(recalculate()) == 1
    assert counted(workspace) == (80, 8, 70, 2)


def test_each_drift_is_repaired_and_reported_and_the_months_counters_are_left_alone() -> None:
    right, wrong = new_workspace(), new_workspace()
    complete(right)
    complete(wrong)
    StorageQuota.objects.filter(workspace=wrong).update(
        current_storage_bytes=5, current_file_count=9, reserved_bytes=3, reserved_files=1
    )
    assert recalculate() == [
        Drift(
            workspace_id=str(wrong.pk),
            current_storage_bytes=(5, SIZE),
            current_file_count=(9, 1),
            reserved_bytes=(3, 0),
            reserved_files=(1, 0),
        )
    ]
    assert_books_balance(right, wrong)
    quota = StorageQuota.objects.get(workspace=wrong)
    assert (quota.monthly_uploads, quota.monthly_upload_bytes) == (1, SIZE)
    assert recalculate() == []


def test_some_workspaces_alone_can_be_recalculated() -> None:
    first, second = new_workspace(), new_workspace()
    StorageQuota.objects.update(current_storage_bytes=5)
    (drift,) = recalculate(StorageQuota.objects.filter(workspace=first))
    assert drift.workspace_id == str(first.pk)
    assert counted(second) == (5, 0, 0, 0)


def test_every_workspace_is_reached_whatever_the_size_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "BATCH_SIZE", 3)
    for _ in range(7):
        new_workspace(current_storage_bytes=1)
    assert len(recalculate()) == 7
    assert set(StorageQuota.objects.values_list("current_storage_bytes", flat=True)) == {0}


@pytest.mark.race
def test_counting_anew_while_files_come_and_go_finds_no_drift() -> None:
    """Promise 28. The sums are exact although nothing stands still."""
    workspaces = [new_workspace() for _ in range(2)]
    drifts: list[Drift] = []

    def come_and_go(workspace: Workspace, seed: int) -> None:
        owner = UserFactory()
        for turn in range(4):
            upload = arrive(workspace, make_wav(seed=seed * 10 + turn), owner=owner)
            delete_upload(upload, actor=owner)
            if turn % 2:
                undelete_upload(upload, actor=owner)

    def count() -> None:
        for _ in range(12):
            drifts.extend(recalculate())

    outcomes = at_once(
        *[
            lambda workspace=workspace, seed=seed: come_and_go(workspace, seed)
            for workspace in workspaces
            for seed in range(3)
        ],
        count,
        count,
    )
    assert outcomes == [None] * 8
    assert drifts == []
    assert_books_balance(*workspaces)
    assert AudioUpload.objects.listed().count() == 12


def test_the_storages_figures_tell_rows_from_objects_and_the_trash_from_both() -> None:
    workspace = new_workspace()
    complete(workspace)
    complete(workspace)
    thrown = complete(workspace, make_wav(seconds=1))
    delete_upload(thrown, actor=None)
    row(workspace, Status.RECEIVING, file_size=10**6)
    WorkspaceFactory()
    stats = storage_stats()
    disk = stats.pop("disk")
    assert disk["total_bytes"] >= disk["used_bytes"] > 0 and disk["free_bytes"] > 0
    assert stats == {
        "storage": "local",
        "file_count": 2,
        "total_bytes": 2 * SIZE,
        "object_count": 2,
        "object_bytes": SIZE + len(make_wav(seconds=1)),
        "trash_count": 1,
        "trash_bytes": len(make_wav(seconds=1)),
    }

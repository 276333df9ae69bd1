"""What the storage holds, for those who run it."""

import pytest
from rest_framework.test import APIClient

from accounts.tokens import create_token
from objectstore import get_storage
from quotas.models import Workspace
from tests.api.rows import CONTENT, store_upload
from tests.factories import UserFactory, WorkspaceFactory, auditor, client_for, operator
from uploads.models import AudioUpload, Status, StoredObject

pytestmark = pytest.mark.django_db
SIZE = len(CONTENT)


def test_rows_and_objects_of_all_workspaces_are_added_up(workspace: Workspace) -> None:
    first = store_upload(workspace)
    twin = store_upload(workspace)
    get_storage("local").delete(twin.storage_path)
    AudioUpload.objects.filter(pk=twin.pk).update(
        storage_path=first.storage_path, stored_object=first.stored_object, duplicate_of=first
    )
    StoredObject.objects.filter(pk=twin.stored_object_id).delete()
    store_upload(WorkspaceFactory(), status=Status.FAILED)
    store_upload(workspace, status=Status.DELETED)
    store_upload(workspace, status=Status.RECEIVING)
    stats = client_for(operator()).get("/storage/stats").json()
    disk = stats.pop("disk")
    assert stats == {
        "storage": "local",
        "file_count": 3,
        "total_bytes": 3 * SIZE,
        "object_count": 3,
        "object_bytes": 3 * SIZE,
        "trash_count": 1,
        "trash_bytes": SIZE,
    }
    assert disk["total_bytes"] >= disk["free_bytes"] > 0 and disk["used_bytes"] > 0


def test_an_empty_house_has_zeros_and_no_nulls() -> None:
    stats = client_for(operator()).get("/storage/stats").json()
    assert {name: value for name, value in stats.items() if name not in ("storage", "disk")} == dict.fromkeys(
        ("file_count", "total_bytes", "object_count", "object_bytes", "trash_count", "trash_bytes"), 0
    )


def test_the_token_of_staff_opens_it_too() -> None:
    for user, status in ((auditor(), 200), (UserFactory(is_staff=True), 403), (UserFactory(), 403)):
        _, secret = create_token(user, name="monitor", expires_in=None)
        answer = APIClient().get("/storage/stats", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == status

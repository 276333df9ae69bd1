"""A backlog: in order within a workspace, by turns between workspaces, and with a number that people can read."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from objectstore.errors import TransientStorageError
from quotas.models import Workspace
from tests.factories import client_for, member_of
from tests.plugging import steps_of
from tests.quotas.threads import at_once
from tests.uploads.life import ago, new_workspace, row
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects.conditions import note_failure
from uploads.processing import backlog
from uploads.processing.backlog import files_ahead, next_file
from uploads.processing.steps import StepResult
from uploads.tasks import process_upload

pytestmark = pytest.mark.django_db(transaction=True)


def nothing(upload: AudioUpload) -> StepResult:
    return StepResult()


@pytest.fixture(autouse=True)
def no_steps(declare: Callable[..., None]) -> None:
    declare(processing_steps=steps_of(f"{__name__}.nothing"))


def waiting(workspace: Workspace, count: int, **columns: Any) -> list[AudioUpload]:
    """Files that wait, the oldest first."""
    return [
        row(workspace, Status.UPLOADED, **{"uploaded_at": ago(hours=1, seconds=-number), **columns})
        for number in range(count)
    ]


def order_of_completion() -> list[Any]:
    return list(UploadEvent.objects.filter(action="completed").order_by("id").values_list("upload_id", flat=True))


def test_a_thousand_files_of_one_workspace_do_not_hold_up_the_others() -> None:
    many, two, one = (new_workspace() for _ in range(3))
    of_many, of_two, of_one = waiting(many, 6), waiting(two, 2), waiting(one, 1)
    # Messages come in the order of arrival: first all of the workspace with many files.
    for upload in [*of_many, *of_two, *of_one]:
        process_upload(str(upload.pk))
    done = order_of_completion()
    assert set(done[:3]) == {of_many[0].pk, of_two[0].pk, of_one[0].pk}
    assert set(done[3:5]) == {of_many[1].pk, of_two[1].pk}
    assert done[5:] == [upload.pk for upload in of_many[2:]]


def test_a_file_that_comes_later_has_the_next_turn() -> None:
    many, late = new_workspace(), new_workspace()
    of_many = waiting(many, 4)
    for upload in of_many[:2]:
        process_upload(str(upload.pk))
    (newest,) = waiting(late, 1, uploaded_at=timezone.now())
    process_upload(str(of_many[2].pk))
    assert order_of_completion() == [of_many[0].pk, of_many[1].pk, newest.pk]


@pytest.mark.race
def test_workers_at_the_same_moment_take_a_file_each() -> None:
    files = [upload for _ in range(3) for upload in waiting(new_workspace(), 2)]
    at_once(*[lambda upload=upload: process_upload(str(upload.pk)) for upload in files])
    assert sorted(order_of_completion()) == sorted(upload.pk for upload in files)


def test_files_that_pause_or_whose_storage_is_left_alone_are_passed_over(workspace: Workspace) -> None:
    waiting(workspace, 1, claimable_at=ago(hours=-1))
    waiting(workspace, 1, storage_provider="s3")
    note_failure("s3", TransientStorageError(), seconds=60)
    (mine,) = waiting(workspace, 1)
    assert next_file() == mine.pk


def test_it_is_told_how_many_files_are_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    many, mine = new_workspace(), new_workspace()
    of_many, of_mine = waiting(many, 5), waiting(mine, 3)
    assert [files_ahead(upload) for upload in of_mine] == [1, 3, 5]
    assert [files_ahead(upload) for upload in of_many] == [1, 3, 5, 6, 7]
    assert files_ahead(row(mine, Status.COMPLETED)) is None
    monkeypatch.setattr(backlog, "MOST_COUNTED", 4)
    assert files_ahead(of_many[-1]) == 4


def test_the_api_and_the_page_tell_it(workspace: Workspace, client: Client) -> None:
    files = waiting(workspace, 3)
    member = member_of(workspace)
    answer = client_for(member).get(f"/api/v1/uploads/{files[2].pk}/").json()
    assert answer["files_ahead"] == 2
    client.force_login(member)
    page = client.get(f"/files/{files[2].pk}/").content.decode()
    assert "2 files are ahead of it." in page
    assert "ahead of it" not in client.get(f"/files/{files[0].pk}/").content.decode()
    done = row(workspace, Status.COMPLETED)
    assert client_for(member).get(f"/api/v1/uploads/{done.pk}/").json()["files_ahead"] is None


def test_a_message_for_a_file_that_is_gone_does_no_harm(workspace: Workspace) -> None:
    process_upload(str(uuid4()))
    assert not AudioUpload.objects.exists()

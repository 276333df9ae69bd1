"""What staff do to files in the administration: asked first, done by the services, told file by file."""

from typing import Any

import pytest
from django.test import Client

from quotas.models import Workspace
from tests.api.rows import many_uploads, store_upload
from tests.factories import WorkspaceFactory
from tests.uploads.life import actions, assert_books_balance, new_workspace, row, stored_names
from tests.uploads.staff import FILES, ask, confirm, page_of, shown, staff_with, superuser
from uploads.actions import bulk, file_actions
from uploads.actions.base import BulkFileAction
from uploads.actions.holds import HOLD
from uploads.models import AudioUpload, BulkAction, Status, UploadEvent

pytestmark = pytest.mark.django_db
#: Where something happens after the commit.
committing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


@pytest.fixture
def client(db: None) -> Client:
    return superuser()


def state_of(upload: AudioUpload) -> str:
    return AudioUpload.objects.values_list("status", flat=True).get(pk=upload.pk)


@pytest.mark.parametrize("action", file_actions(), ids=lambda action: action.name)
def test_nothing_happens_before_it_is_confirmed(client: Client, workspace: Workspace, action: BulkFileAction) -> None:
    upload = store_upload(workspace, original_filename="talk.mp3")
    before = AudioUpload.objects.values().get()
    answer = ask(client, action.name, upload)
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "talk.mp3" in page and "1 file" in page and page_of(upload) in page
    assert ('name="reason"' in page) == action.keeps_reason
    assert AudioUpload.objects.values().get() == before
    assert not BulkAction.objects.exists()


def test_the_page_that_asks_says_how_many_will_be_refused_and_names_twenty(
    client: Client, workspace: Workspace
) -> None:
    held = many_uploads(workspace, 3, legal_hold=True, original_filename="held.mp3")
    free = many_uploads(workspace, 22)
    page = ask(client, "delete", *held, *free).content.decode()
    assert "Move 25 files to the trash?" in page
    assert "3 of 25 will be refused" in page
    assert page.count('class="text-link" href="/admin/uploads/audioupload/') == 20
    assert "and 5 more" in page


@committing
def test_staff_hold_a_file_fail_to_delete_it_release_it_and_purge_it(client: Client, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    answer = confirm(client, "hold", upload, reason="Case 4711")
    assert answer["Location"] == page_of(upload)
    assert "/admin/uploads/bulkaction/" in confirm(client, "delete", upload)["Location"]
    outcome = BulkAction.objects.first()
    assert outcome and (outcome.done, outcome.refused) == (0, 1)
    assert "legal hold" in outcome.items.get().message
    assert state_of(upload) == "completed"
    confirm(client, "release", upload, reason="Case closed")
    confirm(client, "delete", upload, reason="not ours")
    assert state_of(upload) == "deleted"
    answer = confirm(client, "purge", upload, reason="asked by its owner")
    assert "/admin/uploads/bulkaction/" in answer["Location"]
    assert not AudioUpload.objects.exists() and stored_names() == set()
    told = UploadEvent.objects.filter(upload_id=upload.pk).values_list("action", "reason", "actor__username")
    assert list(told) == [
        ("held", "Case 4711", "root"),
        ("released", "Case closed", "root"),
        ("deleted", "not ours", "root"),
        ("purged", "asked by its owner", "root"),
    ]
    assert_books_balance(workspace)
    assert client.get(answer["Location"]).status_code == 200


@committing
def test_a_failed_file_is_processed_again(client: Client, workspace: Workspace, sent: list[tuple[str, ...]]) -> None:
    upload = store_upload(workspace, status=Status.FAILED)
    assert confirm(client, "retry", upload)["Location"] == page_of(upload)
    assert state_of(upload) == "uploaded"
    assert "uploads.tasks.process_upload" in [name for name, *_ in sent]


def test_undeleting_gives_the_file_back(client: Client, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    confirm(client, "delete", upload)
    confirm(client, "undelete", upload)
    assert state_of(upload) == "completed"
    assert_books_balance(workspace)


@committing
def test_all_files_of_a_list_are_meant_when_staff_say_so(
    client: Client, workspace: Workspace, sent: list[tuple[str, ...]]
) -> None:
    mine = many_uploads(workspace, 60)
    others = many_uploads(WorkspaceFactory(), 2)
    across = f"?workspace__id__exact={workspace.pk}"
    page = ask(client, "hold", mine[0], across=across).content.decode()
    assert "Put 60 files on hold?" in page and "and 40 more" in page
    answer = ask(client, "hold", mine[0], across=across, confirmed=shown(*mine))
    begun = BulkAction.objects.get()
    assert answer["Location"] == f"/admin/uploads/bulkaction/{begun.pk}/change/"
    assert [name for name, *_ in sent] == ["uploads.tasks.run_bulk_action"]
    assert begun.total == 60 and not AudioUpload.objects.filter(legal_hold=True).exists()
    bulk.run_bulk_action(begun.pk)
    assert AudioUpload.objects.filter(legal_hold=True).count() == 60
    assert not AudioUpload.objects.filter(pk__in=[other.pk for other in others], legal_hold=True).exists()


def test_a_list_that_changed_meanwhile_is_asked_about_again(client: Client, workspace: Workspace) -> None:
    """What is done is what was shown."""
    files = many_uploads(workspace, 2)
    across = f"?workspace__id__exact={workspace.pk}"
    confirmed = shown(*files)
    many_uploads(workspace, 1)
    page = ask(client, "hold", files[0], across=across, confirmed=confirmed).content.decode()
    assert "The list has changed meanwhile" in page and "Put 3 files on hold?" in page
    files[0].delete()
    page = ask(client, "hold", files[1], across=across, confirmed=confirmed).content.decode()
    assert "The list has changed meanwhile" in page and "Put 2 files on hold?" in page, "as many, but others"
    assert not BulkAction.objects.exists()


def test_too_many_files_are_refused_in_words(
    client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MOST_FILES", 2)
    files = many_uploads(workspace, 3)
    answer = client.get(ask(client, "delete", *files)["Location"])
    assert "at most 2 files" in answer.content.decode()
    assert not BulkAction.objects.exists()


def test_files_that_went_meanwhile_are_told_in_words(client: Client, workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED)
    AudioUpload.objects.all().delete()
    answer = client.get(ask(client, "delete", upload)["Location"])
    assert "None of these files is there any more." in answer.content.decode()


@pytest.mark.parametrize("chosen", ["nonsense", "", "1 OR 1=1"])
def test_an_id_that_is_none_is_no_error_of_ours(client: Client, workspace: Workspace, chosen: str) -> None:
    store_upload(workspace)
    answer = client.post(FILES, {"action": "delete", "_selected_action": chosen, "confirmed": "1"})
    assert answer.status_code in (302, 400)
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize(
    ("rights", "allowed"),
    [
        (("view_audioupload",), set()),
        (("view_audioupload", "change_audioupload"), {"undelete", "hold", "release", "retry", "verify"}),
        (("view_audioupload", "delete_audioupload"), {"delete", "purge"}),
    ],
)
def test_who_lacks_the_right_cannot_act_even_by_a_forged_post(
    workspace: Workspace, rights: tuple[str, ...], allowed: set[str]
) -> None:
    """Promise 40. What the menu does not offer is not done either."""
    upload = store_upload(workspace)
    staff = staff_with(*rights)
    for action in file_actions():
        confirm(staff, action.name, upload)
    assert set(BulkAction.objects.values_list("action", flat=True)) == allowed
    if not allowed:
        assert actions(upload) == []


@committing
def test_the_page_of_a_bulk_action_tells_each_file_s_outcome(client: Client, workspace: Workspace) -> None:
    held = store_upload(workspace, original_filename="held.mp3", legal_hold=True)
    gone = store_upload(workspace, original_filename="gone.mp3", status=Status.DELETED)
    answer = confirm(client, "purge", held, gone)
    page = client.get(answer["Location"]).content.decode()
    assert "1 done, 1 refused, 0 waiting" in page
    assert "held.mp3" in page and page_of(held) in page
    assert "gone.mp3" in page and f"/admin/uploads/uploadevent/?q={gone.pk}" in page
    assert 'http-equiv="refresh"' not in page
    refused: Any = client.get(f"{answer['Location']}?outcome=refused")
    assert [line[0] for line in refused.context["items"]["rows"]] != []
    assert "held.mp3" in refused.content.decode() and "gone.mp3" not in refused.content.decode()


def test_the_page_of_one_under_way_looks_again_by_itself(client: Client, workspace: Workspace) -> None:
    many_uploads(workspace, 150)
    begun = bulk.start(HOLD, AudioUpload.objects.all(), actor=None)
    address = f"/admin/uploads/bulkaction/{begun.pk}/change/"
    answer = client.get(address)
    page = answer.content.decode()
    assert 'http-equiv="refresh"' in page and "0 done, 0 refused, 150 waiting" in page
    assert len(answer.context["items"]["rows"]) == 100 and "Page 1 of 2" in page
    second = client.get(f"{address}?outcome=waiting&page=2")
    assert len(second.context["items"]["rows"]) == 50
    assert client.get(f"{address}?outcome=nonsense&page=nonsense").status_code == 200


def test_who_may_see_files_may_see_what_was_done_to_them(workspace: Workspace) -> None:
    many_uploads(workspace, 30)
    begun = bulk.start(HOLD, AudioUpload.objects.all(), actor=None)
    viewer = staff_with("view_audioupload")
    assert viewer.get(f"/admin/uploads/bulkaction/{begun.pk}/change/").status_code == 200
    assert viewer.post(f"/admin/uploads/bulkaction/{begun.pk}/change/", {"done": "7"}).status_code == 403

"""What is done to ticked files, and to a whole trash: who may, what is asked first, and what is told of each file."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from quotas.models import Membership, StorageQuota, Workspace
from tests.api.rows import store_upload
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, member_of
from tests.uploads.life import counted, row, stored_names
from tests.uploads.pages import notices, post, sign_in, token_of
from uploads.actions import bulk
from uploads.models import AudioUpload, BulkAction, Status, UploadEvent

pytestmark = pytest.mark.django_db
SELECTED = "/selected/"


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(slug="radio")
    return made


def status_of(upload: AudioUpload) -> str | None:
    return AudioUpload.objects.filter(pk=upload.pk).values_list("status", flat=True).first()


def test_ticked_files_move_to_the_trash_and_out_of_it(workspace: Workspace) -> None:
    uploads = [store_upload(workspace) for _ in range(3)]
    user = member_of(workspace, Membership.Role.EDITOR)
    client = sign_in(user)
    ticked = [uploads[0].pk, uploads[2].pk]
    answer = post(client, SELECTED, action="delete", file=ticked, next="/?q=tone&sort=name")
    assert (answer.status_code, answer["Location"]) == (302, "/?q=tone&sort=name")
    assert [status_of(upload) for upload in uploads] == [Status.DELETED, Status.COMPLETED, Status.DELETED]
    assert counted(workspace)[1] == 1
    assert notices(client, "/") == [("success", "2 files are in the trash now.")]
    assert {event.actor for event in UploadEvent.objects.filter(action="deleted")} == {user}

    post(client, SELECTED, action="undelete", file=ticked[:1], next="/trash/")
    assert [status_of(upload) for upload in uploads] == [Status.COMPLETED, Status.COMPLETED, Status.DELETED]
    assert notices(client, "/trash/") == [("success", "1 file is out of the trash.")]


def test_what_cannot_be_done_to_a_file_is_told_by_its_name_and_the_others_go(workspace: Workspace) -> None:
    user = member_of(workspace)
    viewed = MembershipFactory(user=user, role=Membership.Role.VIEWER).workspace
    held = store_upload(workspace, original_filename="held.mp3", legal_hold=True)
    gone = store_upload(workspace, original_filename="gone.mp3", status=Status.DELETED)
    theirs = store_upload(viewed, original_filename="<viewed>.mp3")
    free = store_upload(workspace, original_filename="free.mp3")
    client = sign_in(user)
    post(client, SELECTED, action="delete", file=[upload.pk for upload in (held, gone, theirs, free)])
    assert [status_of(upload) for upload in (held, gone, theirs, free)] == [
        Status.COMPLETED, Status.DELETED, Status.COMPLETED, Status.DELETED,
    ]  # fmt: skip
    told = notices(client, "/")
    assert told[0] == ("success", "1 file is in the trash now.")
    words = {text.split(":")[0]: text for level, text in told if level == "error"}
    assert words.keys() == {"held.mp3", "gone.mp3", "<viewed>.mp3"}
    assert "legal hold" in words["held.mp3"]
    assert "role" in words["<viewed>.mp3"]


def test_files_of_others_are_not_there_to_be_ticked(workspace: Workspace) -> None:
    """Promise 38. The answer is that for no file at all."""
    theirs = store_upload(workspace)
    thrown = store_upload(workspace, status=Status.DELETED)
    client = sign_in(UserFactory())
    for action in ("delete", "undelete", "purge", "retry"):
        answer = post(client, SELECTED, action=action, file=[theirs.pk, thrown.pk], confirmed="yes")
        assert answer.status_code == 302
        assert notices(client, "/") == [("warning", "No file was chosen. Tick at least one in the list.")]
    assert [status_of(theirs), status_of(thrown)] == [Status.COMPLETED, Status.DELETED]
    assert not UploadEvent.objects.exists()


@pytest.mark.parametrize("file", [[], ["x"], ["00000000-0000-4000-8000-000000000000"]])
def test_who_ticks_nothing_is_told_so(file: list[str], workspace: Workspace) -> None:
    client = sign_in(member_of(workspace))
    assert post(client, SELECTED, action="delete", file=file)["Location"] == "/"
    assert [level for level, _ in notices(client, "/")] == ["warning"]


@pytest.mark.parametrize("action", ["", "hold", "release", "verify", "DELETE", "nonsense"])
def test_an_action_that_pages_do_not_offer_is_refused(action: str, workspace: Workspace) -> None:
    """Promise 40. Also one that staff have elsewhere."""
    upload = store_upload(workspace)
    answer = post(sign_in(member_of(workspace)), SELECTED, action=action, file=[upload.pk])
    assert answer.status_code == 400
    upload.refresh_from_db()
    assert (upload.status, upload.legal_hold) == (Status.COMPLETED, False)


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "trash/", "\t//x.y"]
)
def test_the_way_back_is_never_elsewhere(back: str, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    answer = post(sign_in(member_of(workspace)), SELECTED, action="delete", file=[upload.pk], next=back)
    assert answer["Location"] == "/"


def test_deleting_for_good_asks_first_and_then_leaves_nothing(workspace: Workspace) -> None:
    uploads = [store_upload(workspace, status=Status.DELETED, original_filename=f"{n}.mp3") for n in "ab"]
    client = sign_in(member_of(workspace))
    ticked = [upload.pk for upload in uploads]
    answer = post(client, SELECTED, action="purge", file=ticked, next="/trash/?q=mp3")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Delete 2 files for good?" in page and "a.mp3" in page and "b.mp3" in page
    assert 'name="next" value="/trash/?q=mp3"' in page
    assert [status_of(upload) for upload in uploads] == [Status.DELETED, Status.DELETED]

    answer = post(client, SELECTED, action="purge", file=ticked, next="/trash/?q=mp3", confirmed="yes")
    assert answer["Location"] == "/trash/?q=mp3"
    assert notices(client, "/trash/") == [("success", "2 files are gone for good.")]
    assert [status_of(upload) for upload in uploads] == [Status.PURGED, Status.PURGED]


@pytest.mark.django_db(transaction=True)
def test_what_was_deleted_for_good_is_gone_from_the_storage(workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.DELETED)
    assert upload.storage_path in stored_names()
    post(sign_in(member_of(workspace)), SELECTED, action="purge", file=[upload.pk], confirmed="yes")
    assert status_of(upload) is None
    assert upload.storage_path not in stored_names()


@pytest.mark.parametrize("role", [Membership.Role.VIEWER, Membership.Role.EDITOR])
def test_only_owners_delete_for_good(role: Membership.Role, workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.DELETED)
    client = sign_in(member_of(workspace, role))
    post(client, SELECTED, action="purge", file=[upload.pk], confirmed="yes")
    assert [level for level, _ in notices(client, "/trash/")] == ["error"]
    assert client.get(f"/workspaces/{workspace.pk}/empty-trash/").status_code == 403
    assert post(client, f"/workspaces/{workspace.pk}/empty-trash/", until=timezone.now()).status_code == 403
    assert status_of(upload) == Status.DELETED
    assert f"{workspace.pk}/empty-trash" not in client.get("/trash/").content.decode()


def test_a_file_that_is_not_in_the_trash_is_never_deleted_for_good(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    client = sign_in(member_of(workspace))
    post(client, SELECTED, action="purge", file=[upload.pk], confirmed="yes")
    assert status_of(upload) == Status.COMPLETED
    assert [level for level, _ in notices(client, "/")] == ["error"]


def test_taking_out_more_than_there_is_room_for_says_which_stayed(workspace: Workspace) -> None:
    StorageQuota.objects.create(workspace=workspace, max_file_count=1)
    uploads = [store_upload(workspace, status=Status.DELETED, original_filename=f"{n}.mp3") for n in "ab"]
    client = sign_in(member_of(workspace))
    post(client, SELECTED, action="undelete", file=[upload.pk for upload in uploads])
    assert [status_of(upload) for upload in uploads] == [Status.UPLOADED, Status.DELETED]
    told = notices(client, "/")
    assert told[0] == ("success", "1 file is out of the trash.")
    assert told[1][0] == "error" and told[1][1].startswith("b.mp3: ")


def until_of(page: str) -> str:
    return page.split('name="until" value="')[1].split('"')[0]


def test_a_trash_is_emptied_as_far_as_it_was_when_its_owner_was_asked(workspace: Workspace) -> None:
    asked = [store_upload(workspace, status=Status.DELETED) for _ in range(3)]
    elsewhere = store_upload(WorkspaceFactory(), status=Status.DELETED)
    kept = store_upload(workspace)
    client = sign_in(member_of(workspace))
    address = f"/workspaces/{workspace.pk}/empty-trash/"
    assert address in client.get("/trash/").content.decode()
    page = client.get(address).content.decode()
    assert "3 files of 6.0\xa0KB will be deleted for good." in page
    later = store_upload(workspace, status=Status.DELETED)
    AudioUpload.objects.filter(pk=later.pk).update(deleted_at=timezone.now() + timedelta(seconds=1))

    answer = post(client, address, until=until_of(page))

    assert answer["Location"] == "/trash/?workspace=radio"
    assert {status_of(upload) for upload in asked} == {Status.PURGED}
    assert [status_of(upload) for upload in (later, elsewhere, kept)] == [Status.DELETED, Status.DELETED, "completed"]
    assert notices(client, "/trash/") == [("success", "3 files are gone for good.")]


def test_a_large_trash_is_emptied_behind_the_answer(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "AT_ONCE", 2)
    monkeypatch.setattr(bulk, "MOST_FILES", 4)
    uploads = [row(workspace, Status.DELETED, deleted_at=timezone.now()) for _ in range(5)]
    client = sign_in(member_of(workspace))
    address = f"/workspaces/{workspace.pk}/empty-trash/"
    post(client, address, until=until_of(client.get(address).content.decode()))
    (begun, left) = notices(client, "/trash/")
    assert (begun[0], begun[1][:31]) == ("info", "4 files are being deleted for g")
    assert left == ("warning", "1 file is left for another time: the trash is emptied in parts.")
    bulk.run_bulk_action(BulkAction.objects.get().pk)
    assert sorted(str(status_of(upload)) for upload in uploads) == ["deleted", "purged", "purged", "purged", "purged"]


def test_a_trash_that_is_being_emptied_is_not_emptied_twice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever sends the form again and again fills no table with the same files."""
    monkeypatch.setattr(bulk, "AT_ONCE", 2)
    for _ in range(3):
        row(workspace, Status.DELETED, deleted_at=timezone.now())
    client = sign_in(member_of(workspace))
    address = f"/workspaces/{workspace.pk}/empty-trash/"
    until = until_of(client.get(address).content.decode())
    for _ in range(2):
        post(client, address, until=until)
        ((level, words),) = notices(client, "/trash/")
        assert (level, words[:31]) == ("info", "3 files are being deleted for g")
    row(workspace, Status.DELETED, deleted_at=timezone.now())
    post(client, address, until=until_of(client.get(address).content.decode()))
    assert sorted(BulkAction.objects.values_list("total", flat=True)) == [1, 3]


@pytest.mark.parametrize("until", ["", "yesterday", "2026-13-01T00:00:00+00:00", "2026-01-01T00:00:00"])
def test_a_time_that_is_none_empties_nothing_and_asks_again(until: str, workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.DELETED)
    answer = post(sign_in(member_of(workspace)), f"/workspaces/{workspace.pk}/empty-trash/", until=until)
    assert answer.status_code == 200
    assert "1 file of 2.0\xa0KB will be deleted for good." in answer.content.decode()
    assert status_of(upload) == Status.DELETED


def test_an_empty_trash_has_nothing_to_ask(workspace: Workspace) -> None:
    page = sign_in(member_of(workspace)).get(f"/workspaces/{workspace.pk}/empty-trash/").content.decode()
    assert "It is empty already." in page and "Delete for good" not in page


def test_ticked_files_need_the_token(workspace: Workspace) -> None:
    upload: Any = store_upload(workspace)
    client = sign_in(member_of(workspace))
    assert client.post(SELECTED, {"action": "delete", "file": upload.pk}).status_code == 403
    answer = client.get(SELECTED)
    assert (answer.status_code, answer["Allow"]) == (405, "POST")
    assert "Back to your files" in answer.content.decode(), "for who signs in again and is led back here"
    assert status_of(upload) == Status.COMPLETED


@pytest.mark.parametrize(
    "referrer", ["", "http://testserver/?q=tone", "http://elsewhere.example/", "http://testserver/selected/"]
)
def test_a_session_that_ended_before_a_bulk_action_leads_back_to_the_list(workspace: Workspace, referrer: str) -> None:
    upload = store_upload(workspace)
    user = member_of(workspace)
    client = sign_in(user, **({"referer": referrer} if referrer else {}))
    fields = {"csrfmiddlewaretoken": token_of(client), "action": "delete", "file": upload.pk}
    del client.cookies["sessionid"]
    back = "/?q=tone" if referrer.endswith("tone") else "/"
    answer = client.post(SELECTED, fields)
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?{urlencode({'next': back}, safe='/')}")
    assert notices(client, "/sign-in/") == [
        ("warning", "You were signed out: nothing was changed. Sign in and send it again.")
    ]
    client.force_login(user)
    assert client.get(back).status_code == 200
    assert status_of(upload) == Status.COMPLETED


def test_a_form_from_before_another_sign_in_leads_back_to_its_page(workspace: Workspace) -> None:
    client = sign_in(member_of(workspace), referer="http://testserver/?q=tone")
    answer = client.post(SELECTED, {"csrfmiddlewaretoken": "x" * 64, "action": "delete"})
    assert answer.status_code == 403
    assert '<a class="button" href="/?q=tone">Load the page again</a>' in answer.content.decode()


def test_whose_ticked_files_are_and_who_may_is_asked_once_for_all(workspace: Workspace) -> None:
    uploads = [row(workspace, Status.COMPLETED) for _ in range(50)]
    client = sign_in(member_of(workspace))
    fields = {"csrfmiddlewaretoken": token_of(client), "action": "retry", "file": [upload.pk for upload in uploads]}
    with CaptureQueriesContext(connection) as queries:
        client.post(SELECTED, fields)
    about_roles = [query["sql"] for query in queries if "memberships" in query["sql"]]
    assert len(about_roles) == 2
    assert len(notices(client, "/")) == 50

"""What all pages of files have in common: who may see them, markup that holds nothing foreign, errors as pages."""

import pytest
from django.test import Client

from quotas.models import Membership, Workspace
from tests.api.rows import store_upload
from tests.factories import UserFactory, WorkspaceFactory, member_of, operator
from tests.uploads.pages import sign_in, token_of
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db
PAGES = ["/", "/upload/", "/trash/", "/files/{pk}/", "/files.csv", "/trash.csv"]


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(name="Archive & <b>attic</b>")
    return made


@pytest.mark.parametrize("path", [*PAGES, "/workspaces/{workspace}/empty-trash/"])
def test_who_is_not_signed_in_is_led_to_sign_in_and_back(path: str, workspace: Workspace) -> None:
    path = path.format(pk=store_upload(workspace).pk, workspace=workspace.pk)
    answer = Client().get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?next={path}")


@pytest.mark.parametrize("path", ["/", "/upload/", "/trash/", "/files/{pk}/", "/workspaces/{workspace}/empty-trash/"])
def test_every_page_holds_nothing_of_the_users_as_markup(path: str, workspace: Workspace) -> None:
    """Scripts come from our own files alone, no style is in the markup; one heading, a title and a language."""
    name = "<script>alert(1)</script>\"'&.mp3"
    state = Status.DELETED if "trash" in path else Status.FAILED
    upload = store_upload(workspace, original_filename=name, status=state, error_message="<i>broken</i>")
    tags = {"title": "<u>t</u>", "<u>own</u>": ["<u>a</u>", "<u>b</u>"]}
    AudioUpload.objects.filter(pk=upload.pk).update(metadata={"tags": tags})
    answer = sign_in(member_of(workspace, username="<h2>me</h2>")).get(
        path.format(pk=upload.pk, workspace=workspace.pk)
    )
    page = answer.content.decode()
    assert answer.status_code == 200
    assert page.count("<script") == page.count('<script src="/static/')
    for markup in ("alert(1)</script>", "<i>", "<u>", "<h2>me", "<b>attic", "style=", "onclick", "http://", "https://"):
        assert markup not in page.replace('xmlns="http://www.w3.org', "")
    assert '<html lang="en">' in page and page.count("<h1") == 1 and "<title>" in page


@pytest.mark.parametrize(
    "path", ["/", "/upload/", "/trash/", "/files/{pk}/", "/workspaces/", "/account/", "/account/tokens/"]
)
def test_a_page_can_be_asked_for_its_head(path: str, workspace: Workspace) -> None:
    """RFC 9110, section 9.1: what answers to GET answers to HEAD."""
    answer = sign_in(member_of(workspace)).head(path.format(pk=store_upload(workspace).pk))
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/files/{pk}/", "/files/{pk}/rename/", "/files/{pk}/link/", "/files/{pk}/delete/"])
def test_the_page_of_a_file_of_others_is_that_of_one_that_never_was(path: str, workspace: Workspace) -> None:
    """Promise 38. Word for word, to read and to post to."""
    upload = store_upload(workspace)
    client = sign_in(UserFactory())
    token = {"csrfmiddlewaretoken": token_of(client)}
    theirs, nobodys = path.format(pk=upload.pk), path.format(pk="0" * 8 + "-0000-4000-8000-" + "0" * 12)
    for answers in (
        [client.get(theirs), client.get(nobodys)],
        [client.post(each, token) for each in (theirs, nobodys)],
    ):
        assert answers[0].status_code == answers[1].status_code
        assert answers[0].status_code in (404, 405)
        assert answers[0].content == answers[1].content
    assert AudioUpload.objects.get().status == Status.COMPLETED


@pytest.mark.parametrize("path", PAGES)
def test_no_page_may_be_kept_by_others(path: str, workspace: Workspace) -> None:
    """Promise 52. Neither a page nor a list that is saved as a file."""
    answer = sign_in(member_of(workspace)).get(path.format(pk=store_upload(workspace).pk))
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "private, no-store"
    assert "Cookie" in answer["Vary"]
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "unsafe" not in answer["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing/", 404), ("/files/00000000-0000-0000-0000-000000000000/", 404), ("/files/x/", 404), ("/?q=%00", 400)],
)
def test_an_error_is_a_page_with_a_way_back(path: str, status: int) -> None:
    answer = sign_in(UserFactory()).get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert b"<h1>" in answer.content and b'href="/"' in answer.content


def test_a_form_that_is_too_large_for_a_page_is_a_413_page() -> None:
    client = sign_in(UserFactory())
    answer = client.post("/sign-in/", {"csrfmiddlewaretoken": token_of(client), "username": "x" * 1_100_000})
    assert answer.status_code == 413
    assert b"<h1>" in answer.content


def test_permissions_offer_as_much_as_an_owners_role(workspace: Workspace) -> None:
    upload = store_upload(workspace, status=Status.DELETED)
    page = sign_in(operator()).get(f"/files/{upload.pk}/").content.decode()
    assert "Take out of the trash" in page and "Delete for good" in page
    page = sign_in(member_of(workspace, Membership.Role.EDITOR)).get(f"/files/{upload.pk}/").content.decode()
    assert "Take out of the trash" in page and "Delete for good" not in page

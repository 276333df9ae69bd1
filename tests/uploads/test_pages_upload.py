"""The upload form as a browser without JavaScript sends it; what is refused is told in words on the form."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from urllib3 import encode_multipart_formdata

from quotas.models import Membership, StorageQuota, Workspace
from tests.audio import make_jpeg, make_mp3, make_png_bomb
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, member_of, operator
from tests.uploads.pages import post, sign_in, token_of
from uploads.models import AudioUpload

pytestmark = pytest.mark.django_db
EMPTY = ("", b"")


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory()
    return made


def upload_file(client: Client, **fields: Any) -> Any:
    """The form as a browser sends it: in the order of the page, empty fields too."""
    sent = {"csrfmiddlewaretoken": token_of(client), "thumbnail": EMPTY} | fields
    body, content_type = encode_multipart_formdata(sent)
    return client.generic("POST", "/upload/", body, content_type=content_type)


def test_a_file_is_uploaded_shown_thrown_away_and_taken_back(workspace: Workspace) -> None:
    user = member_of(workspace, Membership.Role.EDITOR)
    client = sign_in(user)
    answer = upload_file(
        client, workspace=workspace.slug, thumbnail=("t.jpg", make_jpeg()),
        file=("song.mp3", make_mp3()),
    )  # fmt: skip
    upload = AudioUpload.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/files/{upload.pk}/")
    assert (upload.workspace, upload.owner, bool(upload.thumbnail_path)) == (workspace, user, True)

    page = client.get(answer["Location"]).content.decode()
    assert f'<audio controls preload="metadata" src="/api/v1/uploads/{upload.pk}/content/"' in page
    assert f'src="/api/v1/uploads/{upload.pk}/thumbnail/"' in page
    assert "song.mp3" in client.get("/").content.decode()

    assert post(client, f"/files/{upload.pk}/delete/")["Location"] == f"/files/{upload.pk}/"
    page = client.get(f"/files/{upload.pk}/").content.decode()
    assert "<audio" not in page and "Take out of the trash" in page
    assert "song.mp3" not in client.get("/").content.decode()
    assert "song.mp3" in client.get("/trash/").content.decode()

    post(client, f"/files/{upload.pk}/undelete/")
    assert "song.mp3" in client.get("/").content.decode()
    assert "song.mp3" not in client.get("/trash/").content.decode()


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        (lambda: {"file": ("notes.mp3", b"hello " * 500)}, 415, "this is a text file"),
        (lambda: {"file": ("song.exe", make_mp3())}, 415, "exe"),
        (lambda: {"file": ("song.wav", make_mp3())}, 415, "WAV"),
        (lambda: {"file": ("song.mp3", b"")}, 400, "empty"),
        (lambda: {"file": EMPTY}, 400, "no name"),
        (lambda: {"file": "song.mp3"}, 400, "no name"),
        (lambda: {}, 400, "Choose a file"),
        (lambda: {"workspace": "nobodys", "file": ("song.mp3", make_mp3())}, 404, "not yours"),
        (
            lambda: {
                "thumbnail": ("t.png", make_png_bomb()),
                "file": ("song.mp3", make_mp3()),
            },
            422,
            "too large",
        ),
        (
            lambda: {
                "thumbnail": ("t.gif", b"GIF89a" + bytes(99)),
                "file": ("song.mp3", make_mp3()),
            },
            415,
            "JPEG, PNG or WebP",
        ),
    ],
)
def test_a_refused_upload_is_told_in_words_on_the_form_with_its_status(
    fields: Callable[[], dict[str, Any]], status: int, words: str
) -> None:
    answer = upload_file(sign_in(UserFactory()), **fields())
    page = answer.content.decode()
    assert answer.status_code == status
    assert words in re.search(r'<p class="notice bad" role="alert">(.*?)</p>', page)[1]  # type: ignore[index]
    assert '<input type="file" name="file"' in page
    assert not AudioUpload.objects.exists()


def test_a_full_workspace_is_told_in_words_and_stays_chosen(workspace: Workspace) -> None:
    StorageQuota.objects.create(workspace=workspace, max_storage_bytes=10)
    client = sign_in(member_of(workspace))
    answer = upload_file(client, workspace=workspace.slug, file=("song.mp3", make_mp3()))
    assert answer.status_code == 413
    assert "quota" in answer.content.decode()
    assert f'<option value="{workspace.slug}" selected>' in answer.content.decode()


def test_ones_own_workspace_is_offered_first_and_viewed_ones_are_not(workspace: Workspace) -> None:
    user = member_of(workspace, Membership.Role.EDITOR, username="zoe")
    viewed = MembershipFactory(user=user, role=Membership.Role.VIEWER).workspace
    page = sign_in(user).get("/upload/").content.decode()
    choice = re.search(r'<select name="workspace".*?</select>', page, re.DOTALL)
    assert choice
    offered = re.findall(r'<option value="([^"]+)"( selected)?', choice[0])
    assert offered == [("zoe", " selected"), (workspace.slug, "")]
    assert viewed.slug not in page


def test_staff_are_offered_the_workspaces_they_are_in_and_not_everybodys(workspace: Workspace) -> None:
    """They may put files into any; a page that named all of them would have no end."""
    StorageQuota.objects.create(workspace=workspace, max_storage_bytes=10)
    staff = operator(username="ines")
    mine = MembershipFactory(user=staff, role=Membership.Role.VIEWER).workspace
    client = sign_in(staff)
    page = client.get("/upload/").content.decode()
    assert re.findall(r'<option value="([^"]+)"', page.split("<footer")[0]) == ["ines", mine.slug]
    refused = upload_file(client, workspace=workspace.slug, file=("song.mp3", make_mp3())).content.decode()
    assert f'<option value="{workspace.slug}" selected>' in refused


@pytest.mark.parametrize("token", ["", "x" * 64, "behind"])
def test_a_form_without_its_token_stores_nothing(token: str) -> None:
    client = sign_in(UserFactory())
    sent = {"file": ("song.mp3", make_mp3())}
    fields = {"csrfmiddlewaretoken": token_of(client) if token == "behind" else token}
    body, content_type = encode_multipart_formdata(sent | fields if token == "behind" else fields | sent)
    answer = client.generic("POST", "/upload/", body, content_type=content_type)
    assert answer.status_code == 403
    assert b"load it again" in answer.content
    assert not AudioUpload.objects.exists()

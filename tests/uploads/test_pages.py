"""The pages as a browser without JavaScript has them: forms, links, and words where something is refused."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from urllib3 import encode_multipart_formdata

from quotas.models import Membership, StorageQuota, Workspace
from tests.api.rows import many_uploads, store_thumbnail, store_upload
from tests.audio import make_jpeg, make_mp3, make_png_bomb
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, member_of
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db
EMPTY = ("", b"")


@pytest.fixture(autouse=True)
def fast_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(name="Archive & <b>attic</b>")
    return made


@pytest.fixture
def signed_in() -> Callable[[Any], Client]:
    def sign_in(user: Any) -> Client:
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    return sign_in


def token_of(client: Client) -> str:
    """The CSRF token as the page's own form holds it."""
    page = client.get("/upload/").content.decode()
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]  # type: ignore[index]


def upload_file(client: Client, **fields: Any) -> Any:
    """The form as a browser sends it: in the order of the page, empty fields too."""
    sent = {"csrfmiddlewaretoken": token_of(client), "thumbnail": EMPTY} | fields
    body, content_type = encode_multipart_formdata(sent)
    return client.generic("POST", "/upload/", body, content_type=content_type)


PAGES = ["/", "/upload/", "/trash/", "/files/{pk}/"]


@pytest.mark.parametrize("path", PAGES)
def test_who_is_not_signed_in_is_led_to_sign_in_and_back(path: str, workspace: Workspace) -> None:
    path = path.format(pk=store_upload(workspace).pk)
    answer = Client().get(path)
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?next={path}")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_stands_alone_and_holds_nothing_of_the_users_as_markup(
    path: str, workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    """No script, no style in the markup, nothing from elsewhere; a heading, a title and a language."""
    name = "<script>alert(1)</script>\"'&.mp3"
    state = Status.DELETED if path == "/trash/" else Status.FAILED
    upload = store_upload(workspace, original_filename=name, status=state, error_message="<i>broken</i>")
    AudioUpload.objects.filter(pk=upload.pk).update(metadata={"tags": {"title": "<u>t</u>", "artist": "<u>a</u>"}})
    answer = signed_in(member_of(workspace, username="<h2>me</h2>")).get(path.format(pk=upload.pk))
    page = answer.content.decode()
    assert answer.status_code == 200
    for markup in ("<script", "<i>", "<u>", "<h2>me", "<b>attic", "style=", "onclick", "http://", "https://"):
        assert markup not in page.replace('xmlns="http://www.w3.org', "")
    assert '<html lang="en">' in page and page.count("<h1>") == 1 and "<title>" in page


def test_a_file_is_uploaded_shown_thrown_away_and_taken_back(
    workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    user = member_of(workspace, Membership.Role.EDITOR)
    client = signed_in(user)
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
    assert '<meta http-equiv="refresh"' in page
    assert "song.mp3" in client.get("/").content.decode()

    token = {"csrfmiddlewaretoken": token_of(client)}
    assert client.post(f"/files/{upload.pk}/delete/", token)["Location"] == f"/files/{upload.pk}/"
    page = client.get(f"/files/{upload.pk}/").content.decode()
    assert "<audio" not in page and "Take out of the trash" in page
    assert "song.mp3" not in client.get("/").content.decode()
    assert "song.mp3" in client.get("/trash/").content.decode()

    client.post(f"/files/{upload.pk}/undelete/", token)
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
        (lambda: {}, 400, "no file"),
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
    fields: Callable[[], dict[str, Any]], status: int, words: str, signed_in: Callable[[Any], Client]
) -> None:
    answer = upload_file(signed_in(UserFactory()), **fields())
    page = answer.content.decode()
    assert answer.status_code == status
    assert words in re.search(r'<p class="problem" role="alert">(.*?)</p>', page)[1]  # type: ignore[index]
    assert '<input type="file" name="file"' in page
    assert not AudioUpload.objects.exists()


def test_a_full_workspace_is_told_in_words_and_stays_chosen(
    workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    StorageQuota.objects.create(workspace=workspace, max_storage_bytes=10)
    client = signed_in(member_of(workspace))
    answer = upload_file(client, workspace=workspace.slug, file=("song.mp3", make_mp3()))
    assert answer.status_code == 413
    assert "quota" in answer.content.decode()
    assert f'<option value="{workspace.slug}" selected>' in answer.content.decode()


def test_ones_own_workspace_is_offered_first_and_viewed_ones_are_not(
    workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    user = member_of(workspace, Membership.Role.EDITOR, username="zoe")
    viewed = MembershipFactory(user=user, role=Membership.Role.VIEWER).workspace
    page = signed_in(user).get("/upload/").content.decode()
    assert re.findall(r'<option value="([^"]+)"( selected)?', page) == [("zoe", " selected"), (workspace.slug, "")]
    assert viewed.slug not in page


@pytest.mark.parametrize("token", ["", "x" * 64, "behind"])
def test_a_form_without_its_token_stores_nothing(token: str, signed_in: Callable[[Any], Client]) -> None:
    client = signed_in(UserFactory())
    sent = {"file": ("song.mp3", make_mp3())}
    fields = {"csrfmiddlewaretoken": token_of(client) if token == "behind" else token}
    body, content_type = encode_multipart_formdata(sent | fields if token == "behind" else fields | sent)
    answer = client.generic("POST", "/upload/", body, content_type=content_type)
    assert answer.status_code == 403
    assert b"load it again" in answer.content
    assert not AudioUpload.objects.exists()


@pytest.mark.parametrize("action", ["delete", "undelete", "retry"])
def test_actions_need_the_token_the_role_and_the_right_state(
    action: str, workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    states = {"delete": Status.COMPLETED, "undelete": Status.DELETED, "retry": Status.FAILED}
    upload = store_upload(workspace, status=states[action])
    address = f"/files/{upload.pk}/{action}/"
    editor = signed_in(member_of(workspace, Membership.Role.EDITOR))
    viewer = signed_in(member_of(workspace, Membership.Role.VIEWER))
    assert editor.post(address).status_code == 403
    assert viewer.post(address, {"csrfmiddlewaretoken": token_of(viewer)}).status_code == 403
    upload.refresh_from_db()
    assert upload.status == states[action]
    assert f'action="{address}"' not in viewer.get(f"/files/{upload.pk}/").content.decode()
    assert f'action="{address}"' in editor.get(f"/files/{upload.pk}/").content.decode()

    token = {"csrfmiddlewaretoken": token_of(editor)}
    assert editor.get(address).status_code == 405
    assert editor.post(address, token).status_code == 302
    again = editor.post(address, token)
    assert again.status_code == 409
    assert b"<h1>" in again.content and b"present state" in again.content


def test_a_failed_file_says_why_and_offers_another_try(
    workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    upload = store_upload(workspace, status=Status.FAILED, error_message="The sound ends early.")
    page = signed_in(member_of(workspace)).get(f"/files/{upload.pk}/").content.decode()
    assert "The sound ends early." in page and "Try again" in page
    assert "http-equiv" not in page


def test_what_is_known_of_a_file_is_shown_as_people_write_it(
    workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    upload = store_upload(workspace, duration="3725.4", sample_rate=44100, channels=2, bitrate=192, codec="mp3")
    store_thumbnail(upload, make_jpeg())
    page = signed_in(member_of(workspace)).get(f"/files/{upload.pk}/").content.decode()
    for words in ("1:02:05", "44100 Hz", "192 kbit/s", "2.0\xa0KB", upload.checksum_sha256, "Archive &amp; &lt;b&gt;"):
        assert words in page


@pytest.mark.parametrize(("path", "state"), [("/", Status.COMPLETED), ("/trash/", Status.DELETED)])
def test_older_files_stand_behind_a_link_each_once(
    path: str, state: Status, workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    many_uploads(workspace, 120, status=state, uploaded_at=timezone.now(), deleted_at=timezone.now())
    client = signed_in(member_of(workspace))
    seen: list[str] = []
    address = path
    while address:
        page = client.get(address).content.decode()
        seen += re.findall(r'href="/files/([0-9a-f-]+)/"', page)
        older = re.search(r'href="(\?before=[^"]+)"', page)
        address = path + older[1] if older else ""
    assert len(seen) == 120
    assert set(seen) == {str(pk) for pk in AudioUpload.objects.values_list("pk", flat=True)}


@pytest.mark.parametrize("before", ["x", "", "1", "00000000-0000-0000-0000-000000000000", "'"])
def test_a_place_in_the_list_that_is_none_is_its_beginning(
    before: str, workspace: Workspace, signed_in: Callable[[Any], Client]
) -> None:
    store_upload(workspace)
    answer = signed_in(member_of(workspace)).get("/", {"before": before})
    assert answer.status_code == 200
    assert b"tone.mp3" in answer.content


def test_an_empty_house_says_what_to_do(signed_in: Callable[[Any], Client]) -> None:
    client = signed_in(UserFactory())
    assert "Nothing here yet" in client.get("/").content.decode()
    assert "The trash is empty" in client.get("/trash/").content.decode()


def test_what_each_workspace_holds_is_told(workspace: Workspace, signed_in: Callable[[Any], Client]) -> None:
    StorageQuota.objects.create(workspace=workspace, max_storage_bytes=None)
    store_upload(workspace)
    WorkspaceFactory(name="Somebody else's")
    page = signed_in(member_of(workspace, username="ada")).get("/").content.decode()
    assert "Archive &amp; &lt;b&gt;attic&lt;/b&gt;: 2.0\xa0KB in 1 file" in page
    assert "ada: 0\xa0bytes of 100.0\xa0GB in 0 files" in page
    assert "Somebody else" not in page


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing/", 404), ("/files/00000000-0000-0000-0000-000000000000/", 404), ("/files/x/", 404), ("/?q=%00", 400)],
)
def test_an_error_is_a_page_with_a_way_back(path: str, status: int, signed_in: Callable[[Any], Client]) -> None:
    answer = signed_in(UserFactory()).get(path, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert b"<h1>" in answer.content and b'href="/"' in answer.content


def test_a_form_that_is_too_large_for_a_page_is_a_413_page(signed_in: Callable[[Any], Client]) -> None:
    client = signed_in(UserFactory())
    answer = client.post("/sign-in/", {"csrfmiddlewaretoken": token_of(client), "username": "x" * 1_100_000})
    assert answer.status_code == 413
    assert b"<h1>" in answer.content

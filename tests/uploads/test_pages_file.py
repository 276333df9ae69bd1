"""A file's page: what is known, where it stands and why, what happened, and what can be done by whom."""

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from quotas.models import Membership, StorageQuota, Workspace
from tests.api.rows import store_thumbnail, store_upload
from tests.audio import make_jpeg
from tests.factories import UserFactory, WorkspaceFactory, member_of
from tests.uploads.pages import notices, post, sign_in, token_of
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory(name="Radio", slug="radio")
    return made


def page_of(workspace: Workspace, upload: AudioUpload, role: str = Membership.Role.OWNER) -> str:
    answer = sign_in(member_of(workspace, role)).get(f"/files/{upload.pk}/")
    assert answer.status_code == 200
    text: str = answer.content.decode()
    return text


def test_what_is_known_of_a_file_is_shown_as_people_write_it(workspace: Workspace) -> None:
    upload = store_upload(
        workspace, duration="3725.4", sample_rate=44100, channels=2, bitrate=1411, codec="mp3float",
        uploaded_at=datetime(2026, 1, 2, 15, 4, tzinfo=UTC),
        metadata={"tags": {"isrc": "X1", "artist": ["One", "Two"], "title": "A song"}},
    )  # fmt: skip
    store_thumbnail(upload, make_jpeg())
    page = page_of(workspace, upload)
    for words in (
        *("1:02:05", "44,100 Hz", "1,411 kbit/s", "2.0\xa0KB", "2,048 bytes", "2 (stereo)", "MP3", "mp3float"),
        *("Jan. 2, 2026, 3:04 p.m.", upload.checksum_sha256, "A song", "One; Two", "X1", 'href="/?workspace=radio"'),
        f'src="/api/v1/uploads/{upload.pk}/thumbnail/"',
    ):
        assert words in page
    assert page.index("A song") < page.index("One; Two") < page.index("X1")


def test_what_is_not_known_is_left_out(workspace: Workspace) -> None:
    page = page_of(workspace, store_upload(workspace, checksum_sha256=""))
    for words in ("Length", "Sample rate", "Channels", "Bitrate", "SHA-256", "thumbnail", "None"):
        assert words not in page


@pytest.mark.parametrize(
    ("status", "columns", "words"),
    [
        (Status.UPLOADED, {}, "It has arrived and is safe."),
        (Status.UPLOADED, {"error_code": "storage_unavailable"}, "AudioTricks tries again."),
        (Status.VALIDATING, {}, "compared with what you sent"),
        (Status.PROCESSING, {}, "are being read"),
        (Status.FAILED, {"error_code": "truncated_audio", "error_message": "It ends at 3 s."}, "It ends at 3 s."),
        (Status.FAILED, {"error_code": "truncated_audio"}, "The audio ends before its own header says it does."),
        (Status.FAILED, {"error_code": "of_another_age"}, "Something unexpected went wrong."),
        (Status.ARCHIVED, {}, "ask an administrator to bring it back"),
        (Status.RESTORING, {}, "It is coming back"),
        (Status.ARCHIVING, {}, "on its way into the archive"),
        (Status.COMPLETED, {"legal_hold": True}, "Only an administrator can release it."),
    ],
)
def test_where_a_file_stands_is_told_with_what_to_do(
    status: Status, columns: dict[str, Any], words: str, workspace: Workspace
) -> None:
    assert words in page_of(workspace, store_upload(workspace, status=status, **columns))


def test_a_file_in_the_trash_says_until_when_it_stays(workspace: Workspace, settings: Any) -> None:
    settings.TRASH_DAYS = 30
    upload = store_upload(workspace, status=Status.DELETED, deleted_at=datetime(2026, 1, 1, tzinfo=UTC))
    page = page_of(workspace, upload)
    assert "It goes for good on Jan. 31, 2026." in page
    assert "<audio" not in page and "Download" not in page and "Make a link" not in page


@pytest.mark.parametrize("status", [Status.UPLOADED, Status.VALIDATING, Status.PROCESSING, Status.RESTORING])
def test_while_a_file_moves_its_page_looks_again(status: Status, workspace: Workspace) -> None:
    page = page_of(workspace, store_upload(workspace, status=status))
    assert '<noscript><meta http-equiv="refresh"' in page
    assert '<div id="status" data-live data-busy' in page
    page = page_of(workspace, store_upload(workspace))
    assert "http-equiv" not in page and "data-busy" not in page


@pytest.mark.parametrize(
    ("status", "legal_hold", "offered"),
    [
        (Status.COMPLETED, False, {"delete"}),
        (Status.FAILED, False, {"delete", "retry"}),
        (Status.FAILED, True, {"retry"}),
        (Status.DELETED, False, {"undelete"}),
        (Status.ARCHIVING, False, set()),
        (Status.ARCHIVED, False, {"delete"}),
    ],
)
def test_only_what_the_state_and_the_role_allow_is_offered(
    status: Status, legal_hold: bool, offered: set[str], workspace: Workspace
) -> None:
    upload = store_upload(workspace, status=status, legal_hold=legal_hold)
    actions = re.compile(rf'action="/files/{upload.pk}/(delete|undelete|retry)/"')
    assert set(actions.findall(page_of(workspace, upload, Membership.Role.EDITOR))) == offered
    viewed = page_of(workspace, upload, Membership.Role.VIEWER)
    assert actions.findall(viewed) == []
    assert "/rename/" not in viewed


@pytest.mark.parametrize("action", ["delete", "undelete", "retry"])
def test_actions_need_the_token_the_role_and_the_right_state(action: str, workspace: Workspace) -> None:
    states = {"delete": Status.COMPLETED, "undelete": Status.DELETED, "retry": Status.FAILED}
    upload = store_upload(workspace, status=states[action])
    address = f"/files/{upload.pk}/{action}/"
    editor = sign_in(member_of(workspace, Membership.Role.EDITOR))
    viewer = sign_in(member_of(workspace, Membership.Role.VIEWER))
    assert editor.post(address).status_code == 403
    assert post(viewer, address).status_code == 403
    upload.refresh_from_db()
    assert upload.status == states[action]

    assert editor.get(address).status_code == 405
    assert post(editor, address)["Location"] == f"/files/{upload.pk}/"
    assert [level for level, _ in notices(editor, f"/files/{upload.pk}/")] == ["success"]
    upload.refresh_from_db()
    moved = upload.status
    assert moved != states[action]
    post(editor, address)
    ((level, words),) = notices(editor, f"/files/{upload.pk}/")
    assert level == "error" and words.startswith("tone.mp3: ")
    upload.refresh_from_db()
    assert upload.status == moved


def test_a_full_quota_keeps_a_file_in_the_trash_and_says_why(workspace: Workspace) -> None:
    StorageQuota.objects.create(workspace=workspace, max_file_count=0)
    upload = store_upload(workspace, status=Status.DELETED)
    client = sign_in(member_of(workspace))
    post(client, f"/files/{upload.pk}/undelete/")
    ((level, words),) = notices(client, f"/files/{upload.pk}/")
    assert level == "error" and "file" in words
    upload.refresh_from_db()
    assert upload.status == Status.DELETED


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("new name.mp3", "new name.mp3"),
        ("new name.MP3", "new name.MP3"),
        ("new name", "new name.mp3"),
        ("take 1.2", "take 1.2.mp3"),
        ("../../etc/passwd", "passwd.mp3"),
        ("C:\\music\\song.mp3", "song.mp3"),
        ("a\r\nSet-Cookie: b.mp3", "aSet-Cookie: b.mp3"),
        ("song\u202e3pm.mp3", "song3pm.mp3"),
        ("x" * 500, "x" * 496 + ".mp3"),
    ],
)
def test_a_file_is_renamed_to_what_is_left_of_a_name_that_is_safe(
    given: str, stored: str, workspace: Workspace
) -> None:
    """Promises 39 and 43. The object keeps its own name; the header that carries this one is one safe line."""
    upload = store_upload(workspace)
    client = sign_in(member_of(workspace, Membership.Role.EDITOR))
    answer = post(client, f"/files/{upload.pk}/rename/", name=given)
    assert answer.status_code == 302
    renamed = AudioUpload.objects.get()
    assert renamed.original_filename == stored
    assert renamed.storage_path == upload.storage_path
    content = client.get(f"/api/v1/uploads/{upload.pk}/content/?download")
    header = content["Content-Disposition"]
    content.close()
    assert header.isascii() and header.isprintable()


@pytest.mark.parametrize(
    ("given", "words"),
    [("", "required"), ("  ", "required"), ("/", "Nothing is left"), ("song.wav", "Keep the ending .mp3")],
)
def test_a_name_that_cannot_be_is_told_beside_its_field(given: str, words: str, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    answer = post(sign_in(member_of(workspace)), f"/files/{upload.pk}/rename/", name=given)
    page = answer.content.decode()
    assert answer.status_code == 400
    assert words in re.search(r'<ul class="errors".*?</ul>', page, re.DOTALL)[0]  # type: ignore[index]
    assert 'aria-invalid="true"' in page and 'id="history"' in page
    assert AudioUpload.objects.get().original_filename == "tone.mp3"


def test_renaming_and_acting_change_nothing_that_a_form_was_forged_to_hold(workspace: Workspace) -> None:
    """Promises 39 and 40. Whatever stands beside the fields that the page has."""
    upload = store_upload(workspace)
    other = WorkspaceFactory()
    before = AudioUpload.objects.filter(pk=upload.pk).values().get()
    forged = {
        "storage_path": "../../etc/passwd", "storage_provider": "default", "status": "completed", "file_size": "1",
        "workspace": other.pk, "owner": "1", "legal_hold": "on", "checksum_sha256": "0" * 64, "id": other.pk,
        "original_filename": "forged.mp3", "deleted_at": "2020-01-01", "duplicate_of": upload.pk, "reason": "x",
    }  # fmt: skip
    client = sign_in(member_of(workspace))
    post(client, f"/files/{upload.pk}/rename/", name="named.mp3", **forged)
    post(client, f"/files/{upload.pk}/delete/", **forged)
    post(client, f"/files/{upload.pk}/undelete/", **forged)
    after = AudioUpload.objects.filter(pk=upload.pk).values().get()
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"original_filename", "folded_filename", "processing_completed_at"}
    assert after["original_filename"] == "named.mp3"


def test_viewers_rename_nothing(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    client = sign_in(member_of(workspace, Membership.Role.VIEWER))
    assert post(client, f"/files/{upload.pk}/rename/", name="x.mp3").status_code == 403
    assert client.post(f"/files/{upload.pk}/rename/", {"name": "x.mp3"}).status_code == 403
    assert AudioUpload.objects.get().original_filename == "tone.mp3"


def test_the_history_is_in_words_oldest_first(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    user = member_of(workspace, username="ada")
    client = sign_in(user)
    token = {"csrfmiddlewaretoken": token_of(client)}
    client.post(f"/files/{upload.pk}/rename/", {**token, "name": "<new>.mp3"})
    client.post(f"/files/{upload.pk}/delete/", token)
    page = client.get(f"/files/{upload.pk}/").content.decode()
    renamed = page.index("ada renamed the file from “tone.mp3” to “&lt;new&gt;.mp3”.")
    assert renamed < page.index("ada moved the file to the trash.")


def test_a_very_long_history_is_shown_from_its_newest_part(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    UploadEvent.objects.bulk_create(
        UploadEvent(upload_id=upload.pk, workspace=workspace, action="renamed", details={"from": "", "to": f"n{n}"})
        for n in range(230)
    )
    page = page_of(workspace, upload)
    assert page.count("<li>") == 200
    assert "“n29”" not in page and "“n30”" in page and "“n229”" in page


def test_a_page_costs_the_same_for_a_short_and_for_a_long_history(workspace: Workspace) -> None:
    upload = store_upload(workspace)
    client = sign_in(member_of(workspace))
    client.get("/")
    costs = []
    for count in (1, 50):
        for number in range(count):
            UploadEvent.objects.create(
                upload_id=upload.pk, workspace=workspace, actor=UserFactory(), from_status="uploaded",
                action=["failed", "step_done", "renamed"][number % 3], details={"error_code": "media_error"},
            )  # fmt: skip
        with CaptureQueriesContext(connection) as queries:
            client.get(f"/files/{upload.pk}/")
        costs.append(len(queries))
    assert costs[0] == costs[1]
    assert costs[0] <= 6

"""The administration of files: finding them, their page, and what nobody can set there."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from audiotricks.models import EncryptionKey
from quotas.models import QuotaReservation, Workspace
from tests.api.rows import many_uploads, store_thumbnail, store_upload
from tests.audio import make_jpeg
from tests.factories import StorageQuotaFactory, UserFactory, WorkspaceFactory
from tests.uploads.life import row
from tests.uploads.staff import FILES, ask, client_of, page_of, staff_with, superuser
from uploads.actions import file_actions
from uploads.actions.bulk import start
from uploads.actions.holds import set_legal_hold
from uploads.actions.retry import RETRY
from uploads.lifecycle import events
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db

SHA256 = "0123456789abcdef" * 4
MD5 = "fedcba9876543210" * 2


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = StorageQuotaFactory(workspace__name="The archive").workspace
    return made


@pytest.fixture
def client() -> Client:
    return superuser()


def listed(client: Client, query: str) -> set[str]:
    """The names in the list, as the change list has them."""
    answer = client.get(FILES + query)
    assert answer.status_code == 200
    return {upload.original_filename for upload in answer.context["cl"].result_list}


# Finding


def test_one_box_finds_by_id_hash_path_and_part_of_the_name(client: Client, workspace: Workspace) -> None:
    wanted = row(
        workspace,
        Status.COMPLETED,
        original_filename="Intérview 7.wav",
        checksum_sha256=SHA256,
        checksum_md5=MD5,
        storage_path="audio/some/where.wav",
    )
    row(workspace, Status.COMPLETED, original_filename="Another.wav", checksum_sha256="f" * 64, checksum_md5="f" * 32)
    for term in (str(wanted.pk), wanted.pk.hex, SHA256, SHA256.upper(), f" {MD5} ", wanted.storage_path):
        assert listed(client, f"?q={term}") == {"Intérview 7.wav"}, term
    for term in ("interv", "NTÉRV", "rview 7.w", "ew+7", " 7"):
        assert listed(client, f"?q={term}") == ({"Intérview 7.wav"} if term != "interv" else set()), term
    for term in ("nothing", "audio/some/where", SHA256[:63], str(uuid.uuid4())):
        assert listed(client, f"?q={term}") == set(), term
    assert listed(client, "?q=+") == {"Intérview 7.wav", "Another.wav"}


@pytest.mark.parametrize("term", ["a", "%", "_", "'", "\\", "100% pure", "ß", "日本語", "a" * 400, "x'; --"])
def test_any_text_can_be_looked_for(client: Client, workspace: Workspace, term: str) -> None:
    row(workspace, Status.COMPLETED, original_filename=f"so {term}.ogg")
    row(workspace, Status.COMPLETED, original_filename="tune.ogg")
    answer = client.get(FILES, {"q": term})
    names = [upload.original_filename for upload in answer.context["cl"].result_list]
    assert names == [f"so {term}.ogg"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?status__exact=failed", {"failed"}),
        ("?status__exact=receiving", {"receiving"}),
        ("?status__exact=deleted", {"trashed"}),
        ("?error=truncated_audio", {"failed"}),
        ("?error=worker_lost", set()),
        ("?file_type=mp3", {"an mp3"}),
        ("?storage_provider=local", {"failed", "receiving", "trashed", "an mp3", "held", "twin", "old", "owned"}),
        ("?held=yes", {"held"}),
        ("?duplicate=yes", {"twin"}),
        ("?uploaded_at_from=2020-01-01&uploaded_at_to=2020-01-02", {"old"}),
        ("?uploaded_at_from=2020-01-03&uploaded_at_to=2020-01-04", set()),
        ("?uploaded_at_to=9999-12-31&status__exact=failed", {"failed"}),
        ("?uploaded_at_from=nonsense&status__exact=failed", {"failed"}),
        ("?status__exact=failed&error=&held=&file_type=&uploaded_at_from=&uploaded_at_to=", {"failed"}),
    ],
)
def test_each_filter_shows_what_it_says(client: Client, workspace: Workspace, query: str, names: set[str]) -> None:
    row(workspace, Status.FAILED, original_filename="failed", error_code="truncated_audio")
    row(workspace, Status.RECEIVING, original_filename="receiving")
    row(workspace, Status.DELETED, original_filename="trashed")
    row(workspace, Status.COMPLETED, original_filename="an mp3", file_type="mp3")
    held = row(workspace, Status.COMPLETED, original_filename="held", legal_hold=True)
    row(workspace, Status.COMPLETED, original_filename="twin", duplicate_of=held)
    end_of_day = datetime(2020, 1, 2, 23, 59, tzinfo=UTC)
    row(workspace, Status.COMPLETED, original_filename="old", uploaded_at=end_of_day)
    row(workspace, Status.COMPLETED, original_filename="owned", owner=UserFactory())
    assert listed(client, query) == names


def test_a_list_that_no_index_serves_is_counted_to_a_thousand(client: Client, workspace: Workspace) -> None:
    many_uploads(workspace, 1010)
    counts = {query: client.get(FILES + query).context["cl"].result_count for query in ("", "?file_type=mp3")}
    assert counts == {"": 1010, "?file_type=mp3": 1000}


def test_whose_files_they_are_narrows_the_list(client: Client, workspace: Workspace) -> None:
    owned = row(workspace, Status.COMPLETED, original_filename="owned", owner=UserFactory())
    row(WorkspaceFactory(), Status.COMPLETED, original_filename="elsewhere")
    assert listed(client, f"?workspace__id__exact={workspace.pk}") == {"owned"}
    assert listed(client, f"?owner__id__exact={owned.owner_id}") == {"owned"}


def test_the_list_says_what_people_ask(client: Client, workspace: Workspace) -> None:
    row(workspace, Status.FAILED, original_filename="talk.wav", file_size=3 * 1024**2, duration="3725.4")
    row(workspace, Status.COMPLETED, legal_hold=True)
    page = client.get(FILES).content.decode()
    for words in ("talk.wav", "The archive", "Failed", "3.0\xa0MB", "1:02:05", "On hold"):
        assert words in page, words


@pytest.mark.parametrize(
    "query", ["", "?q=tone", "?status__exact=completed", "?q=1b671a64-40d5-491e-99b0-da01ff1f3341"]
)
def test_the_list_asks_as_many_questions_for_fifty_files_as_for_one(
    client: Client, workspace: Workspace, query: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    many_uploads(workspace, 1, owner=UserFactory())
    client.get(FILES + query)
    with CaptureQueriesContext(connection) as asked:
        client.get(FILES + query)
    many_uploads(workspace, 49, owner=UserFactory(), legal_hold=True)
    with django_assert_num_queries(len(asked)):
        assert client.get(FILES + query).status_code == 200


def test_the_list_never_counts_the_whole_table(client: Client, workspace: Workspace) -> None:
    many_uploads(workspace, 3)
    with CaptureQueriesContext(connection) as asked:
        client.get(FILES)
    counts = [query["sql"] for query in asked if "COUNT(" in query["sql"].upper() and "audio_uploads" in query["sql"]]
    assert counts and all("LIMIT 10000" in count for count in counts)


# The page of one file


def full_of_facts(workspace: Workspace) -> AudioUpload:
    """A file that has something in nearly every column, and a history."""
    owner = UserFactory(username="ada")
    reservation = QuotaReservation.objects.create(
        workspace=workspace, bytes=1, month="2026-01-01", expires_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    upload = store_upload(
        workspace,
        owner=owner,
        reservation=reservation,
        original_filename="<b>talk</b>.mp3",
        duration="61.5",
        sample_rate=44_100,
        channels=2,
        codec="mp3",
        metadata={"tags": {"title": "<i>Talk</i>"}},
        storage_url="local:///audio/x",
        storage_region="here",
        storage_class="COLD",
        encryption_key=EncryptionKey.objects.create(provider="aws-kms", key_reference="arn:key"),
    )
    store_thumbnail(upload, make_jpeg())
    events.record_event(upload, "uploaded", actor=owner)
    set_legal_hold(upload, held=True, actor=owner, reason="Case 4711")
    return upload


def test_the_page_of_a_file_shows_the_whole_of_its_life(client: Client, workspace: Workspace) -> None:
    upload = full_of_facts(workspace)
    twin = row(workspace, Status.COMPLETED, original_filename="twin.mp3", storage_path=upload.storage_path)
    start(RETRY, AudioUpload.objects.filter(pk=upload.pk), actor=UserFactory())
    page = client.get(page_of(upload)).content.decode()
    for words in (
        *("<audio", f"/api/v1/uploads/{upload.pk}/content/", f"/api/v1/uploads/{upload.pk}/thumbnail/"),
        *("1:02", "44,100 Hz", upload.checksum_sha256, upload.checksum_md5, "&lt;i&gt;Talk&lt;/i&gt;"),
        *("ada uploaded the file.", "ada put the file on hold.", "Case 4711", "On hold"),
        *(upload.storage_path, "local:///audio/x", "here", "COLD", upload.thumbnail_path),
        *(page_of(twin), "twin.mp3", "Process again", str(upload.pk)),
        *(f"/admin/quotas/workspace/{workspace.pk}/change/", f"/admin/auth/user/{upload.owner_id}/change/"),
        f"/admin/quotas/quotareservation/{upload.reservation_id}/change/",
    ):
        assert words in page, words
    assert "<b>talk" not in page and "<i>Talk" not in page


def test_a_failed_file_says_why(client: Client, workspace: Workspace) -> None:
    upload = row(workspace, Status.FAILED, error_code="truncated_audio", error_message="It ends after 3 s.")
    page = client.get(page_of(upload)).content.decode()
    assert "The audio ends before its own header says it does" in page
    assert "It ends after 3 s." in page and "truncated_audio" in page


@pytest.mark.parametrize(
    ("status", "held", "offered"),
    [
        (Status.RECEIVING, False, set()),
        (Status.UPLOADED, False, {"delete", "hold", "verify"}),
        (Status.COMPLETED, False, {"delete", "hold", "verify"}),
        (Status.COMPLETED, True, {"release", "verify"}),
        (Status.FAILED, False, {"delete", "hold", "retry", "verify"}),
        (Status.DELETED, False, {"undelete", "purge", "verify"}),
        (Status.PURGED, False, set()),
    ],
)
def test_the_page_offers_what_the_state_allows(
    client: Client, workspace: Workspace, status: Status, held: bool, offered: set[str]
) -> None:
    upload = row(workspace, status, legal_hold=held)
    answer = client.get(page_of(upload))
    assert {action.name for action in answer.context["possible"]} == offered
    page = answer.content.decode()
    for action in file_actions():
        assert (f'name="action" value="{action.name}"' in page) == (action.name in offered)
    assert ("<audio" in page) == (status not in (Status.RECEIVING, Status.DELETED, Status.PURGED))


def test_the_page_asks_as_many_questions_whatever_hangs_on_the_file(
    client: Client, workspace: Workspace, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    upload = full_of_facts(workspace)
    row(workspace, Status.COMPLETED, storage_path=upload.storage_path)
    start(RETRY, AudioUpload.objects.filter(pk=upload.pk), actor=UserFactory())
    client.get(page_of(upload))
    with CaptureQueriesContext(connection) as asked:
        client.get(page_of(upload))
    for number in range(30):
        row(workspace, Status.COMPLETED, storage_path=upload.storage_path)
        events.record_event(upload, "thumbnail_set", actor=UserFactory(username=f"editor {number}"))
        start(RETRY, AudioUpload.objects.filter(pk=upload.pk), actor=UserFactory())
    with django_assert_num_queries(len(asked)):
        assert client.get(page_of(upload)).status_code == 200


# What can be changed by hand


def test_staff_rename_a_file_and_its_history_says_so(client: Client, workspace: Workspace) -> None:
    upload = store_upload(workspace, original_filename="old.mp3")
    answer = client.post(page_of(upload), {"original_filename": "../new.mp3"})
    assert answer.status_code == 302
    upload.refresh_from_db()
    assert upload.original_filename == "new.mp3"
    event = UploadEvent.objects.get(upload_id=upload.pk, action="renamed")
    assert (event.actor.username, event.details) == ("root", {"from": "old.mp3", "to": "new.mp3"})
    client.post(page_of(upload), {"original_filename": "new.mp3"})
    assert UploadEvent.objects.filter(action="renamed").count() == 1


@pytest.mark.parametrize("name", ["", "talk.wav", "\u202e"])
def test_a_name_that_cannot_be_is_refused_in_words(client: Client, workspace: Workspace, name: str) -> None:
    upload = store_upload(workspace, original_filename="old.mp3")
    answer = client.post(page_of(upload), {"original_filename": name})
    assert answer.status_code == 200
    assert answer.context["adminform"].form.errors["original_filename"]
    upload.refresh_from_db()
    assert upload.original_filename == "old.mp3"


def test_a_forged_post_sets_no_other_column(client: Client, workspace: Workspace) -> None:
    """Promises 39 and 40. Not the path, not the state, not the hold, not the owner: only the name."""
    upload = store_upload(workspace, original_filename="old.mp3")
    before = AudioUpload.objects.filter(pk=upload.pk).values().get()
    other = WorkspaceFactory()
    forged = {
        field.name: "1" for field in AudioUpload._meta.concrete_fields if field.name not in ("id", "original_filename")
    }
    forged |= {
        "id": str(uuid.uuid4()),
        "storage_path": "../../etc/passwd",
        "storage_provider": "elsewhere",
        "status": "purged",
        "legal_hold": "on",
        "workspace": str(other.pk),
        "original_filename": "new.mp3",
    }
    assert client.post(page_of(upload), forged).status_code == 302
    after = AudioUpload.objects.filter(pk=upload.pk).values().get()
    assert after == before | {"original_filename": "new.mp3", "folded_filename": "new.mp3"}


@pytest.mark.parametrize("status", [Status.RECEIVING, Status.DELETED, Status.PURGED])
def test_what_is_on_its_way_in_or_out_keeps_its_name(client: Client, workspace: Workspace, status: Status) -> None:
    upload = row(workspace, status)
    client.post(page_of(upload), {"original_filename": "new.wav"})
    upload.refresh_from_db()
    assert upload.original_filename == "row.wav"


def test_files_are_neither_added_nor_deleted_behind_the_services(client: Client, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    assert client.get(f"{FILES}add/").status_code == 403
    assert client.post(f"{FILES}{upload.pk}/delete/", {"post": "yes"}).status_code == 403
    ask(client, "delete_selected", upload, post="yes")
    assert AudioUpload.objects.filter(pk=upload.pk, status=Status.COMPLETED).exists()


# Who may


def test_staff_who_may_only_look_can_change_nothing(workspace: Workspace) -> None:
    upload = store_upload(workspace, original_filename="old.mp3")
    viewer = staff_with("view_audioupload")
    page = viewer.get(page_of(upload))
    assert page.status_code == 200
    assert page.context["possible"] == []
    assert viewer.post(page_of(upload), {"original_filename": "new.mp3"}).status_code == 403
    assert viewer.get(FILES).status_code == 200
    upload.refresh_from_db()
    assert upload.original_filename == "old.mp3"


def test_who_is_no_staff_or_lacks_the_right_sees_nothing(workspace: Workspace) -> None:
    """Promise 38."""
    upload = store_upload(workspace)
    for address in (FILES, page_of(upload), "/admin/uploads/uploadevent/", "/admin/uploads/bulkaction/"):
        assert client_of(UserFactory()).get(address).status_code == 302
        assert staff_with().get(address).status_code == 403


# CSV


def csv_of(client: Client, *uploads: AudioUpload, across: str = "") -> str:
    answer: Any = ask(client, "download_as_csv", *uploads, across=across)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="files.csv"'
    text: str = answer.getvalue().decode()
    return text


def test_a_spreadsheet_runs_nothing_of_what_is_downloaded(client: Client, workspace: Workspace) -> None:
    """Promise 48."""
    uploads = [
        row(workspace, Status.COMPLETED, original_filename=f"{start}cmd|calc.wav") for start in ("=", "+", "-", "@")
    ]
    lines = csv_of(client, *uploads).splitlines()
    assert len(lines) == 1 + len(uploads)
    assert sorted(line.split(",")[1] for line in lines[1:]) == sorted(
        f'"\'{upload.original_filename}"' for upload in uploads
    )


def test_all_files_of_a_list_are_downloaded_not_only_those_on_the_page(client: Client, workspace: Workspace) -> None:
    uploads = many_uploads(workspace, 60, owner=UserFactory())
    many_uploads(WorkspaceFactory(), 3)
    text = csv_of(client, uploads[0], across=f"?workspace__id__exact={workspace.pk}")
    assert len(text.splitlines()) == 61
    assert all(str(upload.pk) in text for upload in uploads)

"""The files of a workspace over REST: listed, found, renamed, thrown away, taken back."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.tokens import create_token
from quotas.models import StorageQuota, Workspace
from tests.api.answers import body_of
from tests.api.rows import many_uploads, store_upload
from tests.audio import make_mp3
from tests.factories import WorkspaceFactory, client_for, member_of
from tests.uploads.life import names_in
from uploads.actions.holds import set_legal_hold
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db
LIST = "/api/v1/uploads/"


@pytest.fixture
def user(workspace: Workspace) -> Any:
    return member_of(workspace)


@pytest.fixture
def client(user: Any) -> APIClient:
    return client_for(user)


def detail(upload: AudioUpload) -> str:
    return f"{LIST}{upload.pk}/"


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()["results"]]


def test_the_answer_has_every_column_of_the_row(client: APIClient, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    row = client.get(detail(upload)).json()
    ours = {"reservation", "encryption_key", "folded_filename", "stored_object", "thumbnail_object"}
    columns = {field.name for field in AudioUpload._meta.concrete_fields} - ours
    assert set(row) == columns | {"encryption_key_id", "files_ahead", "has_thumbnail"}
    assert (row["file_size"], row["duration"], row["status"]) == (upload.file_size, None, "completed")


def test_forged_fields_are_ignored(client: APIClient, workspace: Workspace) -> None:
    """Promises 39 and 40. Only the name is the client's: path, checksums, sizes, state and owner are ours to say."""
    upload = store_upload(workspace)
    other = WorkspaceFactory()
    before = client.get(detail(upload)).json()
    forged: dict[str, Any] = {name: "../../etc/passwd" for name in before if name != "original_filename"}
    forged |= {"file_size": 1, "status": "deleted", "legal_hold": True, "workspace": str(other.pk), "owner": 1}
    answer = client.patch(detail(upload), forged)
    assert (answer.status_code, answer.json()) == (200, before)

    answer = client.patch(detail(upload), {**forged, "original_filename": "new.mp3"})
    assert (answer.status_code, answer.json()) == (200, {**before, "original_filename": "new.mp3"})
    assert not UploadEvent.objects.exclude(action="renamed").exists()


def test_forged_fields_of_an_upload_are_ignored(client: APIClient, workspace: Workspace) -> None:
    """Promises 39 and 40."""
    data = make_mp3()
    forged = {
        "storage_path": "../../../tmp/x.mp3", "storage_provider": "other", "checksum_sha256": "0" * 64,
        "file_size": "1", "status": "completed", "owner": "1", "id": str(uuid.uuid4()), "legal_hold": "true",
        "duration": "9", "mime_type": "text/html", "thumbnail_path": "x", "metadata": "{}",
    }  # fmt: skip
    sent = {**forged, "workspace": workspace.slug, "file": SimpleUploadedFile("one.mp3", data, "text/html")}
    answer = client.post(LIST, sent, format="multipart")
    assert answer.status_code == 201, answer.content
    row = answer.json()
    assert row["storage_path"] == f"audio/{row['id']}/audio.mp3"
    assert row["id"] != forged["id"]
    assert (row["file_size"], row["mime_type"], row["status"]) == (len(data), "audio/mpeg", "uploaded")
    assert sorted(names_in("local")) == [row["storage_path"]]


def test_lists_hold_what_has_arrived_and_the_trash_only_when_asked(client: APIClient, workspace: Workspace) -> None:
    rows = {state: store_upload(workspace, status=state) for state in Status}
    hidden = (Status.RECEIVING, Status.DELETED, Status.PURGED)
    assert set(ids(client.get(LIST))) == {str(rows[state].pk) for state in Status if state not in hidden}
    for state in Status:
        answer = client.get(LIST, {"status": state})
        if state in (Status.RECEIVING, Status.PURGED):
            assert (answer.status_code, list(answer.json()["errors"])) == (400, ["status"])
            assert client.get(detail(rows[state])).status_code == 404
        else:
            assert ids(answer) == [str(rows[state].pk)]
            assert client.get(detail(rows[state])).status_code == 200


def test_a_list_has_everything_but_the_tags(client: APIClient, workspace: Workspace) -> None:
    """Promise 62. A page of the largest tags would be as large as an album."""
    upload = store_upload(workspace)
    AudioUpload.objects.filter(pk=upload.pk).update(metadata={"tags": {"title": "x" * 60_000}})
    [listed] = client.get(LIST).json()["results"]
    single = client.get(detail(upload)).json()
    assert single.pop("files_ahead") is None
    assert single.pop("metadata") == {"tags": {"title": "x" * 60_000}}
    assert listed == single


def test_filters_find_by_workspace_type_checksum_and_part_of_the_name(client: APIClient, workspace: Workspace) -> None:
    first = store_upload(workspace, original_filename="Interview_100%.mp3")
    second = store_upload(workspace, original_filename="concert.wav", file_type="wav", content=b"other")
    for query, expected in [
        ({"q": "interview"}, [first]),
        ({"q": "100%"}, [first]),
        ({"q": "%"}, [first]),
        ({"q": "_"}, [first]),
        ({"q": "nothing"}, []),
        ({"q": "'; drop table audio_uploads; --"}, []),
        ({"file_type": "wav"}, [second]),
        ({"checksum_sha256": first.checksum_sha256.upper()}, [first]),
        ({"workspace": workspace.slug, "q": "c"}, [second]),
        ({"workspace": str(workspace.pk), "file_type": "mp3"}, [first]),
        ({"unknown": "x"}, [second, first]),
    ]:
        assert ids(client.get(LIST, query)) == [str(upload.pk) for upload in expected], query


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("status=nonsense", "invalid"),
        ("page_size=0", "invalid"),
        ("page_size=-1", "invalid"),
        ("page_size=x", "invalid"),
        ("cursor=x", "invalid_cursor"),
        ("cursor=WyJuZXh0IiwxLDJd:1abc:xyz", "invalid_cursor"),
        ("q=%00", "malformed_request"),
        ("q=%ff", "malformed_request"),
    ],
)
def test_a_list_that_cannot_be_is_a_400_with_its_code(client: APIClient, query: str, code: str) -> None:
    answer = client.get(f"{LIST}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("page_size", ["1000000000", "9" * 400])
def test_a_page_of_any_size_is_bounded(client: APIClient, workspace: Workspace, page_size: str) -> None:
    many_uploads(workspace, 201)
    assert len(ids(client.get(LIST, {"page_size": page_size}))) == 200


def test_pages_hold_each_file_once_newest_first_while_others_come_and_go(
    client: APIClient, workspace: Workspace
) -> None:
    """All have the same time, so that only their ids part them."""
    uploads = many_uploads(workspace, 25, uploaded_at=timezone.now())
    expected = sorted((str(upload.pk) for upload in uploads), reverse=True)
    seen: list[str] = []
    address: str | None = f"{LIST}?page_size=7&workspace={workspace.slug}"
    while address:
        answer = client.get(address)
        seen += ids(answer)
        address = answer.json()["next"]
        many_uploads(workspace, 1, uploaded_at=timezone.now() + timedelta(minutes=1))
        AudioUpload.objects.filter(pk=expected[0]).update(status=Status.DELETED)
    assert seen == expected
    answer = client.get(answer.json()["previous"])
    assert ids(answer) == expected[14:21]


def test_a_cursor_of_another_list_is_refused(client: APIClient, workspace: Workspace) -> None:
    many_uploads(workspace, 2)
    cursor = client.get(f"{LIST}?page_size=1").json()["next"].split("cursor=")[1].split("&")[0]
    upload = store_upload(workspace)
    for path in ("/api/v1/workspaces/", f"{detail(upload)}events/", "/api/v1/tokens/"):
        answer = client.get(f"{path}?cursor={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def test_renaming_keeps_the_object_and_is_told_in_the_diary(client: APIClient, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    answer = client.patch(detail(upload), {"original_filename": "C:\\music\\Wie geht es?.MP3"})
    assert (answer.status_code, answer.json()["original_filename"]) == (200, "Wie geht es?.MP3")
    assert AudioUpload.objects.get().storage_path == upload.storage_path
    (event,) = client.get(f"{detail(upload)}events/").json()["results"]
    assert (event["action"], event["details"]) == ("renamed", {"from": "tone.mp3", "to": "Wie geht es?.MP3"})
    assert client.patch(detail(upload), {"original_filename": "Wie geht es?.MP3"}).status_code == 200
    assert client.patch(detail(upload), {}).status_code == 200
    assert UploadEvent.objects.count() == 1


@pytest.mark.parametrize(
    "name",
    [
        "", " ", ".", "..", "...mp3"[:3], "/", "a/", "\u202e", "\r\n", "noextension", "a.exe", "a.wav", "a.mp3.html",
        ".mp3/", "x" * 501 + ".mp3", None, 1.5, [], {"a": 1}, True,
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_is_a_400_and_changes_nothing(client: APIClient, workspace: Workspace, name: Any) -> None:
    """Promise 43."""
    upload = store_upload(workspace)
    answer = client.patch(detail(upload), {"original_filename": name})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert list(answer.json()["errors"]) == ["original_filename"]
    assert AudioUpload.objects.get().original_filename == "tone.mp3"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/x.mp3", "x.mp3"),
        ("a\r\nSet-Cookie: b.mp3", "aSet-Cookie: b.mp3"),
        ("gpj\u202e3pm.mp3", "gpj3pm.mp3"),
        ('quote".mp3', 'quote".mp3'),
        ("日本語.mp3", "日本語.mp3"),
        ("e\u0301.mp3", "é.mp3"),
        ("x" * 496 + ".mp3", "x" * 496 + ".mp3"),
    ],
)
def test_a_name_is_kept_as_far_as_it_is_harmless_and_gives_one_header_line(
    client: APIClient, workspace: Workspace, name: str, kept: str
) -> None:
    """Promise 43."""
    upload = store_upload(workspace)
    answer = client.patch(detail(upload), {"original_filename": name})
    assert answer.json()["original_filename"] == kept
    content = client.get(f"{detail(upload)}content/?download")
    body_of(content)
    line = content["Content-Disposition"]
    assert line.startswith("attachment; filename") and line.isascii() and line.isprintable()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"original_filename=x.mp3", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415, "unsupported_media_type"),
        (b"<x/>", "text/xml", 415, "unsupported_media_type"),
        (b"{", "application/json", 400, "malformed_request"),
        (b"\xff", "application/json", 400, "malformed_request"),
        (b'{"original_filename": "\\u0000.mp3"}', "application/json", 400, "malformed_request"),
        (b'{"original_filename": "\\ud800.mp3"}', "application/json", 400, "malformed_request"),
        (b"[" * 100_000, "application/json", 400, "malformed_request"),
        (b"[]", "application/json", 400, "invalid"),
        (b'"x"', "application/json", 400, "invalid"),
        (b"null", "application/json", 400, "invalid"),
        (b" " * 1_048_577, "application/json", 413, "request_too_large"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    client: APIClient, workspace: Workspace, body: bytes, content_type: str, status: int, code: str
) -> None:
    """A form where JSON is meant, and JSON that is none. The same for every POST and PATCH that takes JSON."""
    upload = store_upload(workspace)
    for verb, path in [("PATCH", detail(upload)), ("POST", f"{LIST}preflight/"), ("POST", "/api/v1/workspaces/")]:
        answer = client.generic(verb, path, body, content_type=content_type)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path


def test_json_where_a_form_is_meant_is_refused(client: APIClient) -> None:
    """It is taken for a raw body, whose name is missing; nothing is stored."""
    answer = client.post(LIST, {"file": "x", "workspace": "y"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "filename_missing")
    assert not AudioUpload.objects.exists()


def test_deleting_is_trash_then_gone_and_the_quota_follows(
    client: APIClient, workspace: Workspace, django_capture_on_commit_callbacks: Any
) -> None:
    """Promise 7."""
    upload = store_upload(workspace)
    quota = StorageQuota.objects.filter(workspace=workspace)

    answer = client.delete(f"{detail(upload)}?permanently=true")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")
    assert (answer.json()["state"], "deleted" in answer.json()["allowed"]) == ("completed", True)

    assert client.delete(detail(upload)).status_code == 204
    assert client.get(detail(upload)).json()["status"] == "deleted"
    assert client.get(f"{detail(upload)}content/").status_code == 404
    assert quota.values_list("current_storage_bytes", "current_file_count").get() == (0, 0)
    assert client.delete(detail(upload)).json()["code"] == "state_conflict"

    with django_capture_on_commit_callbacks(execute=True):
        assert client.delete(f"{detail(upload)}?permanently=True").status_code == 204
    assert client.get(detail(upload)).status_code == 404
    assert client.delete(detail(upload)).status_code == 404
    assert names_in("local") == set()
    actions = UploadEvent.objects.filter(upload_id=upload.pk).values_list("action", "actor__username")
    assert {actor for _, actor in actions} == {workspace.memberships.get().user.username}


def test_undelete_puts_a_file_back_and_needs_room(client: APIClient, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    answer = client.post(f"{detail(upload)}undelete/")
    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "state_conflict", "completed")

    client.delete(detail(upload))
    StorageQuota.objects.filter(workspace=workspace).update(max_file_count=0)
    answer = client.post(f"{detail(upload)}undelete/")
    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    assert (answer.json()["limit"], answer.json()["asked"], answer.json()["left"]) == ("max_file_count", 1, 0)
    assert client.get(detail(upload)).json()["status"] == "deleted"

    StorageQuota.objects.filter(workspace=workspace).update(max_file_count=1)
    answer = client.post(f"{detail(upload)}undelete/")
    assert (answer.status_code, answer.json()["status"], answer.json()["deleted_at"]) == (200, "completed", None)


def test_only_a_failed_file_is_tried_again(client: APIClient, workspace: Workspace) -> None:
    failed = store_upload(workspace, status=Status.FAILED, error_code="x", error_message="y", retry_count=3)
    answer = client.post(f"{detail(failed)}retry/")
    row = answer.json()
    assert (answer.status_code, row["status"], row["retry_count"], row["error_code"]) == (200, "uploaded", 0, "")
    answer = client.post(f"{detail(failed)}retry/")
    assert (answer.status_code, answer.json()["code"], answer.json()["state"]) == (409, "state_conflict", "uploaded")


def test_a_file_on_hold_can_be_renamed_but_not_thrown_away(client: APIClient, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    set_legal_hold(upload, held=True, actor=None)
    for address in (detail(upload), f"{detail(upload)}?permanently=true"):
        answer = client.delete(address)
        assert answer.status_code == 409
    assert client.delete(detail(upload)).json()["code"] == "legal_hold"
    assert client.patch(detail(upload), {"original_filename": "b.mp3"}).status_code == 200


def test_the_diary_tells_who_did_what_oldest_first_by_pages(client: APIClient, user: Any, workspace: Workspace) -> None:
    upload = store_upload(workspace)
    for number in range(3):
        client.patch(detail(upload), {"original_filename": f"{number}.mp3"})
    client.delete(detail(upload))
    first = client.get(f"{detail(upload)}events/?page_size=3").json()
    second = client.get(first["next"]).json()
    assert [event["details"]["to"] for event in first["results"]] == ["0.mp3", "1.mp3", "2.mp3"]
    (deleted,) = second["results"]
    assert (deleted["from_status"], deleted["to_status"], deleted["actor"]) == ("completed", "deleted", user.username)
    assert second["next"] is None


def test_an_expired_token_is_told_so_where_files_are_uploaded(workspace: Workspace, user: Any) -> None:
    _, secret = create_token(user, name="old", expires_in=timedelta(seconds=-1))
    for verb, path in (("POST", LIST), ("GET", LIST)):
        answer = APIClient().generic(
            verb, path, b"RIFF", "application/octet-stream", headers={"Authorization": f"Bearer {secret}"}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
        assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["x", "00000000-0000-0000-0000-00000000000", "..", "%00", "1", "ABC/../x"])
def test_an_id_that_is_none_is_a_404(client: APIClient, name: str) -> None:
    answer = client.get(f"{LIST}{name}/")
    assert answer.status_code in (404, 400)
    assert answer["Content-Type"] == "application/problem+json"


def test_what_an_address_does_not_take_is_a_405_that_says_what_it_takes(
    client: APIClient, workspace: Workspace
) -> None:
    upload = store_upload(workspace)
    for verb, path, allowed in [
        ("PUT", LIST, {"GET", "POST", "HEAD", "OPTIONS"}),
        ("PUT", detail(upload), {"GET", "PATCH", "DELETE", "HEAD", "OPTIONS"}),
        ("GET", f"{detail(upload)}retry/", {"POST", "OPTIONS"}),
        ("POST", f"{detail(upload)}content/", {"GET", "HEAD", "OPTIONS"}),
    ]:
        answer = client.generic(verb, path, b"{}", content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert {name.strip() for name in answer["Allow"].split(",")} == allowed

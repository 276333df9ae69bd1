"""What would happen to files, told before a byte of them is sent."""

from typing import Any

import pytest
from rest_framework.test import APIClient

from audiotricks.models import IdempotencyKey
from objectstore.hashing import digest_of
from quotas.models import QuotaReservation, StorageQuota, Workspace
from tests.api.rows import CONTENT, store_upload
from tests.factories import UserFactory, WorkspaceFactory, client_for, member_of
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db
SHA256 = digest_of([CONTENT]).sha256


@pytest.fixture
def client(workspace: Workspace) -> APIClient:
    return client_for(member_of(workspace, "editor"))


def ask(client: APIClient, workspace: Workspace, *files: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post("/api/v1/uploads/preflight/", {"workspace": workspace.slug, "files": files})
    assert answer.status_code == 200, answer.content
    verdicts: list[dict[str, Any]] = answer.json()
    return verdicts


def test_each_file_gets_its_verdict_in_the_order_in_which_they_were_asked(
    client: APIClient, workspace: Workspace
) -> None:
    held = store_upload(workspace)
    trashed = store_upload(workspace, status=Status.DELETED, content=b"other")
    files = [
        {"filename": "new.mp3", "size": 1},
        {"filename": "again.mp3", "size": held.file_size, "sha256": held.checksum_sha256.upper()},
        {"filename": "back.mp3", "size": 5, "sha256": trashed.checksum_sha256},
        {"filename": "song.exe", "size": 1},
        {"filename": "empty.mp3", "size": 0},
        {"filename": "..", "size": 1},
        {"filename": "other.mp3", "size": 1, "sha256": "0" * 64},
    ]
    answers = ask(client, workspace, *files)
    assert [answer["filename"] for answer in answers] == [file["filename"] for file in files]
    assert [(answer["verdict"], answer.get("code")) for answer in answers] == [
        ("accept", None),
        ("duplicate", None),
        ("in_trash", None),
        ("refused", "unsupported_format"),
        ("refused", "empty_file"),
        ("refused", "filename_missing"),
        ("accept", None),
    ]
    assert (answers[1]["upload"], answers[2]["upload"]) == (str(held.pk), str(trashed.pk))
    assert answers[3]["detail"]


@pytest.mark.parametrize("state", [Status.RECEIVING, Status.FAILED, Status.PURGED])
def test_what_is_not_there_for_good_is_no_duplicate(client: APIClient, workspace: Workspace, state: Status) -> None:
    store_upload(workspace, status=state)
    (answer,) = ask(client, workspace, {"filename": "a.mp3", "size": 1, "sha256": SHA256})
    assert answer["verdict"] == "accept"


def test_one_that_is_at_hand_hides_one_in_the_trash(client: APIClient, workspace: Workspace) -> None:
    store_upload(workspace, status=Status.DELETED)
    held = store_upload(workspace)
    store_upload(workspace, status=Status.DELETED)
    (answer,) = ask(client, workspace, {"filename": "a.mp3", "size": 1, "sha256": SHA256})
    assert (answer["verdict"], answer["upload"]) == ("duplicate", str(held.pk))


@pytest.mark.parametrize(
    ("limit", "code", "accepted"),
    [
        ({"max_file_size": 9}, "file_too_large", 0),
        ({"max_storage_bytes": 25}, "quota_exceeded", 2),
        ({"max_file_count": 1}, "quota_exceeded", 1),
        ({"max_monthly_uploads": 2}, "quota_exceeded", 2),
        ({"max_monthly_upload_bytes": 0}, "quota_exceeded", 0),
        ({"max_storage_bytes": None, "max_file_size": 10}, "", 3),
    ],
)
def test_room_is_reckoned_as_if_they_came_one_after_the_other(
    client: APIClient, workspace: Workspace, limit: dict[str, int], code: str, accepted: int
) -> None:
    StorageQuota.objects.create(workspace=workspace, **limit)
    answers = ask(client, workspace, *({"filename": f"{number}.mp3", "size": 10} for number in range(3)))
    assert [answer["verdict"] for answer in answers] == ["accept"] * accepted + ["refused"] * (3 - accepted)
    assert {answer["code"] for answer in answers[accepted:]} == ({code} if code else set())


def test_nothing_is_promised_or_kept(client: APIClient, workspace: Workspace) -> None:
    ask(client, workspace, {"filename": "a.mp3", "size": 10})
    quota = StorageQuota.objects.get(workspace=workspace)
    assert (quota.reserved_bytes, quota.current_storage_bytes) == (0, 0)
    assert not QuotaReservation.objects.exists() and not AudioUpload.objects.exists()


def test_without_a_workspace_it_is_ones_own(client: APIClient) -> None:
    WorkspaceFactory()
    answer = client.post("/api/v1/uploads/preflight/", {"files": [{"filename": "a.mp3", "size": 1}]})
    assert answer.json() == [{"filename": "a.mp3", "verdict": "accept"}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": []},
        {"files": "a.mp3"},
        {"files": {"filename": "a.mp3"}},
        {"files": [1]},
        {"files": [{"size": 1}]},
        {"files": [{"filename": "a.mp3"}]},
        {"files": [{"filename": "a.mp3", "size": -1}]},
        {"files": [{"filename": "a.mp3", "size": 1.5}]},
        {"files": [{"filename": "a.mp3", "size": 10**30}]},
        {"files": [{"filename": "a.mp3", "size": True}]},
        {"files": [{"filename": "a.mp3", "size": 1, "sha256": "xyz"}]},
        {"files": [{"filename": "a.mp3", "size": 1, "sha256": None}]},
        {"files": [{"filename": "x" * 1001, "size": 1}]},
        {"files": [{"filename": "a.mp3", "size": 1}] * 1001},
        {"files": [{"filename": "a.mp3", "size": 1}], "workspace": []},
        {"files": [{"filename": "a.mp3", "size": 1}], "workspace": None},
    ],
)
def test_a_question_that_cannot_be_answered_is_a_400(client: APIClient, body: Any) -> None:
    answer = client.post("/api/v1/uploads/preflight/", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_a_thousand_files_cost_as_many_queries_as_one(
    client: APIClient, workspace: Workspace, django_assert_max_num_queries: Any
) -> None:
    ask(client, workspace, {"filename": "a.mp3", "size": 1})
    files = [{"filename": f"{number}.mp3", "size": 1, "sha256": f"{number:064x}"} for number in range(1000)]
    with django_assert_max_num_queries(6):
        assert len(ask(client, workspace, *files)) == 1000


def test_asking_what_would_happen_stores_nothing_under_a_key() -> None:
    """Forty requests with a thousand names each were 26 MB of rows."""
    client = client_for(UserFactory())
    asked = {"files": [{"filename": "a.mp3", "size": 1}]}
    for _ in range(2):
        answer = client.post("/api/v1/uploads/preflight/", asked, headers={"Idempotency-Key": "one"})
        assert answer.status_code == 200 and "Idempotency-Replayed" not in answer.headers
    assert not IdempotencyKey.objects.exists()

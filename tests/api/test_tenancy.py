"""Whose files are whose: over every address and verb that there is."""

import uuid
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import ApiToken
from accounts.tokens import create_token
from quotas.models import Membership, StorageQuota, Workspace
from tests.api.answers import body_of
from tests.api.routes import VERBS, Route, routes
from tests.api.rows import store_session, store_thumbnail, store_upload
from tests.audio import make_jpeg, make_mp3
from tests.factories import UserFactory, WorkspaceFactory, client_for, member_of
from uploads.intake.sessions.begin import begin_session
from uploads.intake.sessions.chunks import begin_chunks
from uploads.models import AudioUpload, Status, UploadEvent, UploadSession

pytestmark = pytest.mark.django_db

# A link for a new password is a key of its own, and needs nobody signed in.
ROUTES_WITH_IDS = [route for route in routes() if route.parameters and "token" not in route.parameters]


def state_of_everything() -> list[Any]:
    models = (AudioUpload, UploadEvent, UploadSession, Workspace, Membership, StorageQuota, ApiToken)
    return [sorted(model.objects.values_list(), key=str) for model in models]


@pytest.fixture
def theirs(workspace: Workspace) -> dict[str, list[Any]]:
    """Everything in another's house that an address could name, by the parameter's name."""
    owner = member_of(workspace)
    upload = store_upload(workspace, owner=owner)
    store_thumbnail(upload, make_jpeg())
    trashed = store_upload(workspace, owner=owner, status=Status.DELETED)
    failed = store_upload(workspace, owner=owner, status=Status.FAILED)
    sessions = [store_session(upload), store_session(store_upload(workspace, owner=owner, status=Status.RECEIVING))]
    ours = {"workspace": workspace, "owner": owner, "filename": "a.mp3", "size_bytes": 10}
    sessions += [begin_session(UploadSession.Kind.TUS, **ours), begin_chunks(**ours)]
    token, _ = create_token(owner, name="theirs", expires_in=None)
    return {
        "pk": [upload.pk, trashed.pk, failed.pk, *(session.pk for session in sessions), workspace.pk, token.pk],
        "user_id": [owner.pk],
        "index": [0],
    }


def ways(theirs: dict[str, list[Any]], route: Route) -> list[dict[str, Any]]:
    assert set(route.parameters) <= set(theirs), f"say in this test what {route.path} could name of another's"
    return [{"pk": pk, "user_id": theirs["user_id"][0], "index": 0} for pk in theirs["pk"]]


@pytest.mark.parametrize("route", ROUTES_WITH_IDS, ids=lambda route: route.path)
def test_what_is_anothers_is_a_404_on_every_path_and_verb(route: Route, theirs: dict[str, list[Any]]) -> None:
    """Promise 38. The answer is that for an id which nobody has, word for word, and nothing has changed."""
    client = Client(raise_request_exception=False, headers={"Tus-Resumable": "1.0.0"})
    client.force_login(UserFactory())
    before = state_of_everything()

    def ask(verb: str, values: dict[str, Any]) -> Any:
        return client.generic(verb, route.filled(values), b"{}", "application/json")

    nobodys = {"pk": uuid.uuid4(), "user_id": theirs["user_id"][0], "index": 0}
    expected = {verb: ask(verb, nobodys) for verb in (*VERBS, "OPTIONS")}
    assert 404 in [expected[verb].status_code for verb in VERBS]
    for values in ways(theirs, route):
        for verb in VERBS:
            answer = ask(verb, values)
            assert answer.status_code in (404, 405), (verb, values)
            assert answer.status_code == 404 or verb not in route.verbs or not route.path.startswith("/api/")
            assert (answer.status_code, answer.content) == (expected[verb].status_code, expected[verb].content)
        assert ask("OPTIONS", values).content == expected["OPTIONS"].content
    assert state_of_everything() == before


def test_the_same_addresses_answer_their_owner(theirs: dict[str, list[Any]], workspace: Workspace) -> None:
    """The control of the test above: with the right user, these ids lead somewhere."""
    owner = workspace.memberships.get().user
    client = Client()
    client.force_login(owner)
    for route in ROUTES_WITH_IDS:
        if "GET" in route.verbs:
            answers = [client.get(route.filled(values)) for values in ways(theirs, route)]
            assert {200, 405} & {answer.status_code for answer in answers}, route.path
            for answer in answers:
                body_of(answer)


def test_lists_show_only_ones_own(theirs: dict[str, list[Any]]) -> None:
    """Promise 38."""
    me = UserFactory()
    client = Client()
    client.force_login(me)
    names = {str(pk) for pk in theirs["pk"]}
    before = names.pop()
    lists = [route for route in routes() if not route.parameters and "GET" in route.verbs]
    assert len(lists) > 5
    for route in lists:
        for query in ("", "?status=deleted", "?status=failed", f"?before={before}"):
            text = body_of(client.get(route.path + query)).decode(errors="replace")
            assert not [name for name in names if name in text], route.path + query


@pytest.mark.parametrize("by", ["pk", "slug"])
def test_anothers_workspace_cannot_be_named_in_a_query_or_a_body(by: str, workspace: Workspace) -> None:
    """Promise 38. By id or by slug, the answer is that for a workspace which does not exist."""
    client = client_for(UserFactory())
    data = make_mp3()
    for name in (str(getattr(workspace, by)), "no-such-workspace", str(uuid.uuid4())):
        sent = {"workspace": name, "file": SimpleUploadedFile("one.mp3", data)}
        answers = [
            client.get("/api/v1/uploads/", {"workspace": name}),
            client.post("/api/v1/uploads/", sent, format="multipart"),
            client.post(
                f"/api/v1/uploads/?workspace={name}",
                data,
                content_type="application/octet-stream",
                headers={"Content-Disposition": 'attachment; filename="one.mp3"'},
            ),
            client.post("/api/v1/uploads/preflight/", {"workspace": name, "files": [{"filename": "a.mp3", "size": 1}]}),
            client.post("/api/v1/direct-uploads/", {"workspace": name, "filename": "a.mp3", "file_size": 1}),
        ]
        assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "not_found")}
    assert not AudioUpload.objects.exists()
    page = Client()
    page.force_login(UserFactory())
    sent = {"workspace": str(getattr(workspace, by)), "file": SimpleUploadedFile("one.mp3", data)}
    assert page.post("/upload/", sent).status_code == 404


def test_a_file_that_another_has_is_no_duplicate_of_mine(theirs: dict[str, list[Any]]) -> None:
    """Promise 38. Or anybody could ask who has which recording."""
    held = AudioUpload.objects.get(pk=theirs["pk"][0])
    client = client_for(UserFactory())
    asked = {"files": [{"filename": "a.mp3", "size": held.file_size, "sha256": held.checksum_sha256}]}
    assert client.post("/api/v1/uploads/preflight/", asked).json() == [{"filename": "a.mp3", "verdict": "accept"}]
    found = client.get("/api/v1/uploads/", {"checksum_sha256": held.checksum_sha256})
    assert found.json()["results"] == []


def test_who_leaves_a_workspace_sees_nothing_of_it_any_more(theirs: dict[str, list[Any]], workspace: Workspace) -> None:
    """Promise 38. Even what they put there themselves."""
    leaver = member_of(workspace, Membership.Role.EDITOR)
    own = store_upload(workspace, owner=leaver)
    client = client_for(leaver)
    assert client.get(f"/api/v1/uploads/{own.pk}/").status_code == 200
    assert client.delete(f"/api/v1/workspaces/{workspace.pk}/members/{leaver.pk}/").status_code == 204
    assert client.get(f"/api/v1/uploads/{own.pk}/").status_code == 404
    assert client.get(f"/api/v1/uploads/{own.pk}/content/").status_code == 404
    assert client.get("/api/v1/uploads/").json()["results"] == []


def test_a_member_of_two_workspaces_sees_both_and_can_ask_for_one() -> None:
    user = UserFactory()
    first, second = WorkspaceFactory(), WorkspaceFactory()
    for workspace in (first, second):
        Membership.objects.create(workspace=workspace, user=user, role=Membership.Role.VIEWER)
    ids = {store_upload(first).pk, store_upload(second).pk}
    client = client_for(user)
    assert {uuid.UUID(row["id"]) for row in client.get("/api/v1/uploads/").json()["results"]} == ids
    (only,) = client.get("/api/v1/uploads/", {"workspace": second.slug}).json()["results"]
    assert uuid.UUID(only["workspace"]) == second.pk

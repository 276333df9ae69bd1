"""Who may do what, as one table over every address and verb of the API."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.tokens import create_token
from quotas.models import Membership, Workspace
from tests.api.answers import body_of
from tests.api.conftest import ROLES
from tests.api.routes import Route, routes
from tests.api.rows import store_session, store_thumbnail, store_upload
from tests.audio import make_jpeg, make_mp3
from tests.factories import UserFactory, member_of
from uploads.api.serializers import INSIDE, PUBLIC
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db

#: Staff without a permission are strangers; the others have it from a group, or are superusers.
READS = dict.fromkeys(ROLES, 200) | {"stranger": 404, "staff": 404}
ANYBODY = dict.fromkeys(ROLES, 200)


def edits(status: int) -> dict[str, int]:
    return dict.fromkeys(ROLES, status) | {"stranger": 404, "staff": 404, "viewer": 403, "auditor": 403}


def owns(status: int) -> dict[str, int]:
    return edits(status) | {"editor": 403}


@dataclass
class Call:
    """One request and the status that each role gets; ``state`` is that of the file it is about."""

    path: str
    verb: str
    expected: dict[str, int]
    state: Status = Status.COMPLETED
    data: Any = None
    content_type: str = "application/json"
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.verb} {self.path}{self.query}"


UPLOAD, WORKSPACE = "/api/v1/uploads/<uuid:pk>/", "/api/v1/workspaces/<uuid:pk>/"
DIRECT = "/api/v1/direct-uploads/<uuid:pk>/"
MEMBER = WORKSPACE + "members/<int:user_id>/"
RAW = {"content_type": "application/octet-stream", "headers": {"Content-Disposition": 'x; filename="a.mp3"'}}
TUS = {"Tus-Resumable": "1.0.0", "Upload-Metadata": "filename YS5tcDM="}
OTHERS = dict.fromkeys(ROLES, 404)
CALLS = [
    Call("/api/v1/uploads/", "GET", ANYBODY),
    Call("/api/v1/uploads/", "GET", READS, query="?workspace=<slug>"),
    Call("/api/v1/uploads/", "POST", edits(201), data=make_mp3, query="?workspace=<slug>", **RAW),
    Call("/api/v1/uploads/", "POST", dict.fromkeys(ROLES, 201), data=make_mp3, **RAW),
    Call(
        "/api/v1/uploads/preflight/",
        "POST",
        edits(200),
        data={"workspace": "", "files": [{"filename": "a.mp3", "size": 1}]},
    ),
    Call(UPLOAD, "GET", READS),
    Call(UPLOAD, "GET", READS, state=Status.DELETED),
    Call(UPLOAD, "PATCH", edits(200), data={"original_filename": "b.mp3"}),
    Call(UPLOAD, "DELETE", edits(204)),
    Call(UPLOAD, "DELETE", owns(204), state=Status.DELETED, query="?permanently=true"),
    Call(UPLOAD + "content/", "GET", READS),
    Call(UPLOAD + "content/", "HEAD", READS),
    Call(UPLOAD + "thumbnail/", "GET", READS),
    Call(UPLOAD + "thumbnail/", "PUT", edits(200), data=make_jpeg, content_type="image/jpeg"),
    Call(UPLOAD + "thumbnail/", "DELETE", edits(204)),
    Call(UPLOAD + "events/", "GET", READS),
    Call(UPLOAD + "undelete/", "POST", edits(200), state=Status.DELETED),
    Call(UPLOAD + "retry/", "POST", edits(200), state=Status.FAILED),
    # Where the storage is a disk, there is no other way in; who may not add files does not learn even that.
    Call(
        "/api/v1/direct-uploads/",
        "POST",
        edits(409),
        data={"workspace": "", "filename": "a.mp3", "file_size": 1},
    ),
    Call(DIRECT, "GET", edits(200)),
    Call(DIRECT, "DELETE", edits(409)),
    Call(DIRECT + "complete/", "POST", edits(200)),
    # A resumable upload is its user's alone.
    Call("/api/v1/tus/", "POST", edits(201), query="?workspace=<slug>", headers={**TUS, "Upload-Length": "9"}),
    *(Call("/api/v1/tus/<uuid:pk>", verb, OTHERS, headers=TUS) for verb in ("HEAD", "PATCH", "DELETE", "POST")),
    Call(
        "/api/v1/chunked-uploads/",
        "POST",
        edits(201),
        data={"workspace": "", "filename": "a.mp3", "file_size": 9},
    ),
    Call("/api/v1/chunked-uploads/<uuid:pk>/", "GET", OTHERS),
    Call("/api/v1/chunked-uploads/<uuid:pk>/", "DELETE", OTHERS),
    Call("/api/v1/chunked-uploads/<uuid:pk>/chunks/<int:index>/", "PUT", OTHERS, data=b"x", content_type="x/y"),
    Call("/api/v1/upload-sessions/", "GET", ANYBODY),
    Call("/api/v1/workspaces/", "GET", ANYBODY),
    Call("/api/v1/workspaces/", "POST", dict.fromkeys(ROLES, 201), data={"name": "New"}),
    Call(WORKSPACE, "GET", READS),
    Call(WORKSPACE, "PATCH", owns(200), data={"name": "Other"}),
    Call(WORKSPACE + "members/", "GET", READS),
    Call(WORKSPACE + "members/", "POST", owns(201), data={"username": "", "role": "viewer"}),
    Call(MEMBER, "GET", READS),
    Call(MEMBER, "PATCH", owns(200), data={"role": "editor"}),
    Call(MEMBER, "DELETE", owns(204)),
    Call(WORKSPACE + "quota/", "GET", READS),
    Call(
        WORKSPACE + "quota/",
        "PATCH",
        owns(200) | {"owner": 403},
        data={"max_file_count": 50},
    ),
    Call("/api/v1/tokens/", "GET", ANYBODY),
    Call(
        "/api/v1/tokens/",
        "POST",
        dict.fromkeys(ROLES, 201),
        data={"name": "mine", "current_password": "correct horse battery"},
    ),
    # The token is a stranger's to all of them.
    Call("/api/v1/tokens/<uuid:pk>/", "GET", dict.fromkeys(ROLES, 404)),
    Call("/api/v1/tokens/<uuid:pk>/", "DELETE", dict.fromkeys(ROLES, 404)),
    Call("/storage/stats", "GET", dict.fromkeys(ROLES, 403) | dict.fromkeys(("auditor", "operator", "superuser"), 200)),
]


def send(call: Call, client: APIClient, workspace: Workspace) -> Any:
    """The request, about a file, member or token that was just made for it."""
    upload = store_upload(workspace, status=call.state)
    store_thumbnail(upload, make_jpeg())
    newcomer = UserFactory()
    session = store_session(upload)
    named = {
        **dict.fromkeys(("direct-uploads", "chunked-uploads", "tus"), session.pk),
        "uploads": upload.pk,
        "workspaces": workspace.pk,
        "tokens": create_token(UserFactory(), name="theirs", expires_in=None)[0].pk,
    }
    kind = next((name for name in named if name in call.path), "")
    values = {"pk": named.get(kind), "index": 0, "user_id": member_of(workspace, Membership.Role.VIEWER).pk}
    data = call.data() if callable(call.data) else call.data
    if isinstance(data, dict):
        filled = {"workspace": workspace.slug, "username": newcomer.username}
        data = {name: filled.get(name, value) for name, value in data.items()}
    path = Route(call.path, frozenset()).filled(values) + call.query.replace("<slug>", workspace.slug)
    return client.generic(
        call.verb,
        path,
        data if isinstance(data, bytes) else client._encode_data(data, "json")[0],
        content_type=call.content_type,
        headers=call.headers,
    )


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_each_role_may_do_what_it_may_and_no_more(
    call: Call, person: Callable[[str], Any], workspace: Workspace
) -> None:
    """Promises 38 and 60. Who may not see it gets a 404, who may see but not change it a 403."""
    for role in ROLES:
        client = APIClient()
        client.force_authenticate(person(role))
        answer = send(call, client, workspace)
        body_of(answer)
        assert answer.status_code == call.expected[role], (role, answer.content if not answer.streaming else "")
        if answer.status_code in (403, 404) and call.verb != "HEAD":
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] in ("permission_denied", "not_found")


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_nobody_gets_nothing(call: Call, workspace: Workspace) -> None:
    answer = send(call, APIClient(), workspace)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith(("Bearer", "Basic"))
    if call.verb != "HEAD":
        assert answer.json()["code"] == "not_authenticated"
    assert AudioUpload.objects.count() == 1


def test_the_table_has_every_address_and_verb() -> None:
    """A new route must be given its roles here."""
    there = {(route.path, verb) for route in routes("/api/v1/") for verb in route.verbs}
    named = {(call.path, call.verb) for call in CALLS}
    reads = {(path, "HEAD") for path, verb in named if verb == "GET"}
    assert there - named - reads == set()


def test_the_token_of_a_user_who_is_not_active_opens_nothing(workspace: Workspace) -> None:
    user = member_of(workspace)
    _, secret = create_token(user, name="old", expires_in=None)
    user.is_active = False
    user.save()
    for path in ("/api/v1/uploads/", "/api/v1/workspaces/"):
        answer = APIClient().get(path, headers={"Authorization": f"Bearer {secret}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")


def test_a_session_needs_the_csrf_token_for_whatever_changes_something(workspace: Workspace) -> None:
    """A page of somebody else's must not act in the name of who is signed in here."""
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(member_of(workspace))
    for call in CALLS:
        if call.verb not in ("GET", "HEAD"):
            answer = send(call, client, workspace)
            assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed"), str(call)


def test_viewers_are_not_shown_where_a_file_lies_nor_how_work_on_it_stands(
    person: Callable[[str], Any], workspace: Workspace
) -> None:
    upload = store_upload(workspace)
    for role, shown in (("viewer", False), ("editor", True), ("owner", True), ("auditor", True), ("superuser", True)):
        client = APIClient()
        client.force_authenticate(person(role))
        rows = [
            client.get(f"/api/v1/uploads/{upload.pk}/").json(),
            client.get(f"/api/v1/uploads/?workspace={workspace.slug}").json()["results"][0],
        ]
        for row in rows:
            assert set(PUBLIC) - {"metadata"} <= set(row), role
            assert bool(set(INSIDE) & set(row)) == shown, role


@pytest.mark.parametrize(("role", "shown"), [("viewer", False), ("editor", True), ("auditor", True)])
def test_viewers_are_not_told_where_a_file_lies_by_its_events(
    person: Callable[[str], Any], workspace: Workspace, role: str, shown: bool
) -> None:
    upload = store_upload(workspace)
    record_event(upload, "found_damaged", details={"name": upload.storage_path, "what": "size", "expected": 1})
    record_event(upload, "object_replaced", details={"from": upload.storage_path, "to": "elsewhere.mp3"})
    record_event(upload, "renamed", details={"from": "a.mp3", "to": "b.mp3"})
    client = APIClient()
    client.force_authenticate(person(role))
    answer = client.get(f"/api/v1/uploads/{upload.pk}/events/")
    assert (upload.storage_path in answer.content.decode()) == shown
    damaged, replaced, renamed = (event["details"] for event in answer.json()["results"])
    assert (damaged["what"], damaged["expected"]) == ("size", 1)
    assert bool(replaced) == shown
    assert renamed == {"from": "a.mp3", "to": "b.mp3"}


def test_each_column_of_a_file_was_decided_to_be_public_inside_or_secret() -> None:
    """A new column is shown to nobody by itself."""
    secret = {"reservation_id", "folded_filename", "stored_object_id", "thumbnail_object_id"}
    named = {*PUBLIC, *INSIDE} | {"workspace_id", "owner_id", "duplicate_of_id"}
    assert {field.attname for field in AudioUpload._meta.concrete_fields} - named == secret

"""Workspaces, members and quotas over REST."""

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from quotas.models import LARGEST, Membership, StorageQuota, Workspace
from quotas.reservations import ensure_quota, reserve_storage
from quotas.rights import role_of
from quotas.workspaces import personal_workspace
from tests.factories import (
    MembershipFactory,
    StorageQuotaFactory,
    UserFactory,
    WorkspaceFactory,
    client_for,
    member_of,
    operator,
)

pytestmark = pytest.mark.django_db

API = "/api/v1/workspaces/"


def test_the_list_holds_ones_own_workspaces_and_begins_with_the_personal_one() -> None:
    """Promise 38. Nobody else's workspace is in the list."""
    user = UserFactory()
    WorkspaceFactory()
    assert [row["personal"] for row in client_for(user).get(API).json()["results"]] == [True]
    shared = MembershipFactory(user=user, role="viewer").workspace
    rows = client_for(user).get(API).json()["results"]
    assert {(row["id"], row["role"]) for row in rows} == {
        (str(personal_workspace(user).pk), "owner"),
        (str(shared.pk), "viewer"),
    }


def test_staff_see_all_workspaces() -> None:
    workspace = WorkspaceFactory()
    rows = client_for(operator()).get(API).json()["results"]
    # Their own, and another's, in which they are no member.
    assert sorted(row["role"] or "" for row in rows) == ["", "owner"]
    assert str(workspace.pk) in {row["id"] for row in rows}


def test_the_list_takes_as_many_queries_for_thirty_workspaces_as_for_three() -> None:
    user = UserFactory()
    client = client_for(user)
    counts = []
    for more in (2, 27):
        for _ in range(more):
            StorageQuotaFactory(workspace=MembershipFactory(user=user).workspace)
        client.get(API)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get(API).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_workspace_is_made_with_its_maker_as_owner() -> None:
    user = UserFactory()
    answer = client_for(user).post(API, {"name": "Field recordings"})
    assert answer.status_code == 201
    made = Workspace.objects.get(pk=answer.json()["id"])
    assert answer.json() == {
        "id": str(made.pk),
        "name": "Field recordings",
        "slug": "field-recordings",
        "personal": False,
        "role": "owner",
        "retention_days": None,
        "auto_cleanup": False,
        "archive_threshold_days": None,
        "keep_source_audio": True,
        "created_at": answer.json()["created_at"],
    }
    assert answer.headers["Location"].endswith(f"{API}{made.pk}/")
    assert client_for(user).get(answer.headers["Location"]).json() == answer.json()


def test_a_workspace_is_made_once_for_one_idempotency_key() -> None:
    """Promise 29. The same answer again, and one workspace."""
    client = client_for(UserFactory())
    first, again = (client.post(API, {"name": "Once"}, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert Workspace.objects.filter(name="Once").count() == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 201},
        {"name": None},
        {"name": ["x"]},
        {"name": "x", "slug": "Not A Slug"},
        {"name": "x", "slug": str(uuid.uuid4())},
        {"name": "x", "slug": ""},
        {"name": "x", "slug": None},
        {"name": "x", "slug": "y" * 61},
        [],
        "name",
    ],
)
def test_what_cannot_be_a_workspace_is_refused(body: Any) -> None:
    answer = client_for(UserFactory()).post(API, body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not Workspace.objects.filter(personal_of=None).exists()


def test_a_slug_that_is_taken_is_a_conflict() -> None:
    client = client_for(UserFactory())
    client.post(API, {"name": "One", "slug": "band"})
    answer = client.post(API, {"name": "Two", "slug": "band"})
    assert (answer.status_code, answer.json()["code"]) == (409, "slug_taken")


def test_owners_rename_and_set_retention_which_editors_cannot() -> None:
    workspace = WorkspaceFactory()
    changes = {"name": "New", "retention_days": 30, "auto_cleanup": True, "archive_threshold_days": 7}
    changes["keep_source_audio"] = False
    url = f"{API}{workspace.pk}/"
    for role in ("viewer", "editor"):
        answer = client_for(member_of(workspace, role)).patch(url, changes)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    answer = client_for(member_of(workspace)).patch(url, changes)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in changes} == changes
    assert StorageQuota.objects.get(workspace=workspace).retention_days == 30


@pytest.mark.parametrize("days", [0, -1, 36_501, 2**31, 2**63, 10**400, 1.5, "soon", [1], True])
def test_retention_that_is_no_number_of_days_is_refused(days: Any) -> None:
    workspace = WorkspaceFactory()
    client = client_for(member_of(workspace))
    for field in ("retention_days", "archive_threshold_days"):
        assert client.patch(f"{API}{workspace.pk}/", {field: days}).status_code == 400


def test_fields_that_are_not_the_clients_are_ignored() -> None:
    """Promise 40. No counter, limit, owner or id can be set by those who may not."""
    owner, other = UserFactory(), UserFactory()
    client = client_for(owner)
    forged = {
        "id": str(uuid.uuid4()),
        "personal_of": other.pk,
        "personal": True,
        "role": "viewer",
        "created_at": "2000-01-01T00:00:00Z",
        "max_storage_bytes": None,
        "current_storage_bytes": 0,
        "reserved_bytes": 0,
        "workspace": str(uuid.uuid4()),
        "quota": {"max_storage_bytes": None},
    }
    made = client.post(API, {"name": "Mine", **forged}).json()
    workspace = Workspace.objects.get(name="Mine")
    StorageQuota.objects.filter(workspace=workspace).update(max_storage_bytes=1000)
    reserve_storage(workspace, size_bytes=10)
    before = StorageQuota.objects.values().get(workspace=workspace)
    assert client.patch(f"{API}{workspace.pk}/", forged).status_code == 200
    after = StorageQuota.objects.values().get(workspace=workspace)
    assert after == before
    workspace.refresh_from_db()
    assert (str(workspace.pk), workspace.personal_of) == (made["id"], None)
    assert workspace.created_at.year != 2000
    assert role_of(owner, workspace.pk) == "owner"


def test_the_quota_tells_used_reserved_and_left_of_each_limit() -> None:
    workspace = StorageQuotaFactory(max_storage_bytes=1000, max_file_count=0, current_storage_bytes=300).workspace
    StorageQuota.objects.update(max_file_count=None)
    reserve_storage(workspace, size_bytes=200)
    quota = client_for(member_of(workspace, "viewer")).get(f"{API}{workspace.pk}/quota/").json()
    assert (quota["current_storage_bytes"], quota["reserved_bytes"], quota["max_storage_bytes"]) == (300, 200, 1000)
    assert quota["limits"][1:3] == [
        {"limit": "max_storage_bytes", "maximum": 1000, "used": 300, "reserved": 200, "left": 500},
        {"limit": "max_file_count", "maximum": None, "used": 0, "reserved": 1, "left": None},
    ]


def test_only_staff_set_limits() -> None:
    """Promise 40. An owner cannot widen the own quota."""
    workspace = StorageQuotaFactory(max_storage_bytes=10).workspace
    url = f"{API}{workspace.pk}/quota/"
    for role in Membership.Role:
        answer = client_for(member_of(workspace, role)).patch(url, {"max_storage_bytes": None})
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert ensure_quota(workspace).max_storage_bytes == 10
    staff = client_for(operator())
    forged = {"current_storage_bytes": 5, "reserved_bytes": 5, "monthly_uploads": 5, "month": "2000-01-01"}
    answer = staff.patch(url, {"max_storage_bytes": LARGEST, "max_file_count": 0, "max_file_size": None, **forged})
    assert answer.status_code == 200
    quota = ensure_quota(workspace)
    assert (quota.max_storage_bytes, quota.max_file_count, quota.max_file_size) == (LARGEST, 0, None)
    assert (quota.current_storage_bytes, quota.reserved_bytes, quota.monthly_uploads) == (0, 0, 0)
    assert quota.month.year != 2000


@pytest.mark.parametrize("value", [-1, LARGEST + 1, 2**63, 10**400, 1.5, "many", [], {}, True, ""])
def test_limits_that_no_column_holds_are_refused(value: Any) -> None:
    workspace = WorkspaceFactory()
    staff = client_for(operator())
    for row in ensure_quota(workspace).limits(month=ensure_quota(workspace).month):
        answer = staff.patch(f"{API}{workspace.pk}/quota/", {row.name: value})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_owners_let_users_in_by_name_change_their_roles_and_remove_them() -> None:
    workspace, user = WorkspaceFactory(), UserFactory(username="bob")
    owner = client_for(member_of(workspace))
    members = f"{API}{workspace.pk}/members/"
    answer = owner.post(members, {"username": "bob", "role": "viewer"})
    assert answer.status_code == 201
    assert (answer.json()["user_id"], answer.json()["username"], answer.json()["role"]) == (user.pk, "bob", "viewer")
    one = answer.headers["Location"]
    assert one.endswith(f"{members}{user.pk}/")
    assert owner.get(one).json() == answer.json()
    again = owner.post(members, {"username": "bob", "role": "editor"})
    assert (again.status_code, again.json()["code"]) == (409, "already_member")
    assert owner.patch(one, {"role": "editor"}).json()["role"] == "editor"
    assert {row["username"] for row in client_for(user).get(members).json()["results"]} >= {"bob"}
    assert owner.delete(one).status_code == 204
    assert role_of(user, workspace.pk) is None
    assert owner.get(one).status_code == owner.delete(one).status_code == 404


@pytest.mark.parametrize(
    "body", [{}, {"username": "nobody", "role": "viewer"}, {"username": "bob"}, {"username": "bob", "role": "king"}]
)
def test_a_member_needs_a_user_and_a_role_that_exist(body: dict[str, str]) -> None:
    UserFactory(username="bob")
    workspace = WorkspaceFactory()
    answer = client_for(member_of(workspace)).post(f"{API}{workspace.pk}/members/", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")


def test_a_user_who_is_switched_off_cannot_be_let_in() -> None:
    UserFactory(username="bob", is_active=False)
    workspace = WorkspaceFactory()
    answer = client_for(member_of(workspace)).post(
        f"{API}{workspace.pk}/members/", {"username": "bob", "role": "owner"}
    )
    assert answer.status_code == 400


def test_members_who_do_not_own_manage_nobody_but_may_leave() -> None:
    workspace = WorkspaceFactory()
    owner, editor = member_of(workspace), member_of(workspace, "editor")
    UserFactory(username="bob")
    client = client_for(editor)
    members = f"{API}{workspace.pk}/members/"
    assert client.post(members, {"username": "bob", "role": "viewer"}).status_code == 403
    assert client.patch(f"{members}{editor.pk}/", {"role": "owner"}).status_code == 403
    assert client.patch(f"{members}{owner.pk}/", {"role": "viewer"}).status_code == 403
    assert client.delete(f"{members}{owner.pk}/").status_code == 403
    assert client.delete(f"{members}{editor.pk}/").status_code == 204
    assert client.get(members).status_code == 404


def test_the_last_owner_can_be_neither_removed_nor_demoted() -> None:
    workspace = WorkspaceFactory()
    owner = member_of(workspace)
    one = f"{API}{workspace.pk}/members/{owner.pk}/"
    for answer in (client_for(owner).delete(one), client_for(owner).patch(one, {"role": "viewer"})):
        assert (answer.status_code, answer.json()["code"]) == (409, "owner_needed")


@pytest.mark.parametrize("user_id", ["0", "9" * 18, "9" * 19, "9" * 40])
def test_a_member_id_of_any_size_is_not_found(user_id: str) -> None:
    workspace = WorkspaceFactory()
    client = client_for(member_of(workspace))
    one = f"{API}{workspace.pk}/members/{user_id}/"
    assert client.get(one).status_code == 404
    assert client.patch(one, {"role": "viewer"}).status_code == 404
    assert client.delete(one).status_code == 404


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
def test_anothers_workspace_is_a_404_on_every_path_and_verb(whose: str) -> None:
    """Promise 38. The answer does not even tell whether it exists."""
    theirs = StorageQuotaFactory().workspace
    member = member_of(theirs)
    pk = theirs.pk if whose == "another's" else uuid.uuid4()
    client = client_for(UserFactory())
    body = {"name": "Mine", "username": member.username, "role": "owner", "max_storage_bytes": 1}
    paths = {
        "": ("get", "head", "patch"),
        "members/": ("get", "head", "post"),
        f"members/{member.pk}/": ("get", "head", "patch", "delete"),
        "quota/": ("get", "head", "patch"),
    }
    answers = {
        (path, verb): getattr(client, verb)(f"{API}{pk}/{path}", body if verb in ("post", "patch") else None)
        for path, verbs in paths.items()
        for verb in verbs
    }
    assert {answer.status_code for answer in answers.values()} == {404}
    assert {answer.json()["code"] for (_, verb), answer in answers.items() if verb != "head"} == {"not_found"}
    assert Membership.objects.filter(workspace=theirs).count() == 1
    assert StorageQuota.objects.get(workspace=theirs).max_storage_bytes is None


def test_those_who_are_not_signed_in_see_nothing() -> None:
    workspace = WorkspaceFactory()
    for path in ("", f"{workspace.pk}/", f"{workspace.pk}/members/", f"{workspace.pk}/quota/"):
        assert client_for(None).get(f"{API}{path}").status_code == 401

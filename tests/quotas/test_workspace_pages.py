"""The pages of workspaces as a browser without JavaScript has them: the list, a new one, one of them."""

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from quotas.models import Membership, StorageQuota, Workspace
from quotas.rights import role_of
from quotas.workspaces import personal_workspace
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, WorkspaceFactory, member_of, operator
from tests.quotas.browser import browser, text_of

pytestmark = pytest.mark.django_db

ROLES = ("stranger", "viewer", "editor", "owner", "staff")
MARKUP = "<script>alert(1)</script>\"'&<b>"
LIST = "/workspaces/"


def person(role: str, workspace: Workspace) -> Any:
    if role == "staff":
        return operator()
    return UserFactory() if role == "stranger" else member_of(workspace, Membership.Role(role))


def owners_only(status: int) -> dict[str, int]:
    return {"stranger": 404, "viewer": 403, "editor": 403, "owner": status, "staff": status}


SEEN = {"stranger": 404, "viewer": 200, "editor": 200, "owner": 200, "staff": 200}
CALLS = [
    ("GET", "workspace", {}, SEEN),
    ("GET", "workspace-settings", {}, owners_only(200)),
    ("POST", "workspace-settings", {"name": "Other", "keep_source_audio": "on"}, owners_only(302)),
    ("GET", "add-member", {}, owners_only(200)),
    ("POST", "add-member", {"username": "bob", "role": "viewer"}, owners_only(302)),
    ("GET", "member", {}, owners_only(200)),
    ("POST", "member", {"role": "editor"}, owners_only(302)),
    ("GET", "remove-member", {}, owners_only(200)),
    ("POST", "remove-member", {}, owners_only(302)),
]


def address(name: str, workspace: Workspace, user_id: int) -> str:
    kwargs = {"pk": workspace.pk}
    return reverse(name, kwargs=kwargs | {"user_id": user_id} if name in ("member", "remove-member") else kwargs)


@pytest.mark.parametrize(("verb", "name", "data", "expected"), CALLS, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_may_and_no_more(
    role: str, verb: str, name: str, data: dict[str, str], expected: dict[str, int]
) -> None:
    """Promise 38, and the roles behind it: another's workspace is a 404, what one's role does not allow a 403."""
    workspace = StorageQuotaFactory(workspace__name="House").workspace
    member = member_of(workspace, Membership.Role.VIEWER)
    bob = UserFactory(username="bob")
    before = sorted(Membership.objects.values_list("user", "role"))
    user = person(role, workspace)
    answer = browser(user).generic(
        verb,
        address(name, workspace, member.pk),
        "&".join(f"{field}={value}" for field, value in data.items()),
        content_type="application/x-www-form-urlencoded",
    )
    assert answer.status_code == expected[role]
    if answer.status_code == 302:
        assert answer["Location"] == f"/workspaces/{workspace.pk}/"
    else:
        kept = Membership.objects.exclude(user=user).values_list("user", "role")
        assert (sorted(kept), role_of(bob, workspace.pk)) == (before, None)
        workspace.refresh_from_db()
        assert workspace.name == "House"


@pytest.mark.parametrize("name", ["workspace-settings", "add-member", "member", "remove-member", "new-workspace"])
def test_a_form_without_its_token_changes_nothing(name: str) -> None:
    owner = MembershipFactory().user
    workspace = Workspace.objects.get(memberships__user=owner)
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner)
    path = reverse(name) if name == "new-workspace" else address(name, workspace, member_of(workspace).pk)
    before = list(Membership.objects.values_list()), list(Workspace.objects.values_list())
    assert client.post(path, {"name": "x", "username": owner.username, "role": "viewer"}).status_code == 403
    assert (list(Membership.objects.values_list()), list(Workspace.objects.values_list())) == before


@pytest.mark.parametrize("path", ["", "new/", "{pk}/", "{pk}/settings/", "{pk}/members/", "{pk}/members/1/"])
def test_who_is_not_signed_in_is_led_to_sign_in_and_back(path: str) -> None:
    path = LIST + path.format(pk=WorkspaceFactory().pk)
    assert Client().get(path)["Location"] == f"/sign-in/?next={path}"


def test_names_are_never_markup() -> None:
    workspace = StorageQuotaFactory(workspace__name=MARKUP).workspace
    owner = member_of(workspace, username=MARKUP)
    other = member_of(workspace, username=MARKUP + "2")
    client = browser(owner)
    pages = [client.get(LIST), client.get(LIST, {"q": MARKUP}), client.get(LIST, {"q": f"no {MARKUP}"})]
    for name in ("workspace", "workspace-settings", "add-member", "member", "remove-member"):
        pages += [client.get(address(name, workspace, user.pk)) for user in (owner, other)]
    pages.append(client.post(address("member", workspace, other.pk), {"role": "viewer"}, follow=True))
    pages.append(client.post(address("remove-member", workspace, other.pk), follow=True))
    for page in pages:
        content = page.content.decode()
        assert page.status_code == 200
        assert "<script>alert" not in content and "&lt;script&gt;alert" in content
        assert "style=" not in content and not re.search(r"\son\w+=", content)
        assert content.count("<h1>") == 1


def test_the_list_begins_with_ones_own_and_tells_role_files_and_room() -> None:
    user = UserFactory(username="ada")
    personal_workspace(user)
    shared = StorageQuotaFactory(
        workspace=MembershipFactory(user=user, role="viewer", workspace__name="Band").workspace,
        max_storage_bytes=4 * 1024**3,
        current_storage_bytes=1024**3,
        reserved_bytes=1024**3,
        current_file_count=12345,
    ).workspace
    WorkspaceFactory(name="Somebody else's")
    page = browser(user).get(LIST).content.decode()
    names = re.findall(r'<th scope="row">\s*<a href="([^"]+)">([^<]+)</a>', page)
    own = personal_workspace(user)
    assert names == [(f"/workspaces/{own.pk}/", "ada"), (f"/workspaces/{shared.pk}/", "Band")]
    for words in ("Viewer", "Owner", "12,345", "1.0 GB of 4.0 GB used", "0 bytes of 100.0 GB used"):
        assert words in text_of(page)
    assert 'aria-label="25 % used, 25 % reserved"' in page
    assert f'href="/?workspace={shared.slug}"' in page
    assert "Somebody else" not in page


def test_looking_at_the_list_makes_no_quota_of_others() -> None:
    WorkspaceFactory()
    assert browser(operator()).get(LIST).status_code == 200
    assert not StorageQuota.objects.exists()


def test_staff_find_every_workspace_by_name_or_short_name() -> None:
    for name, slug in (("Choir", "one"), ("Band", "choir-2"), ("Other", "three")):
        WorkspaceFactory(name=name, slug=slug)
    client = browser(operator())
    found = text_of(client.get(LIST, {"q": " choir "}).content.decode())
    assert "Choir" in found and "Band" in found and "Other" not in found
    assert "Nothing found" in text_of(client.get(LIST, {"q": "orchestra"}).content.decode())


def test_a_search_finds_only_ones_own() -> None:
    """Promise 38. Nobody can ask which names there are."""
    WorkspaceFactory(name="Secret choir")
    page = text_of(browser(UserFactory()).get(LIST, {"q": "choir"}).content.decode())
    assert "Nothing found" in page and "Secret" not in page


def test_every_workspace_stands_on_one_page_of_the_list() -> None:
    moment = timezone.now()
    Workspace.objects.bulk_create(
        Workspace(name=f"W{number}", slug=f"w{number}", created_at=moment - timedelta(days=number // 3))
        for number in range(120)
    )
    client = browser(operator(username="boss"))
    seen: list[str] = []
    address: str | None = LIST
    while address:
        page = client.get(address).content.decode()
        seen += re.findall(r'<a href="/workspaces/[0-9a-f-]+/">([^<]+)</a>', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        address = LIST + following[1] if following else None
    assert len(seen) == len(set(seen)) == 121
    assert seen[0] == "boss"


@pytest.mark.parametrize("cursor", ["x", "", "'", "0"])
@pytest.mark.parametrize("path", ["", "{pk}/"])
def test_a_place_in_a_list_that_is_none_is_its_beginning(path: str, cursor: str) -> None:
    workspace = StorageQuotaFactory(workspace__name="Band").workspace
    answer = browser(member_of(workspace)).get(LIST + path.format(pk=workspace.pk), {"cursor": cursor})
    assert answer.status_code == 200 and "Band" in answer.content.decode()


def test_a_new_workspace_belongs_to_who_made_it_whatever_else_the_form_says() -> None:
    """Promise 40. Fields that the form does not have are nobody's."""
    user, other = UserFactory(), UserFactory()
    forged = {"id": str(uuid.uuid4()), "personal_of": other.pk, "created_at": "2001-01-01", "role": "viewer"}
    answer = browser(user).post("/workspaces/new/", {"name": " Field recordings ", "slug": ""} | forged, follow=True)
    made = Workspace.objects.get(slug="field-recordings")
    assert answer.redirect_chain == [(f"/workspaces/{made.pk}/", 302)]
    assert "The workspace was made" in text_of(answer.content.decode())
    assert (made.name, made.personal_of, role_of(user, made.pk)) == ("Field recordings", None, "owner")
    assert str(made.pk) != forged["id"] and made.created_at.year > 2001
    assert role_of(other, made.pk) is None


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "This field is required."),
        ({"name": "  "}, 400, "This field is required."),
        ({"name": "x" * 201}, 400, "at most 200 characters"),
        ({"name": "a\0b"}, 400, "Null characters are not allowed."),
        ({"name": "Band", "slug": "Not A Slug"}, 400, "Use lower-case letters, digits and single hyphens."),
        ({"name": "Band", "slug": str(uuid.uuid4())}, 400, "must not look like an id"),
        ({"name": "Band", "slug": "taken"}, 409, "Another workspace has this short name"),
    ],
)
def test_what_cannot_be_a_workspace_is_told_beside_its_field(fields: dict[str, str], status: int, words: str) -> None:
    WorkspaceFactory(slug="taken")
    answer = browser(UserFactory()).post("/workspaces/new/", fields)
    page = answer.content.decode()
    assert answer.status_code == status
    assert words in "".join(re.findall(r'<ul class="errors".*?</ul>', page, re.DOTALL))
    assert Workspace.objects.filter(personal_of=None).count() == 1


def test_who_owns_as_many_workspaces_as_one_may_is_told_so(settings: Any) -> None:
    settings.MAX_OWNED_WORKSPACES = 1
    client = browser(MembershipFactory(role="owner").user)
    answer = client.post("/workspaces/new/", {"name": "One more"})
    assert answer.status_code == 409
    assert "as many workspaces as a user may" in text_of(answer.content.decode())
    assert not Workspace.objects.filter(name="One more").exists()


def limits_on(page: str) -> dict[str, list[str]]:
    body = re.search(r'<table class="rows limits">.*?</table>', page, re.DOTALL)[0]  # type: ignore[index]
    rows = re.findall(r'<th scope="row">([^<]+).*?</th>(.*?)</tr>', body, re.DOTALL)
    return {
        name.strip(): [text_of(cell) for cell in re.findall(r"<td.*?</td>", cells, re.DOTALL)] for name, cells in rows
    }


@time_machine.travel("2026-12-31T23:00:00Z", tick=False)
def test_each_limit_is_told_with_what_is_used_reserved_and_left() -> None:
    quota = StorageQuotaFactory(
        max_storage_bytes=10 * 1024**2,
        current_storage_bytes=4 * 1024**2,
        reserved_bytes=1024**2,
        max_file_count=1000000,
        current_file_count=2,
        reserved_files=1,
        max_monthly_uploads=3,
        monthly_uploads=5,
        max_file_size=1024,
    )
    page = browser(member_of(quota.workspace, "viewer")).get(f"/workspaces/{quota.workspace_id}/").content.decode()
    assert limits_on(page) == {
        "Storage": ["4.0 MB", "1.0 MB", "5.0 MB", "10.0 MB"],
        "Files": ["2", "1", "999,997", "1,000,000"],
        "Files uploaded this month": ["5", "1", "0", "3"],
        "Uploaded this month": ["0 bytes", "1.0 MB", "no limit", "no limit"],
    }
    assert re.findall(r'class="(\w+)" width="(\d+)%".*?x="(\d+)%" width="(\d+)%"', page) == [
        ("used", "40", "40", "10"),
        ("used", "1", "1", "0"),
        ("full", "100", "100", "0"),
    ]
    words = text_of(page)
    assert "One file may have up to 1.0 KB." in words
    assert "It begins anew on Jan. 1, 2027 at 0:00 UTC." in words
    assert "What is in the trash does not count; it goes for good after 30 days." in words


@time_machine.travel("2027-01-01T00:00:01Z", tick=False)
def test_a_new_month_begins_with_nothing() -> None:
    quota = StorageQuotaFactory(max_monthly_uploads=3, monthly_uploads=3, month=timezone.now().date() - timedelta(1))
    page = browser(member_of(quota.workspace)).get(f"/workspaces/{quota.workspace_id}/").content.decode()
    assert limits_on(page)["Files uploaded this month"] == ["0", "0", "3", "3"]


@pytest.mark.parametrize("role", ["viewer", "owner", "staff"])
def test_one_workspace_takes_as_many_queries_for_fifty_members_as_for_one(role: str) -> None:
    workspace = StorageQuotaFactory().workspace
    client = browser(person(role, workspace))
    counts = []
    for more in (1, 49):
        for _ in range(more):
            member_of(workspace)
        client.get(f"/workspaces/{workspace.pk}/")
        with CaptureQueriesContext(connection) as queries:
            assert client.get(f"/workspaces/{workspace.pk}/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_the_list_takes_as_many_queries_for_thirty_workspaces_as_for_three() -> None:
    user = UserFactory()
    client = browser(user)
    counts = []
    for more in (2, 27):
        for _ in range(more):
            MembershipFactory(user=user)
        client.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            assert client.get(LIST).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 6

"""Members on pages: let in, given another role, removed, gone by themselves."""

import re

import pytest

from quotas.models import Membership, Workspace
from quotas.rights import role_of
from quotas.workspaces import personal_workspace
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, member_of, operator
from tests.quotas.browser import browser, text_of

pytestmark = pytest.mark.django_db


def page_of(workspace: Workspace, path: str = "") -> str:
    return f"/workspaces/{workspace.pk}/{path}"


def errors_on(markup: str) -> str:
    return text_of("".join(re.findall(r'<ul class="errors".*?</ul>', markup, re.DOTALL)))


def test_a_member_is_let_in_given_another_role_and_removed() -> None:
    workspace = WorkspaceFactory(name="Band")
    client = browser(member_of(workspace, username="ada"))
    bob = UserFactory(username="bob")

    answer = client.post(page_of(workspace, "members/"), {"username": " bob ", "role": "editor"}, follow=True)
    assert answer.redirect_chain == [(page_of(workspace), 302)]
    assert "bob is in." in text_of(answer.content.decode())
    assert role_of(bob, workspace.pk) == "editor"
    assert page_of(workspace, f"members/{bob.pk}/") in answer.content.decode()

    page = client.get(page_of(workspace, f"members/{bob.pk}/")).content.decode()
    assert re.search(r'value="editor"[^>]* checked', page)
    answer = client.post(page_of(workspace, f"members/{bob.pk}/"), {"role": "owner"}, follow=True)
    assert "The role of bob is now: Owner." in text_of(answer.content.decode())
    assert role_of(bob, workspace.pk) == "owner"

    asked = client.get(page_of(workspace, f"members/{bob.pk}/remove/")).content.decode()
    assert "Remove bob?" in text_of(asked)
    assert role_of(bob, workspace.pk) == "owner"
    answer = client.post(page_of(workspace, f"members/{bob.pk}/remove/"), follow=True)
    assert "bob is no longer a member of Band." in text_of(answer.content.decode())
    assert role_of(bob, workspace.pk) is None


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"role": "viewer"}, 400, "This field is required."),
        ({"username": "bob"}, 400, "This field is required."),
        ({"username": "bob", "role": "king"}, 400, "king is not one of the available choices"),
        ({"username": "nobody", "role": "viewer"}, 400, "There is no user of this name."),
        ({"username": "gone", "role": "viewer"}, 400, "There is no user of this name."),
        ({"username": "ada", "role": "viewer"}, 409, "This user is a member already: change the role instead"),
    ],
)
def test_who_cannot_be_let_in_is_told_beside_the_field(fields: dict[str, str], status: int, words: str) -> None:
    workspace = WorkspaceFactory()
    owner = member_of(workspace, username="ada")
    UserFactory(username="bob")
    UserFactory(username="gone", is_active=False)
    answer = browser(owner).post(page_of(workspace, "members/"), fields)
    assert answer.status_code == status
    assert words in errors_on(answer.content.decode())
    assert list(Membership.objects.values_list("user", "role")) == [(owner.pk, "owner")]


def test_forged_fields_of_a_member_are_ignored() -> None:
    """Promise 40. Neither whose workspace it is nor since when can be told by a form."""
    workspace, other = WorkspaceFactory(), WorkspaceFactory()
    bob = UserFactory(username="bob")
    forged = {"workspace": other.pk, "user": 1, "user_id": 1, "created_at": "2001-01-01", "id": 1}
    client = browser(member_of(workspace))
    client.post(page_of(workspace, "members/"), {"username": "bob", "role": "viewer"} | forged)
    client.post(page_of(workspace, f"members/{bob.pk}/"), {"role": "editor"} | forged)
    membership = Membership.objects.get(user=bob)
    assert (membership.workspace, membership.role) == (workspace, "editor")
    assert membership.created_at.year > 2001
    assert not other.memberships.exists()


@pytest.mark.parametrize("role", ["viewer", "editor", "owner"])
def test_everybody_may_leave_and_is_asked_before(role: str) -> None:
    workspace = WorkspaceFactory(name="Band")
    member_of(workspace)
    user = member_of(workspace, role)
    client = browser(user)
    address = page_of(workspace, f"members/{user.pk}/remove/")
    assert address in client.get(page_of(workspace)).content.decode()
    assert "Leave Band?" in text_of(client.get(address).content.decode())
    assert role_of(user, workspace.pk) == role
    answer = client.post(address, follow=True)
    assert answer.redirect_chain == [("/workspaces/", 302)]
    assert "You left Band." in text_of(answer.content.decode())
    assert role_of(user, workspace.pk) is None
    assert client.get(page_of(workspace)).status_code == 404


def test_the_last_owner_can_neither_leave_nor_become_less() -> None:
    workspace = WorkspaceFactory()
    owner = member_of(workspace)
    member_of(workspace, "editor")
    client = browser(owner)
    left = client.post(page_of(workspace, f"members/{owner.pk}/remove/"))
    assert left.status_code == 409
    alert = re.search(r'role="alert">(.*?)<', left.content.decode())
    assert alert and "last owner: make another member an owner first" in alert[1]
    lowered = client.post(page_of(workspace, f"members/{owner.pk}/"), {"role": "viewer"})
    assert lowered.status_code == 409
    assert "last owner: make another member an owner first" in errors_on(lowered.content.decode())
    assert role_of(owner, workspace.pk) == "owner"


def test_an_owner_of_several_may_become_a_viewer_and_lands_where_a_viewer_may_be() -> None:
    workspace = WorkspaceFactory()
    member_of(workspace)
    owner = member_of(workspace)
    answer = browser(owner).post(page_of(workspace, f"members/{owner.pk}/"), {"role": "viewer"}, follow=True)
    assert answer.status_code == 200
    assert "Settings" not in text_of(answer.content.decode())
    assert role_of(owner, workspace.pk) == "viewer"


def test_a_personal_workspace_is_never_left_by_its_own_user() -> None:
    user = UserFactory()
    own = personal_workspace(user)
    MembershipFactory(workspace=own, role="owner")
    client = browser(user)
    assert "remove/" not in client.get(page_of(own)).content.decode()
    answer = client.post(page_of(own, f"members/{user.pk}/remove/"))
    assert answer.status_code == 409
    assert "keeps its own user" in text_of(answer.content.decode())
    assert role_of(user, own.pk) == "owner"


@pytest.mark.parametrize("user_id", ["0", "9" * 18, "9" * 19, "9" * 40])
@pytest.mark.parametrize("path", ["members/{}/", "members/{}/remove/"])
def test_who_is_no_member_is_not_found(path: str, user_id: str) -> None:
    workspace = WorkspaceFactory()
    client = browser(member_of(workspace))
    address = page_of(workspace, path.format(user_id))
    assert client.get(address).status_code == client.post(address, {"role": "viewer"}).status_code == 404


def test_a_member_of_another_workspace_is_not_found() -> None:
    """Promise 38. Nor is told that there is such a user."""
    workspace, stranger = WorkspaceFactory(), MembershipFactory().user
    client = browser(member_of(workspace))
    for path in (f"members/{stranger.pk}/", f"members/{stranger.pk}/remove/"):
        assert client.get(page_of(workspace, path)).status_code == 404
        assert client.post(page_of(workspace, path), {"role": "viewer"}).status_code == 404
    assert Membership.objects.get(user=stranger).role == "owner"


def test_viewers_are_offered_nothing_that_they_may_not_do() -> None:
    workspace = WorkspaceFactory()
    member_of(workspace)
    viewer = member_of(workspace, "viewer")
    page = browser(viewer).get(page_of(workspace)).content.decode()
    links = re.findall(rf'href="{page_of(workspace)}([^"]+)"', page)
    assert links == [f"members/{viewer.pk}/remove/"]


def test_staff_who_are_no_members_manage_but_have_nothing_to_leave() -> None:
    workspace = WorkspaceFactory()
    member = member_of(workspace)
    staff = operator()
    page = browser(staff).get(page_of(workspace)).content.decode()
    links = re.findall(rf'href="{page_of(workspace)}([^"]+)"', page)
    assert links == ["settings/", "members/", f"members/{member.pk}/"]
    assert browser(staff).post(page_of(workspace, f"members/{staff.pk}/remove/")).status_code == 404


def test_every_member_stands_on_one_page_by_name_and_one_may_go_back() -> None:
    workspace = WorkspaceFactory()
    names = sorted(f"person{number:03}" for number in range(60))
    for name in reversed(names):
        member_of(workspace, "viewer", username=name)
    client = browser(operator())
    seen: list[str] = []
    address: str | None = page_of(workspace)
    pages = 0
    while address:
        page = client.get(address).content.decode()
        seen += re.findall(r'<th scope="row">(person\d+)', page)
        following = re.search(r'rel="next" href="(\?[^"#]+)#members"', page)
        address = page_of(workspace) + following[1] if following else None
        pages += 1
    assert (seen, pages) == (names, 3)
    back = re.search(r'rel="prev" href="(\?[^"#]+)#members"', page)
    assert back
    assert (
        re.findall(r'<th scope="row">(person\d+)', client.get(page_of(workspace) + back[1]).content.decode())
        == (names[25:50])
    )

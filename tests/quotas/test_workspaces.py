"""Who has which workspace and may do what in it."""

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import ProtectedError

from audiotricks.errors import NotFound, PermissionDenied
from quotas.errors import AlreadyMember, OwnerNeeded, SlugTaken, TooManyWorkspaces
from quotas.models import Membership, Workspace
from quotas.rights import Right, require_right, role_of
from quotas.workspaces import (
    add_member,
    change_role,
    create_workspace,
    personal_workspace,
    remove_member,
    workspace_for,
)
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, member_of, operator, permitted
from tests.quotas.threads import at_once, kinds

pytestmark = pytest.mark.django_db

Role = Membership.Role
AN_ID = "9f8f5728-b4b0-4efd-a755-79d539f9209b"


def test_a_personal_workspace_is_made_once_and_owned_by_its_user() -> None:
    user = UserFactory(username="Ada_L.")
    workspace = personal_workspace(user)
    assert personal_workspace(user) == workspace
    assert (workspace.name, workspace.slug, role_of(user, workspace.pk)) == ("Ada_L.", "ada-l", Role.OWNER)


@pytest.mark.parametrize("username", ["ада", "___", AN_ID, AN_ID.replace("-", ""), "x" * 150, "--a--b--"])
def test_every_username_gives_a_slug_that_is_valid_and_no_id(username: str) -> None:
    workspace = personal_workspace(UserFactory(username=username))
    workspace.clean_fields(exclude=["personal_of"])
    assert workspace_for(operator(), workspace.slug, right=Right.VIEW_FILES) == workspace


def test_users_whose_names_give_the_same_slug_get_different_ones() -> None:
    first, second, third = (personal_workspace(UserFactory(username=name)) for name in ("a.b", "ab", "a+b"))
    assert first.slug == "ab"
    assert len({first.slug, second.slug, third.slug}) == 3


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_asking_for_the_personal_workspace_at_once_makes_one() -> None:
    users = [UserFactory(username="same.name"), UserFactory(username="samename")]
    outcomes = at_once(*[partial(personal_workspace, user) for user in users * 10])
    assert {outcome.pk for outcome in outcomes} == set(Workspace.objects.values_list("pk", flat=True))
    assert Workspace.objects.count() == Membership.objects.count() == 2


def test_a_user_with_files_to_lose_cannot_be_deleted() -> None:
    user = UserFactory()
    personal_workspace(user)
    with pytest.raises(ProtectedError):
        user.delete()


def test_a_workspace_is_found_by_id_by_slug_or_as_ones_own() -> None:
    user = UserFactory()
    shared = create_workspace(user, name="Field recordings")
    assert shared.slug == "field-recordings"
    assert workspace_for(user, str(shared.pk), right=Right.VIEW_FILES) == shared
    assert workspace_for(user, "field-recordings", right=Right.VIEW_FILES) == shared
    assert workspace_for(user, None, right=Right.VIEW_FILES) == personal_workspace(user)


@pytest.mark.parametrize("ref", ["", "nowhere", "\0", "a\0b", "' OR 1=1 --", "x" * 10_000, "\ud800", AN_ID])
def test_what_names_no_workspace_is_not_found(ref: str) -> None:
    with pytest.raises(NotFound):
        workspace_for(UserFactory(), ref, right=Right.VIEW_FILES)


def test_anothers_workspace_is_not_found_by_id_or_slug() -> None:
    """Promise 38. Not theirs and not there are the same answer."""
    theirs, user = WorkspaceFactory(), UserFactory()
    for ref in (str(theirs.pk), theirs.slug):
        with pytest.raises(NotFound):
            workspace_for(user, ref, right=Right.VIEW_FILES)
    with pytest.raises(NotFound):
        require_right(user, Right.VIEW_FILES, theirs.pk)
    assert role_of(user, theirs.pk) is None
    assert role_of(AnonymousUser(), theirs.pk) is None


def test_each_role_may_do_what_the_lower_ones_may() -> None:
    workspace = WorkspaceFactory()
    may = {
        role: [minimum for minimum in Role if not refuses(member_of(workspace, role), workspace, minimum)]
        for role in Role
    }
    assert may == {
        Role.OWNER: [Role.OWNER, Role.EDITOR, Role.VIEWER],
        Role.EDITOR: [Role.EDITOR, Role.VIEWER],
        Role.VIEWER: [Role.VIEWER],
    }


#: One right for each least role.
NEEDING = {
    Role.OWNER: Right.PURGE_FILES,
    Role.EDITOR: Right.ADD_FILES,
    Role.VIEWER: Right.VIEW_FILES,
}


def refuses(user: object, workspace: Workspace, minimum: Membership.Role) -> bool:
    try:
        require_right(user, NEEDING[minimum], workspace.pk)
    except PermissionDenied:
        return True
    return False


def test_permissions_hold_in_every_workspace() -> None:
    workspace, staff = WorkspaceFactory(), operator()
    assert require_right(staff, Right.PURGE_FILES, workspace.pk) == "uploads.delete_audioupload"
    assert workspace_for(staff, workspace.slug, right=Right.VIEW_FILES) == workspace
    assert workspace in Workspace.objects.where(staff, Right.ADD_FILES)


def test_users_see_their_workspaces_and_edit_where_they_are_no_viewers() -> None:
    user = UserFactory()
    owned, edited, viewed = (MembershipFactory(user=user, role=role).workspace for role in Role)
    MembershipFactory()
    assert set(Workspace.objects.visible_to(user)) == {owned, edited, viewed}
    assert set(Workspace.objects.where(user, Right.ADD_FILES)) == {owned, edited}
    assert {row.pk: row.role for row in Workspace.objects.visible_to(user).with_role_of(user)} == {
        owned.pk: "owner",
        edited.pk: "editor",
        viewed.pk: "viewer",
    }


def test_a_slug_that_is_asked_for_is_given_or_refused_but_never_changed() -> None:
    user = UserFactory()
    create_workspace(user, name="One", slug="band")
    with pytest.raises(SlugTaken):
        create_workspace(user, name="Two", slug="band")
    assert create_workspace(user, name="band").slug.startswith("band-")


@pytest.mark.parametrize("slug", ["", "A", "a_b", "-a", "a-", "a--b", "a b", "a\n", AN_ID, "x" * 61])
def test_a_slug_that_could_be_mistaken_is_refused(slug: str) -> None:
    with pytest.raises(ValidationError):
        create_workspace(UserFactory(), name="Band", slug=slug)
    assert not Workspace.objects.exists()


def test_a_member_is_added_once() -> None:
    workspace, user = WorkspaceFactory(), UserFactory()
    add_member(workspace, user=user, role=Role.VIEWER)
    with pytest.raises(AlreadyMember):
        add_member(workspace, user=user, role=Role.OWNER)
    assert role_of(user, workspace.pk) == Role.VIEWER


def test_the_last_owner_stays() -> None:
    workspace = WorkspaceFactory()
    first, second = member_of(workspace), member_of(workspace)
    change_role(workspace, user_id=second.pk, role=Role.EDITOR)
    with pytest.raises(OwnerNeeded):
        change_role(workspace, user_id=first.pk, role=Role.VIEWER)
    with pytest.raises(OwnerNeeded):
        remove_member(workspace, user_id=first.pk)
    change_role(workspace, user_id=first.pk, role=Role.OWNER)
    change_role(workspace, user_id=second.pk, role=Role.OWNER)
    remove_member(workspace, user_id=first.pk)
    assert role_of(first, workspace.pk) is None


def test_a_personal_workspace_keeps_its_own_user_as_an_owner() -> None:
    user = UserFactory()
    workspace = personal_workspace(user)
    member_of(workspace)
    with pytest.raises(OwnerNeeded):
        change_role(workspace, user_id=user.pk, role=Role.EDITOR)
    with pytest.raises(OwnerNeeded):
        remove_member(workspace, user_id=user.pk)


def test_those_who_are_no_members_cannot_be_changed_or_removed() -> None:
    workspace, stranger = WorkspaceFactory(), UserFactory()
    with pytest.raises(NotFound):
        change_role(workspace, user_id=stranger.pk, role=Role.VIEWER)
    with pytest.raises(NotFound):
        remove_member(workspace, user_id=stranger.pk)


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("run", range(3))
def test_owners_who_leave_at_once_leave_one_behind(run: int) -> None:
    workspace = WorkspaceFactory()
    owners = [member_of(workspace) for _ in range(8)]
    outcomes = at_once(*[partial(remove_member, workspace, user_id=owner.pk) for owner in owners])
    assert kinds(outcomes) == {"NoneType": 7, "OwnerNeeded": 1}
    assert Membership.objects.filter(workspace=workspace, role=Role.OWNER).count() == 1


def test_nobody_gets_round_a_quota_by_owning_ever_more_workspaces(settings: Any) -> None:
    user = UserFactory()
    settings.MAX_OWNED_WORKSPACES = 2
    personal_workspace(user)
    for name in ("One", "Two"):
        create_workspace(user, name=name)

    with pytest.raises(TooManyWorkspaces):
        create_workspace(user, name="Three")

    assert Workspace.objects.filter(memberships__user=user).count() == 3
    user = permitted("quotas.add_workspace")
    for name in ("Four", "Five", "Six"):
        create_workspace(user, name=name)


# Ownership that changes hands


def test_nobody_is_made_the_owner_of_more_workspaces_than_a_user_may_own(settings: Any) -> None:
    """Promise 63. By a new membership, by a role that changes, and by somebody else's personal workspace."""
    settings.MAX_OWNED_WORKSPACES = 1
    giver, taker = UserFactory(), UserFactory()
    personal_workspace(taker)
    first = create_workspace(giver, name="First")
    add_member(first, user=taker, role=Role.OWNER)
    second = create_workspace(UserFactory(), name="Second")
    with pytest.raises(TooManyWorkspaces):
        add_member(second, user=taker, role=Role.OWNER)
    add_member(second, user=taker, role=Role.EDITOR)
    with pytest.raises(TooManyWorkspaces):
        change_role(second, user_id=taker.pk, role=Role.OWNER)
    with pytest.raises(TooManyWorkspaces):
        add_member(personal_workspace(UserFactory()), user=taker, role=Role.OWNER)
    change_role(first, user_id=taker.pk, role=Role.OWNER)
    with pytest.raises(AlreadyMember):
        add_member(first, user=taker, role=Role.OWNER)
    change_role(first, user_id=taker.pk, role=Role.VIEWER)
    change_role(second, user_id=taker.pk, role=Role.OWNER)


@pytest.mark.django_db(transaction=True)
def test_a_user_who_is_made_an_owner_many_times_at_once_stays_within_the_limit(settings: Any) -> None:
    """Promise 63. Created, added and promoted at the same moment."""
    settings.MAX_OWNED_WORKSPACES = 3
    user = UserFactory()
    spaces = [create_workspace(UserFactory(), name=f"Space {number}") for number in range(8)]
    for space in spaces[:4]:
        add_member(space, user=user, role=Role.VIEWER)
    at_once(
        *(partial(change_role, space, user_id=user.pk, role=Role.OWNER) for space in spaces[:4]),
        *(partial(add_member, space, user=user, role=Role.OWNER) for space in spaces[4:]),
        *(partial(create_workspace, user, name=f"Mine {number}") for number in range(4)),
    )
    assert Membership.objects.filter(user=user, role=Role.OWNER).count() == 3

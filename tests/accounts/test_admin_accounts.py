"""Accounts, groups and tokens in the administration: who may do what to whom."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken
from accounts.tokens import create_token
from quotas.workspaces import create_workspace, personal_workspace
from tests.factories import UserFactory, client_for

pytestmark = pytest.mark.django_db

LIST = "/admin/auth/user/"
PASSWORD = "a long pass phrase of its own"


@pytest.fixture
def root() -> User:
    return UserFactory(username="root", is_staff=True, is_superuser=True)


@pytest.fixture
def helper() -> User:
    """Staff with every permission that there is, but no superuser."""
    user = UserFactory(username="helper", is_staff=True)
    user.user_permissions.set(Permission.objects.all())
    return user


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page_of(user: User) -> str:
    return reverse("admin:auth_user_change", args=[user.pk])


def sent(user: User, **changes: Any) -> dict[str, Any]:
    """The user's form as a browser would send it, with some of it forged or changed."""
    form = {"username": user.username, "email": user.email, "first_name": "", "last_name": "", "is_active": "on"}
    return {key: value for key, value in {**form, **changes}.items() if value is not None}


def rights_of(user: User) -> tuple[Any, ...]:
    user.refresh_from_db()
    return user.is_staff, user.is_superuser, user.groups.count(), user.user_permissions.count()


FORGED = {"is_staff": "on", "is_superuser": "on"}


def test_staff_give_no_rights_to_an_ordinary_user(helper: User) -> None:
    """Promise 40. The fields are not theirs to send, and what they may send is taken."""
    user, group = UserFactory(), Group.objects.create(name="Mighty")
    permission = Permission.objects.all()[0]
    forged = sent(user, first_name="Ada", groups=group.pk, user_permissions=permission.pk, **FORGED)
    assert client_of(helper).post(page_of(user), forged).status_code == 302
    assert rights_of(user) == (False, False, 0, 0)
    assert user.first_name == "Ada"


def test_staff_make_no_account_with_rights(helper: User) -> None:
    """Promise 40."""
    new = {"username": "new", "usable_password": "true", "password1": PASSWORD, "password2": PASSWORD, **FORGED}
    assert client_of(helper).post(LIST + "add/", new).status_code == 302
    assert rights_of(User.objects.get(username="new")) == (False, False, 0, 0)


def test_a_superuser_gives_rights(root: User) -> None:
    """The control of the two above."""
    user, group = UserFactory(), Group.objects.create(name="Mighty")
    client_of(root).post(page_of(user), sent(user, groups=group.pk, **FORGED))
    assert rights_of(user) == (True, True, 1, 0)


@pytest.mark.parametrize("who", ["superuser", "other staff", "oneself"])
def test_staff_change_nobody_who_has_rights(who: str, root: User, helper: User) -> None:
    """With the password of somebody who has rights one has them too."""
    user = {"superuser": root, "other staff": UserFactory(is_staff=True), "oneself": helper}[who]
    client = client_of(helper)
    before = User.objects.filter(pk=user.pk).values().get()
    assert client.post(page_of(user), sent(user, email="mine@example.com", **FORGED)).status_code == 403
    password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true", "set-password": "1"}
    for method in (client.get, client.post):
        assert method(f"/admin/auth/user/{user.pk}/password/", password).status_code == 403
    assert client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=user.pk).values().get() == before


def test_staff_may_set_the_password_of_an_ordinary_user(helper: User) -> None:
    user = UserFactory()
    password = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true", "set-password": "1"}
    assert client_of(helper).post(f"/admin/auth/user/{user.pk}/password/", password).status_code == 302
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


def test_staff_change_no_group(helper: User) -> None:
    """A group of one's own, with more in it, would be rights that nobody gave."""
    group = Group.objects.create(name="Helpers")
    client = client_of(helper)
    forged = {"name": "Helpers", "permissions": [Permission.objects.all()[0].pk]}
    assert client.get(f"/admin/auth/group/{group.pk}/change/").status_code == 200
    assert client.post(f"/admin/auth/group/{group.pk}/change/", forged).status_code == 403
    assert client.post("/admin/auth/group/add/", forged | {"name": "Others"}).status_code == 403
    assert client.post(f"/admin/auth/group/{group.pk}/delete/", {"post": "yes"}).status_code == 403
    assert group.permissions.count() == 0 and Group.objects.count() == 1


def test_a_superuser_gives_a_group_permissions_in_words(root: User) -> None:
    group = Group.objects.create(name="Helpers")
    page = client_of(root).get(f"/admin/auth/group/{group.pk}/change/").content.decode()
    assert "API tokens: look at" in page
    assert "session" not in page.lower().replace("sessionid", "").replace("uploadsession", "")
    view = Permission.objects.get(codename="view_apitoken")
    client_of(root).post(f"/admin/auth/group/{group.pk}/change/", {"name": "Helpers", "permissions": [view.pk]})
    assert list(group.permissions.all()) == [view]


def test_nobody_locks_themselves_out(root: User) -> None:
    """So that there is always a superuser left."""
    client = client_of(root)
    client.post(page_of(root), sent(root, is_active=None, is_staff=None, is_superuser=None))
    client.post(LIST, {"action": "deactivate", "_selected_action": [root.pk], "confirmed": "yes"})
    root.refresh_from_db()
    assert root.is_active and root.is_staff and root.is_superuser
    assert client.post(f"/admin/auth/user/{root.pk}/delete/", {"post": "yes"}).status_code == 403
    assert User.objects.filter(pk=root.pk).exists()


def test_somebody_whom_rows_name_is_not_deleted_but_told_of_in_words(root: User) -> None:
    user = UserFactory(username="ada")
    personal_workspace(user)
    client = client_of(root)
    assert b"Delete user" not in client.get(page_of(user)).content
    for method in (client.get, client.post):
        answer = method(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}, follow=True)
        assert answer.redirect_chain == [(page_of(user), 302)]
        assert "ada cannot be deleted" in answer.content.decode()
    assert User.objects.filter(pk=user.pk).exists()


def test_an_account_made_by_mistake_is_deleted_with_its_tokens(root: User) -> None:
    user = UserFactory()
    create_token(user, name="laptop", expires_in=None)
    client = client_of(root)
    assert b"Delete user" in client.get(page_of(user)).content
    assert client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not User.objects.filter(pk=user.pk).exists() and not ApiToken.objects.exists()


def test_deactivating_asks_first_and_says_how_many(root: User) -> None:
    users = [UserFactory(), UserFactory(), UserFactory(is_active=False)]
    client = client_of(root)
    chosen = {"action": "deactivate", "_selected_action": [user.pk for user in users]}
    asked = client.post(LIST, chosen)
    assert asked.status_code == 200 and "2 people can no longer sign in" in asked.content.decode()
    assert User.objects.filter(is_active=False).count() == 1
    done = client.post(LIST, chosen | {"confirmed": "yes"}, follow=True)
    assert "2 accounts were deactivated" in done.content.decode()
    assert User.objects.filter(is_active=False).count() == 3
    assert "Deactivated." in client.get(f"/admin/auth/user/{users[0].pk}/history/").content.decode()


def test_a_deactivated_user_is_signed_out_and_their_tokens_end(root: User) -> None:
    user = UserFactory()
    _, secret = create_token(user, name="laptop", expires_in=None)
    signed_in, program = client_of(user), client_for(None)
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert program.get("/api/v1/tokens/").status_code == 200
    client_of(root).post(LIST, {"action": "deactivate", "_selected_action": [user.pk], "confirmed": "yes"})
    assert program.get("/api/v1/tokens/").status_code == 401
    assert signed_in.get("/").status_code == 302


def test_a_selection_is_carried_out_only_on_those_whom_one_may_change(helper: User, root: User) -> None:
    user, staff = UserFactory(), UserFactory(is_staff=True)
    chosen = [user.pk, staff.pk, root.pk, helper.pk]
    client_of(helper).post(LIST, {"action": "deactivate", "_selected_action": chosen, "confirmed": "yes"})
    assert set(User.objects.filter(is_active=False)) == {user}


def test_an_action_needs_the_permission_to_change() -> None:
    viewer, user = UserFactory(is_staff=True), UserFactory()
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client_of(viewer).post(LIST, {"action": "deactivate", "_selected_action": [user.pk], "confirmed": "yes"})
    user.refresh_from_db()
    assert user.is_active


def test_a_users_page_shows_what_is_theirs(root: User) -> None:
    user = UserFactory(username="ada")
    personal, shared = personal_workspace(user), create_workspace(user, name="Shared")
    create_token(user, name="laptop", expires_in=timedelta(days=1))
    create_token(user, name="robot", expires_in=None)
    text = client_of(root).get(page_of(user)).content.decode()
    for workspace in (personal, shared):
        assert reverse("admin:quotas_workspace_change", args=[workspace.pk]) in text
    assert "laptop" in text and "robot" in text and "(never expires)" in text


@pytest.mark.parametrize("who", ["root", "helper", "viewer"])
def test_no_page_shows_a_digest_or_a_password_hash(who: str, request: pytest.FixtureRequest) -> None:
    if who == "viewer":
        staff = UserFactory(is_staff=True)
        staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    else:
        staff = request.getfixturevalue(who)
    user = UserFactory(password="pbkdf2_sha256$1000$somesalt$" + "k" * 44)
    token, secret = create_token(user, name="laptop", expires_in=None)
    User.objects.filter(pk=user.pk).update(password="pbkdf2_sha256$1000$somesalt$" + "k" * 44)
    client = client_of(staff)
    for address in (LIST, page_of(user), "/admin/audiotricks/apitoken/", token_page(token)):
        text = client.get(address).content.decode()
        for hidden in (token.digest, token.token_key, secret, "k" * 44, "somesalt"):
            assert hidden not in text, address


def token_page(token: ApiToken) -> str:
    return reverse("admin:audiotricks_apitoken_change", args=[token.pk])


def test_a_token_is_revoked_and_not_changed(root: User) -> None:
    """Promise 40. Its user, its digest and its end stay as they were made."""
    token, secret = create_token(UserFactory(), name="laptop", expires_in=timedelta(days=1))
    client = client_of(root)
    before = ApiToken.objects.values().get()
    forged = {"name": "mine", "user": root.pk, "digest": "0" * 128, "token_key": "0", "expiry_0": "2099-01-01"}
    assert client.post(token_page(token), forged).status_code == 403
    assert client.post("/admin/audiotricks/apitoken/add/", forged).status_code == 403
    assert ApiToken.objects.values().get() == before
    assert client.post(f"/admin/audiotricks/apitoken/{token.pk}/delete/", {"post": "yes"}).status_code == 302
    program = client_for(None)
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert program.get("/api/v1/tokens/").status_code == 401


def test_tokens_are_found_by_validity_and_by_user(root: User) -> None:
    ada = UserFactory(username="ada")
    create_token(ada, name="valid", expires_in=timedelta(days=1))
    create_token(UserFactory(), name="endless", expires_in=None)
    expired, _ = create_token(ada, name="expired", expires_in=timedelta(days=1))
    ApiToken.objects.filter(pk=expired.pk).update(expiry=timezone.now() - timedelta(days=1))
    client = client_of(root)

    def found(**query: str) -> set[str]:
        rows = client.get("/admin/audiotricks/apitoken/", query).context["cl"].result_list
        return {row.name for row in rows}

    for name in ("valid", "endless", "expired"):
        assert found(validity=name) == {name}
    assert found(q="ada") == {"valid", "expired"}
    assert found(q="less") == {"endless"}

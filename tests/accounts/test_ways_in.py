"""Promise 61: what ends with a password, and that no token outlives or outranks what made it."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.api.rows import store_upload
from tests.factories import UserFactory, WorkspaceFactory, member_of
from uploads.serving.links import LinkEnded, open_link, sign_link

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
TOKENS = "/api/v1/tokens/"
NEW = "another battery staple 8"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def make(client: APIClient, **body: Any) -> Any:
    return client.post(TOKENS, {"name": "new", **body}, headers=body.pop("headers", None))


@pytest.mark.parametrize("way", ["shell", "administration"])
def test_a_new_password_ends_tokens_sessions_and_links_whoever_sets_it(way: str) -> None:
    """Promise 61."""
    workspace = WorkspaceFactory()
    user = member_of(workspace)
    upload = store_upload(workspace)
    session = Client()
    session.force_login(user)
    _, secret = create_token(user, name="laptop", expires_in=None)
    link = sign_link(upload, maker=user)
    assert open_link(link).upload == upload
    if way == "shell":
        user.set_password(NEW)
        user.save()
    else:
        root = Client()
        root.force_login(UserFactory(is_staff=True, is_superuser=True))
        sent = {"password1": NEW, "password2": NEW, "usable_password": "true"}
        assert root.post(f"/admin/auth/user/{user.pk}/password/", sent).status_code == 302
    assert Client().get(TOKENS, headers=bearer(secret)).status_code == 401
    assert session.get("/account/").status_code == 302
    with pytest.raises(LinkEnded):
        open_link(link)


def test_a_stronger_hash_of_the_same_password_ends_nothing(settings: Any) -> None:
    user = UserFactory()
    create_token(user, name="laptop", expires_in=None)
    before = user.password
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    assert Client().login(username=user.username, password=PASSWORD)
    user.refresh_from_db()
    assert user.password != before
    assert ApiToken.objects.filter(user=user).exists()


def test_deactivating_somebody_ends_every_way_in_for_good() -> None:
    """Promise 61. Nothing comes back when the account is activated again."""
    user = UserFactory()
    session = Client()
    session.force_login(user)
    _, secret = create_token(user, name="laptop", expires_in=None)
    for active in (False, True):
        user.is_active = active
        user.save()
    assert Client().get(TOKENS, headers=bearer(secret)).status_code == 401
    assert session.get("/account/").status_code == 302


def test_making_a_token_takes_the_password_now(user: Any = None) -> None:
    """Promise 61. A session that was left open, or a token that was stolen, makes none."""
    user = UserFactory()
    session = APIClient()
    session.force_login(user)
    _, secret = create_token(user, name="laptop", expires_in=None)
    by_token = APIClient(headers=bearer(secret))
    for client in (session, by_token):
        refused = client.post(TOKENS, {"name": "new"})
        assert (refused.status_code, refused.json()["code"]) == (403, "password_needed")
        wrong = client.post(TOKENS, {"name": "new", "current_password": "wrong"})
        assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["current_password"])
        assert client.post(TOKENS, {"name": "new", "current_password": PASSWORD}).status_code == 201
    page = Client()
    page.force_login(user)
    sent = {"name": "paged", "days": "30", "scope": "read"}
    assert page.post("/account/tokens/", sent).status_code == 200
    assert page.post("/account/tokens/", sent | {"current_password": PASSWORD}).status_code == 201
    assert ApiToken.objects.get(name="paged").scope == "read"


def test_a_child_never_outlives_or_outranks_its_parent() -> None:
    """Promise 61."""
    user = UserFactory()
    parent, secret = create_token(user, name="parent", expires_in=timedelta(days=2))
    sent = {"name": "child", "expires_in_days": 3650, "current_password": PASSWORD}
    made = APIClient(headers=bearer(secret)).post(TOKENS, sent)
    assert made.status_code == 201
    child = ApiToken.objects.get(name="child")
    assert child.expiry <= parent.expiry + timedelta(seconds=1)
    reader, _ = create_token(user, name="reader", expires_in=None, scope=ApiToken.Scope.READ)
    assert create_token(user, name="x", expires_in=None, parent=reader)[0].scope == ApiToken.Scope.READ
    parent.delete()
    assert APIClient().get(TOKENS, headers=bearer(made.json()["token"])).status_code == 401


def test_a_token_that_only_reads_is_refused_whatever_changes_something() -> None:
    """Promise 61. By the kind of request, before any view is asked."""
    workspace = WorkspaceFactory()
    upload = store_upload(workspace)
    written = StringIO()
    user = member_of(workspace)
    call_command("create_token", user.username, "--name", "reader", "--read-only", stdout=written)
    client = APIClient(headers=bearer(written.getvalue().strip()))
    address = f"/api/v1/uploads/{upload.pk}/"
    for path in (address, address + "events/", "/api/v1/workspaces/", f"/api/v1/workspaces/{workspace.pk}/quota/"):
        assert client.get(path).status_code == 200
    for verb, path in (
        ("delete", address),
        ("patch", address),
        ("post", address + "retry/"),
        ("put", address + "thumbnail/"),
        ("post", "/api/v1/uploads/"),
        ("post", "/api/v1/direct-uploads/"),
        ("post", "/api/v1/workspaces/"),
        ("post", TOKENS),
    ):
        refused = getattr(client, verb)(path, {})
        assert (refused.status_code, refused.json()["code"]) == (403, "token_read_only"), path

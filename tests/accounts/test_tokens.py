import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.authentication import UnknownToken
from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.factories import UserFactory

PASSWORD = "correct horse battery"


def basic(username: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


def with_token(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def post(client: Client, body: dict[str, Any], **kwargs: Any) -> Any:
    return client.post("/api/v1/tokens/", body, content_type="application/json", **kwargs)


def test_name_and_password_make_a_token_that_then_signs_in(visitor: Client, user: Any) -> None:
    answer = post(visitor, {"name": "laptop"}, headers=basic(user.username, PASSWORD))
    assert answer.status_code == 201
    made = answer.json()
    assert set(made) == {"id", "name", "scope", "created_at", "expires_at", "token"}
    listed = visitor.get("/api/v1/tokens/", headers=with_token(made["token"]))
    assert [row["id"] for row in listed.json()["results"]] == [made["id"]]
    assert made["token"] not in listed.content.decode()
    assert visitor.get(answer["Location"], headers=with_token(made["token"])).json()["name"] == "laptop"


def test_a_token_is_stored_as_a_digest_only(visitor: Client, user: Any) -> None:
    secret = post(visitor, {"name": "laptop"}, headers=basic(user.username, PASSWORD)).json()["token"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT api_tokens::text FROM api_tokens")
        (text,) = cursor.fetchone()
    assert secret not in text
    assert secret[:15] in text


def test_a_token_lives_as_long_as_asked_or_as_the_installation_says(visitor: Client, user: Any, settings: Any) -> None:
    settings.TOKEN_DAYS = 30
    for body, days in (({"name": "a", "expires_in_days": 2}, 2), ({"name": "b"}, 30)):
        post(visitor, body, headers=basic(user.username, PASSWORD))
        expiry = ApiToken.objects.get(name=body["name"]).expiry
        assert abs(expiry - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a", "expires_in_days": 0},
        {"name": "a", "expires_in_days": 10**12},
        {"name": "a", "expires_in_days": "soon"},
        [],
    ],
)
def test_what_no_token_can_be_made_of_is_a_400(api: APIClient, body: Any) -> None:
    answer = api.post("/api/v1/tokens/", body, format="json")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not ApiToken.objects.exists()


def test_a_token_that_expired_is_told_so(visitor: Client, user: Any) -> None:
    _, secret = create_token(user, name="old", expires_in=timedelta(seconds=-1))
    answer = visitor.get("/api/v1/tokens/", headers=with_token(secret))
    assert (answer.status_code, answer.json()["code"]) == (401, "token_expired")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("secret", ["nothing", "f" * 64, "ü", "\\x00"])
def test_an_unknown_token_is_a_401(visitor: Client, user: Any, secret: str) -> None:
    answer = visitor.get("/api/v1/tokens/", headers=with_token(secret))
    assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")


@pytest.mark.parametrize("header", ["Bearer", "Bearer a b", "Basic", "Basic a b", "Basic !", "Basic YQ==", "Other x"])
def test_a_broken_authorization_header_is_a_401(visitor: Client, user: Any, header: str) -> None:
    assert visitor.get("/api/v1/tokens/", headers={"Authorization": header}).status_code == 401


def test_a_user_who_is_not_active_cannot_use_token_or_password(visitor: Client, user: Any) -> None:
    _, secret = create_token(user, name="laptop", expires_in=None)
    assert visitor.get("/api/v1/tokens/", headers=with_token(secret)).status_code == 200
    user.is_active = False
    user.save(update_fields=["is_active"])
    for headers in (with_token(secret), basic(user.username, PASSWORD)):
        answer = visitor.get("/api/v1/tokens/", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")


@pytest.mark.parametrize("password", ["wrong", "", "a\0b"])
def test_a_wrong_password_is_a_401(visitor: Client, user: Any, password: str) -> None:
    for username in (user.username, "nobody", "no\0body"):
        answer = post(visitor, {"name": "x"}, headers=basic(username, password))
        assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")


def test_passwords_cannot_be_tried_without_end(visitor: Client, user: Any, sign_in_rate: Callable[[str], None]) -> None:
    sign_in_rate("3/min")
    answers = [post(visitor, {"name": "x"}, headers=basic(user.username, "wrong")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    right = post(visitor, {"name": "x"}, headers=basic(user.username, PASSWORD))
    assert (right.status_code, right.json()["code"]) == (429, "throttled")
    assert 0 < int(right["Retry-After"]) <= 60


def test_another_users_token_is_a_404(api: APIClient) -> None:
    """Promise 38. Neither seen nor deleted."""
    row, _ = create_token(UserFactory(), name="theirs", expires_in=None)
    assert api.get(f"/api/v1/tokens/{row.pk}/").status_code == 404
    assert api.delete(f"/api/v1/tokens/{row.pk}/").status_code == 404
    assert ApiToken.objects.filter(pk=row.pk).exists()


def test_a_deleted_token_ends_at_once(visitor: Client, user: Any) -> None:
    row, secret = create_token(user, name="laptop", expires_in=None)
    assert visitor.delete(f"/api/v1/tokens/{row.pk}/", headers=with_token(secret)).status_code == 204
    assert visitor.get("/api/v1/tokens/", headers=with_token(secret)).status_code == 401


def test_a_session_needs_its_csrf_token_to_make_a_token(user: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    answer = post(client, {"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")


def test_an_idempotency_key_is_refused_since_its_answer_would_hold_the_secret(api: APIClient) -> None:
    answer = api.post("/api/v1/tokens/", {"name": "x"}, format="json", headers={"Idempotency-Key": "a"})
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_not_supported")
    assert not ApiToken.objects.exists()


def test_signing_in_by_token_costs_one_query(visitor: Client, user: Any, django_assert_num_queries: Any) -> None:
    _, secret = create_token(user, name="laptop", expires_in=None)
    for _ in range(3):
        create_token(user, name="old", expires_in=timedelta(seconds=-1))
    with django_assert_num_queries(2):
        visitor.get("/api/v1/tokens/", headers=with_token(secret))


@pytest.mark.django_db
def test_the_models_and_their_migrations_agree() -> None:
    call_command("makemigrations", "audiotricks", check=True, dry_run=True, verbosity=0, skip_checks=True)


@pytest.mark.django_db
def test_the_packages_own_table_of_tokens_is_not_made() -> None:
    assert "knox_authtoken" not in connection.introspection.table_names()


@pytest.mark.django_db
def test_a_token_that_was_revoked_meanwhile_makes_no_other() -> None:
    """A request that was let in with it may still be under way."""
    user = UserFactory()
    parent, _ = create_token(user, name="parent", expires_in=None)
    ApiToken.objects.get(pk=parent.pk).delete()
    with pytest.raises(UnknownToken):
        create_token(user, name="child", expires_in=None, parent=parent)
    assert not ApiToken.objects.exists()

"""The page of API tokens: made, shown once, told apart, revoked."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.factories import UserFactory

PATH = "/account/tokens/"
SENT = {"scope": "full", "current_password": "correct horse battery"}


@pytest.fixture
def me(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def secret_in(answer: Any) -> str:
    (secret,) = set(re.findall(r"[0-9a-f]{64}", answer.content.decode()))
    return str(secret)


def expiry_of(name: str) -> datetime:
    expiry: datetime = ApiToken.objects.get(name=name).expiry
    return expiry


def test_a_token_is_shown_once_and_signs_in(me: Client) -> None:
    """Promise 52. The page with the secret is kept by no cache, and its secret by nobody."""
    answer = me.post(PATH, SENT | {"name": "laptop", "days": "90"})
    secret = secret_in(answer)
    page = answer.content.decode()
    assert answer.status_code == 201
    assert {"private", "no-store"} <= {part.strip() for part in answer["Cache-Control"].split(",")}
    assert f"curl -H &quot;Authorization: Bearer {secret}&quot; http://testserver/api/v1/uploads/" in page.replace(
        '"', "&quot;"
    )
    assert Client().get("/api/v1/uploads/", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert secret not in me.get(PATH).content.decode()


def test_the_secret_lies_in_no_table(me: Client) -> None:
    secret = secret_in(me.post(PATH, SENT | {"name": "laptop", "days": "90"}))
    with connection.cursor() as cursor:
        for table in ("api_tokens", "django_session"):
            cursor.execute(f"SELECT row_to_json(t)::text FROM {table} t")
            rows = [row for (row,) in cursor.fetchall()]
            assert rows and not [row for row in rows if secret in row]
    assert secret not in str(dict(me.session)) and secret not in me.cookies.output()


def test_a_page_that_is_loaded_again_makes_no_second_token(me: Client) -> None:
    me.post(PATH, SENT | {"name": "laptop", "days": "90"})
    again = me.post(PATH, SENT | {"name": "Laptop", "days": "90"})
    assert again.status_code == 200 and "of this name already" in again.content.decode()
    assert ApiToken.objects.count() == 1


def test_a_name_that_another_user_has_is_free(me: Client) -> None:
    create_token(UserFactory(), name="laptop", expires_in=None)
    assert me.post(PATH, SENT | {"name": "laptop", "days": "90"}).status_code == 201


@pytest.mark.parametrize("days", [7, 30, 90, 365])
def test_a_token_lives_as_many_days_as_chosen(me: Client, days: int) -> None:
    me.post(PATH, SENT | {"name": "laptop", "days": str(days)})
    assert abs(expiry_of("laptop") - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)


def test_the_installations_own_time_is_offered_and_chosen(me: Client, settings: Any) -> None:
    settings.TOKEN_DAYS = 45
    assert '<option value="45" selected>in 45 days</option>' in me.get(PATH).content.decode()
    assert me.post(PATH, SENT | {"name": "laptop", "days": "45"}).status_code == 201


@time_machine.travel(datetime(2026, 3, 1, 20, tzinfo=UTC))
def test_a_last_day_ends_where_the_user_is(me: Client) -> None:
    """In Tokyo it is the morning of the second already; the second is over at 15:00 UTC."""
    me.cookies["timezone"] = "Asia/Tokyo"
    assert 'min="2026-03-02"' in me.get(PATH).content.decode()
    assert me.post(PATH, SENT | {"name": "early", "days": "90", "last_day": "2026-03-01"}).status_code == 200
    assert me.post(PATH, SENT | {"name": "laptop", "days": "90", "last_day": "2026-03-02"}).status_code == 201
    assert abs(expiry_of("laptop") - datetime(2026, 3, 2, 15, tzinfo=UTC)) < timedelta(seconds=5)


@time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC))
@pytest.mark.parametrize(
    ("day", "status"),
    [
        ("2036-02-26", 201),
        ("2036-02-27", 200),
        ("2026-02-28", 200),
        ("9999-12-31", 200),
        ("0001-01-01", 200),
        ("soon", 200),
        ("1.4.2026", 200),
    ],
)
def test_no_token_outlives_what_the_api_allows(me: Client, day: str, status: int) -> None:
    answer = me.post(PATH, SENT | {"name": "laptop", "days": "90", "last_day": day})
    assert answer.status_code == status
    assert ApiToken.objects.count() == (status == 201)
    if status == 201:
        assert expiry_of("laptop") <= timezone.now() + timedelta(days=3650)
    else:
        assert 'class="errors"' in answer.content.decode()


@pytest.mark.parametrize(
    "sent",
    [
        {"name": "", "days": "90"},
        {"name": "   ", "days": "90"},
        {"name": "x" * 101, "days": "90"},
        {"name": "a\0b", "days": "90"},
        {"name": "a", "days": ""},
        {"name": "a", "days": "3651"},
        {"name": "a", "days": "-1"},
        {"name": "a", "days": "never"},
        {"name": "a"},
    ],
)
def test_what_no_token_can_be_made_of_is_told_in_words(me: Client, sent: dict[str, str]) -> None:
    answer = me.post(PATH, SENT | sent)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode() and 'class="errors"' in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_forged_fields_of_a_token_are_ignored(me: Client, user: Any) -> None:
    """Promise 40."""
    other = UserFactory()
    forged = {"user": other.pk, "user_id": other.pk, "digest": "0" * 128, "token_key": "0", "expiry": "", "secret": "x"}
    me.post(PATH, {**SENT, **forged, "name": "laptop", "days": "7", "id": "0" * 32})
    token = ApiToken.objects.get()
    assert token.user == user and token.expiry is not None
    assert not token.digest.startswith("0000") and token.token_key != "0"


def test_tokens_are_told_apart_by_name_beginning_and_state(me: Client, user: Any) -> None:
    kept, secret = create_token(user, name="<b>laptop</b>", expires_in=timedelta(days=5))
    create_token(user, name="old", expires_in=timedelta(seconds=-1))
    create_token(user, name="for good", expires_in=None)
    create_token(UserFactory(), name="another's", expires_in=None)
    page = me.get(PATH).content.decode()
    rows = re.findall(r"<tr>(?!<th scope=\"col\")(.*?)</tr>", page, re.DOTALL)
    by_name = {re.search(r'<th scope="row">(.*?)</th>', row)[1]: row for row in rows if 'scope="row"' in row}
    assert list(by_name) == ["for good", "old", "&lt;b&gt;laptop&lt;/b&gt;"]
    assert secret[:8] in by_name["&lt;b&gt;laptop&lt;/b&gt;"] and secret[:9] not in page
    assert [">Expired<" in row for row in by_name.values()] == [False, True, False]
    assert "never" in by_name["for good"]
    assert f'href="/account/tokens/{kept.pk}/revoke/"' in by_name["&lt;b&gt;laptop&lt;/b&gt;"]


def test_many_tokens_come_in_pages(me: Client, user: Any, django_assert_max_num_queries: Any) -> None:
    for number in range(51):
        create_token(user, name=f"token {number}", expires_in=None)
    with django_assert_max_num_queries(5):
        first = me.get(PATH).content.decode()
    assert "token 50<" in first and "token 0<" not in first and 'href="?page=2"' in first
    assert "token 0<" in me.get(PATH, {"page": "2"}).content.decode()
    for wrong in ("0", "999", "-1", "x", "²"):
        assert me.get(PATH, {"page": wrong}).status_code == 200


def test_revoking_asks_first_and_ends_the_token_at_once(me: Client, user: Any) -> None:
    token, secret = create_token(user, name="laptop", expires_in=None)
    path = f"/account/tokens/{token.pk}/revoke/"
    asked = me.get(path).content.decode()
    assert "Revoke “laptop”?" in asked and '<form method="post"' in asked
    assert ApiToken.objects.filter(pk=token.pk).exists()

    done = me.post(path, follow=True)
    assert done.redirect_chain == [(PATH, 302)] and "“laptop” is revoked" in done.content.decode()
    assert Client().get("/api/v1/uploads/", headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    assert me.post(path).status_code == 404


def test_another_users_token_is_a_404_and_stays(me: Client) -> None:
    """Promise 38. Neither seen nor revoked; not by staff either, who have the administration."""
    token, _ = create_token(UserFactory(), name="their laptop", expires_in=None)
    staff = Client()
    staff.force_login(UserFactory(is_staff=True, is_superuser=True))
    path = f"/account/tokens/{token.pk}/revoke/"
    for client in (me, staff):
        for answer in (client.get(path), client.post(path)):
            assert answer.status_code == 404 and "their laptop" not in answer.content.decode()
        assert "their laptop" not in client.get(PATH).content.decode()
    assert ApiToken.objects.filter(pk=token.pk).exists()


def test_nobody_can_make_or_revoke(user: Any) -> None:
    token, _ = create_token(user, name="laptop", expires_in=None)
    assert Client().post(PATH, {"name": "x", "days": "7"}).status_code == 302
    assert Client().post(f"/account/tokens/{token.pk}/revoke/").status_code == 302
    assert list(ApiToken.objects.all()) == [token]

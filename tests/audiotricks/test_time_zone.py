"""People see times where they are; programs get UTC."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiToken
from accounts.tokens import create_token

ADDRESSES = "audiotricks.urls"


@pytest.fixture
def me(user: Any) -> Client:
    """Signed in, with one token that was made at half past ten in the evening, UTC, in winter."""
    token, _ = create_token(user, name="laptop", expires_in=None)
    ApiToken.objects.filter(pk=token.pk).update(created=datetime(2026, 1, 31, 22, 30, tzinfo=UTC))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("Europe/Berlin", "2026-01-31T23:30:00+01:00"),
        ("Asia/Kolkata", "2026-02-01T04:00:00+05:30"),
        ("America/St_Johns", "2026-01-31T19:00:00-03:30"),
    ],
)
def test_times_are_shown_where_the_browser_is(me: Client, zone: str, shown: str) -> None:
    me.cookies["timezone"] = zone
    assert f'datetime="{shown}"' in me.get("/account/tokens/").content.decode()
    assert f"<dd>{zone}</dd>" in me.get("/account/").content.decode()


@pytest.mark.parametrize("told", ["", "Europe/Nowhere", "../../etc/passwd", "/etc/localtime", "europe/berlin", "UTC+1"])
def test_a_zone_that_does_not_exist_is_the_installations(me: Client, settings: Any, told: str) -> None:
    me.cookies["timezone"] = told
    assert 'datetime="2026-01-31T22:30:00+00:00"' in me.get("/account/tokens/").content.decode()
    settings.TIME_ZONE = "Asia/Tokyo"
    assert 'datetime="2026-02-01T07:30:00+09:00"' in me.get("/account/tokens/").content.decode()


def test_one_visitors_zone_is_not_the_next_ones(me: Client, visitor: Client, user: Any) -> None:
    me.cookies["timezone"] = "Asia/Kolkata"
    me.get("/account/")
    visitor.force_login(user)
    assert "<dd>UTC</dd>" in visitor.get("/account/").content.decode()


def test_programs_get_utc_whatever_a_cookie_says(me: Client) -> None:
    me.cookies["timezone"] = "Asia/Kolkata"
    assert me.get("/api/v1/tokens/").json()["results"][0]["created_at"] == "2026-01-31T22:30:00Z"

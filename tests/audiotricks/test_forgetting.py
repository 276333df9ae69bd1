from datetime import timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts import tasks as accounts_tasks
from accounts.models import ApiToken
from accounts.tokens import create_token
from audiotricks import clock, database
from audiotricks import tasks as audiotricks_tasks
from audiotricks.api.idempotency import take_key
from audiotricks.models import IdempotencyKey


@pytest.fixture
def rows(user: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three expired keys and one that is not; a token that expired long ago, one a moment ago, one that never does."""
    monkeypatch.setattr(database, "BATCH", 2)
    for number in range(4):
        take_key(user, f"k{number}", "POST", "/p")
    now = timezone.now()
    IdempotencyKey.objects.exclude(key="k0").update(expires_at=now - timedelta(seconds=1))
    create_token(user, name="long ago", expires_in=timedelta(days=-8))
    create_token(user, name="a moment ago", expires_in=timedelta(seconds=-1))
    create_token(user, name="never", expires_in=None)


def forget_expired() -> dict[str, int]:
    return {**audiotricks_tasks.forget_expired(), **accounts_tasks.forget_expired()}


def left() -> tuple[set[str], set[str]]:
    return (
        set(IdempotencyKey.objects.values_list("key", flat=True)),
        set(ApiToken.objects.values_list("name", flat=True)),
    )


def test_what_expired_is_forgotten_in_batches_and_twice_is_as_good_as_once(rows: None) -> None:
    """Promise 33."""
    forget_expired()
    assert left() == ({"k0"}, {"a moment ago", "never"})
    forget_expired()
    assert left() == ({"k0"}, {"a moment ago", "never"})


def test_a_clock_that_is_a_day_ahead_forgets_nothing_early(rows: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 37."""
    monkeypatch.setattr(clock, "wall_clock", lambda: timezone.now() + timedelta(days=30))
    forget_expired()
    assert left() == ({"k0"}, {"a moment ago", "never"})


@pytest.mark.django_db
def test_sessions_that_have_ended_are_removed_and_others_stay() -> None:
    """Django never does so by itself."""
    ends = {"over": timedelta(seconds=-1), "open": timedelta(days=1)}
    for key, left in ends.items():
        Session.objects.create(session_key=key, session_data="", expire_date=timezone.now() + left)
    assert forget_expired()["sessions"] == 1
    assert list(Session.objects.values_list("session_key", flat=True)) == ["open"]

"""``create_token`` at a prompt: the secret alone on standard output, and mistakes in words."""

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiToken
from tests.factories import UserFactory
from tests.forked import Prepared

pytestmark = pytest.mark.django_db


def create_token(*args: str, **options: Any) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("create_token", *args, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_the_secret_alone_is_printed_and_opens_the_api() -> None:
    user = UserFactory(username="olga")
    out, err = create_token("olga", name=" backup ")
    assert out.count("\n") == 1 and "expires" in err and out.strip() not in err
    token = ApiToken.objects.get()
    assert (token.user, token.name) == (user, "backup")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {out.strip()}")
    assert client.get("/api/v1/tokens/").status_code == 200


def test_it_lasts_as_long_as_asked(settings: Any) -> None:
    UserFactory(username="olga")
    for options, days in (({"days": 7}, 7), ({}, settings.TOKEN_DAYS)):
        create_token("olga", name="x", **options)
        expiry = ApiToken.objects.latest("created").expiry
        assert abs(expiry - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)
    _, err = create_token("olga", name="x", never=True)
    assert ApiToken.objects.latest("created").expiry is None
    assert "never expires" in err


@pytest.mark.parametrize(
    ("user", "options", "code", "says"),
    [
        ("nobody", {"name": "x"}, 2, "no user called nobody"),
        ("olga", {"name": "  "}, 2, "--name"),
        ("olga", {"name": "x" * 101}, 2, "--name"),
        ("olga", {"name": "x", "days": 0}, 2, "--days"),
        ("olga", {"name": "x", "days": 3651}, 2, "--days"),
        ("gone", {"name": "x"}, 1, "not active"),
    ],
)
def test_a_mistake_is_told_in_words_and_makes_no_token(user: str, options: Any, code: int, says: str) -> None:
    UserFactory(username="olga")
    UserFactory(username="gone", is_active=False)
    with pytest.raises(CommandError, match=says) as raised:
        create_token(user, **options)
    assert raised.value.returncode == code
    assert not ApiToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_exit_codes(prepared: Prepared) -> None:
    """Promise 49. Nothing else that is printed or logged holds the secret."""
    UserFactory(username="olga")
    made = prepared.manage("create_token", "olga", "--name", "x")
    assert made.returncode == 0, made.stderr
    assert len(made.stdout.splitlines()) == 1 and made.stdout.strip() not in made.stderr
    assert prepared.manage("create_token", "olga").returncode == 2
    assert prepared.manage("create_token", "olga", "--name", "x", "--days", "1", "--never").returncode == 2
    unknown = prepared.manage("create_token", "nobody", "--name", "x")
    assert unknown.returncode == 2 and "Traceback" not in unknown.stderr
    assert ApiToken.objects.count() == 1

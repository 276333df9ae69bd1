"""Guessing is slowed down by address and by account, and nobody is locked out of an own account for good."""

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts.attempts import FREE_TRIES, LONGEST_WAIT, charge
from accounts.models import SignInCounter
from audiotricks.addresses import address_block
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def by_page(path: str) -> Callable[..., Any]:
    return lambda client, name, password, **extra: client.post(path, {"username": name, "password": password}, **extra)


def by_api(client: Client, name: str, password: str, **extra: Any) -> Any:
    basic = base64.b64encode(f"{name}:{password}".encode()).decode()
    return client.get("/api/v1/tokens/", headers={"Authorization": f"Basic {basic}"}, **extra)


WAYS = {"page": by_page("/sign-in/"), "admin": by_page("/admin/login/"), "api": by_api}


def fail_from_many_addresses(name: str, times: int, way: Callable[..., Any] = WAYS["page"]) -> list[int]:
    statuses = []
    for number in range(times):
        answer = way(Client(), name, "wrong", REMOTE_ADDR=f"198.51.100.{number}")
        statuses.append(answer.status_code)
    return statuses


@pytest.mark.parametrize("way", WAYS)
def test_an_account_slows_down_whatever_addresses_the_guesses_come_from(way: str) -> None:
    user = UserFactory(is_staff=True)
    statuses = fail_from_many_addresses(user.username, FREE_TRIES + 2, WAYS[way])
    assert statuses[-2:] == [429, 429] and 429 not in statuses[:-2]
    refused = WAYS[way](Client(), user.username, PASSWORD, REMOTE_ADDR="203.0.113.9")
    assert refused.status_code == 429 and 0 < int(refused["Retry-After"]) <= LONGEST_WAIT.total_seconds()


def test_a_name_that_nobody_has_slows_down_as_one_that_somebody_has() -> None:
    names = (UserFactory().username, "nobody-at-all")
    assert len({tuple(fail_from_many_addresses(name, FREE_TRIES + 2)) for name in names}) == 1


def test_the_owner_comes_in_from_a_known_browser_and_everybody_after_a_bounded_wait() -> None:
    user, known = UserFactory(), Client()
    assert WAYS["page"](known, user.username, PASSWORD).status_code == 302
    known.post("/sign-out/")
    assert fail_from_many_addresses(user.username, 40)[-1] == 429
    assert WAYS["page"](known, user.username, PASSWORD).status_code == 302
    with time_machine.travel(timezone.now() + LONGEST_WAIT, tick=False):
        assert WAYS["page"](Client(), user.username, PASSWORD).status_code == 302


def test_a_known_browser_of_one_account_is_none_of_anothers_and_cannot_guess_without_end() -> None:
    user, other, client = UserFactory(), UserFactory(), Client()
    WAYS["page"](client, user.username, PASSWORD)
    client.post("/sign-out/")
    fail_from_many_addresses(other.username, FREE_TRIES + 1)
    assert WAYS["page"](client, other.username, PASSWORD).status_code == 429
    statuses = [WAYS["page"](client, user.username, "wrong").status_code for _ in range(FREE_TRIES + 1)]
    assert statuses[-1] == 429


def test_the_right_password_begins_anew() -> None:
    user = UserFactory()
    for _ in range(3):
        assert 429 not in fail_from_many_addresses(user.username, FREE_TRIES - 1)
        assert WAYS["page"](Client(), user.username, PASSWORD, REMOTE_ADDR="203.0.113.9").status_code == 302


def test_an_ipv6_host_has_one_counter_for_all_of_its_addresses(sign_in_rate: Callable[[str], None]) -> None:
    sign_in_rate("3/min")
    answers = [WAYS["page"](Client(), f"n{host}", "x", REMOTE_ADDR=f"2001:db8::{host + 1:x}") for host in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert WAYS["page"](Client(), "n", "x", REMOTE_ADDR="2001:db8:0:1::1").status_code == 200
    assert address_block("::ffff:192.0.2.1") == "192.0.2.1"


def test_unknown_tokens_are_counted_and_do_not_hold_up_a_good_one(sign_in_rate: Callable[[str], None]) -> None:
    from accounts.tokens import create_token

    sign_in_rate("3/min")
    _, secret = create_token(UserFactory(), name="good", expires_in=None)
    answers = [Client().get("/api/v1/tokens/", headers={"Authorization": f"Bearer {n:064x}"}) for n in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[-1]["Retry-After"]) > 0
    assert Client().get("/api/v1/tokens/", headers={"Authorization": f"Bearer {secret}"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/account/", "current_password"),
        ("/account/password/", "old_password"),
        ("/account/tokens/", "current_password"),
    ],
)
def test_who_took_a_session_over_cannot_guess_the_password_either(path: str, field: str) -> None:
    client = Client()
    client.force_login(UserFactory())
    statuses = [client.post(path, {field: "wrong"}).status_code for _ in range(FREE_TRIES + 1)]
    assert statuses == [200] * FREE_TRIES + [429]


def test_a_blocked_attempt_is_not_counted_so_that_the_wait_ends() -> None:
    wait = timedelta(seconds=30)

    def attempt() -> int:
        return charge("key", block=lambda tries, began, now: now + wait, window=timedelta(hours=1))

    assert attempt() == 0
    assert [attempt() for _ in range(5)] == [30] * 5
    assert SignInCounter.objects.get().tries == 1


@pytest.mark.race
@pytest.mark.django_db(transaction=True)
def test_a_hundred_attempts_at_once_are_counted_like_a_hundred_in_turn() -> None:
    from tests.quotas.threads import at_once

    def attempt() -> int:
        now = timezone.now()
        return charge("key", block=lambda tries, b, n: now + LONGEST_WAIT if tries >= 5 else None, window=LONGEST_WAIT)

    waits = at_once(*[attempt] * 20)
    assert sum(wait == 0 for wait in waits) == 5


def test_links_for_a_new_password_that_are_wrong_count_for_the_address(sign_in_rate: Callable[[str], None]) -> None:
    sign_in_rate("3/min")
    statuses = [Client().get(f"/password/new/MQ/c{number}-wrong/").status_code for number in range(4)]
    assert statuses == [404, 404, 404, 429]

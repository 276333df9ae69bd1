import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"


def by_page(path: str) -> Callable[[Client, str, str], Any]:
    return lambda client, name, password: client.post(path, {"username": name, "password": password})


def by_api(client: Client, name: str, password: str) -> Any:
    basic = base64.b64encode(f"{name}:{password}".encode()).decode()
    return client.get("/api/v1/tokens/", headers={"Authorization": f"Basic {basic}"})


@pytest.mark.parametrize(
    ("door", "wrong"),
    [(by_page("/sign-in/"), 200), (by_page("/admin/login/"), 200), (by_api, 401)],
    ids=["page", "admin", "api"],
)
def test_no_door_lets_anybody_try_passwords_without_end(
    client: Client, sign_in_rate: Callable[[str], None], door: Callable[..., Any], wrong: int
) -> None:
    """Each try counts once, whichever door it came to, and the right password is not told from a wrong one then."""
    sign_in_rate("3/min")
    user = UserFactory(is_staff=True)
    for _ in range(3):
        assert door(client, user.username, "wrong").status_code == wrong

    for refused in (door(client, user.username, PASSWORD), by_page("/sign-in/")(client, user.username, PASSWORD)):
        assert refused.status_code == 429
        assert int(refused["Retry-After"]) > 0
        if refused["Content-Type"].startswith("text/html"):
            assert f"try again in {refused['Retry-After']} second" in refused.content.decode()
    assert "sessionid" not in client.cookies


def test_who_is_signed_in_is_not_asked_again(client: Client) -> None:
    client.force_login(UserFactory())
    assert client.get("/sign-in/")["Location"] == "/"
    assert client.get("/sign-in/?next=/upload/")["Location"] == "/upload/"
    assert client.get("/sign-in/?next=https://evil.example/")["Location"] == "/"


def test_signing_in_leads_to_where_one_wanted_to_go_but_to_no_other_site(client: Client) -> None:
    user = UserFactory()
    for wanted, to in (("/upload/", "/upload/"), ("", "/"), ("//evil.example/", "/"), ("javascript:alert(1)", "/")):
        answer = client.post("/sign-in/", {"username": user.username, "password": PASSWORD, "next": wanted})
        assert (answer.status_code, answer["Location"]) == (302, to)
        client.logout()
    assert client.get("/upload/")["Location"] == "/sign-in/?next=/upload/"


def test_a_wrong_password_is_told_in_words_and_keeps_the_name(client: Client) -> None:
    answer = client.post("/sign-in/", {"username": '<b>"me', "password": "wrong"})
    page = answer.content.decode()
    assert answer.status_code == 200
    assert 'role="alert"' in page and "do not match" in page
    assert "&lt;b&gt;&quot;me" in page and "<b>" not in page


@pytest.mark.parametrize("sent", [{}, {"username": "me"}, {"username": "a\0b", "password": "x"}])
def test_what_is_missing_or_cannot_be_a_name_is_told_in_words(client: Client, sent: dict[str, str]) -> None:
    answer = client.post("/sign-in/", sent)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode() and 'class="errors"' in answer.content.decode()


def test_who_forgot_the_password_finds_the_way(client: Client) -> None:
    assert 'href="/password/forgotten/"' in client.get("/sign-in/").content.decode()
    assert client.get("/password/forgotten/").status_code == 200


def test_who_is_not_active_cannot_sign_in_and_is_told_no_more_than_others(client: Client) -> None:
    user = UserFactory(is_active=False)
    answer = client.post("/sign-in/", {"username": user.username, "password": PASSWORD})
    assert answer.status_code == 200 and "do not match" in answer.content.decode()
    assert "sessionid" not in client.cookies


def test_signing_in_changes_the_session_so_that_none_can_be_planted(client: Client) -> None:
    client.get("/")
    planted = client.session
    planted["planted"] = True
    planted.save()
    before = planted.session_key
    client.post("/sign-in/", {"username": UserFactory().username, "password": PASSWORD})
    assert client.cookies["sessionid"].value != before


def test_signing_out_needs_a_press_of_the_button_and_ends_the_session(client: Client) -> None:
    client.force_login(UserFactory())
    assert client.get("/sign-out/").status_code == 405
    assert client.get("/").status_code == 200
    assert client.post("/sign-out/")["Location"] == "/sign-in/"
    assert client.get("/").status_code == 302


def test_only_staff_come_into_the_admin(client: Client) -> None:
    client.force_login(UserFactory())
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert client.get("/admin/").status_code == 200

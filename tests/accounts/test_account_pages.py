"""The pages about oneself: who one is, the email address, the password, the language."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.tokens import create_token
from tests.factories import UserFactory

PASSWORD = "correct horse battery"
NEW_PASSWORD = "a longer staple 8"
PAGES = ["/account/", "/account/password/", "/account/tokens/"]
NEW_PASSWORDS = {"old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}
FORGED = {
    "is_staff": "on",
    "is_superuser": "on",
    "is_active": "",
    "username": "root",
    "password": "forged",
    "pk": "1",
    "id": "1",
    "groups": "1",
}


@pytest.fixture
def me(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(answer: Any) -> str:
    page: str = answer.content.decode()
    return page


@pytest.mark.parametrize("path", PAGES)
def test_nobody_is_asked_to_sign_in_and_comes_back(db: None, path: str) -> None:
    for answer in (Client().get(path), Client().post(path)):
        assert (answer.status_code, answer["Location"]) == (302, f"/sign-in/?next={path}")


@pytest.mark.parametrize("wanted", ["/sign-in/", "/sign-in/?next=/sign-in/", "http://testserver/sign-in/"])
def test_who_is_signed_in_and_wants_to_sign_in_again_comes_to_the_files(me: Client, wanted: str) -> None:
    """Promise 53. However one was led here, one is not led round and round."""
    answer = me.get("/sign-in/", {"next": wanted}, follow=True)
    assert (answer.status_code, answer.request["PATH_INFO"]) == (200, "/")


def test_the_account_says_who_one_is_and_leads_to_the_rest(me: Client, user: Any) -> None:
    page = text(me.get("/account/"))
    assert f"<dd>{user.username}</dd>" in page and f'value="{user.email}"' in page
    assert 'href="/account/password/"' in page and 'href="/account/tokens/"' in page


def test_the_email_address_is_changed_with_the_password_and_only_with_it(me: Client, user: Any) -> None:
    before = user.email
    for wrong in ("", "wrong", PASSWORD.upper()):
        refused = me.post("/account/", {"email": "new@example.com", "current_password": wrong})
        assert refused.status_code == 200 and 'role="alert"' in text(refused)
        assert 'value="new@example.com"' in text(refused) and PASSWORD.upper() not in text(refused)
    user.refresh_from_db()
    assert user.email == before

    answer = me.post("/account/", {"email": "New@EXAMPLE.com", "current_password": PASSWORD}, follow=True)
    assert answer.redirect_chain == [("/account/", 302)]
    assert "is saved" in text(answer) and 'value="New@example.com"' in text(answer)


def test_an_address_can_be_taken_out_and_must_be_one(me: Client, user: Any) -> None:
    assert me.post("/account/", {"email": "nobody@", "current_password": PASSWORD}).status_code == 200
    assert me.post("/account/", {"email": "", "current_password": PASSWORD}).status_code == 302
    user.refresh_from_db()
    assert user.email == ""


def test_changing_the_password_keeps_this_session_and_ends_the_others(me: Client, user: Any) -> None:
    elsewhere = Client()
    elsewhere.force_login(user)
    answer = me.post("/account/password/", NEW_PASSWORDS, follow=True)
    assert answer.redirect_chain == [("/account/", 302)] and "is changed" in text(answer)
    assert me.get("/account/").status_code == 200
    assert elsewhere.get("/account/")["Location"].startswith("/sign-in/")
    user.refresh_from_db()
    assert user.check_password(NEW_PASSWORD)


@pytest.mark.parametrize(("choice", "status"), [({}, 200), ({"end_tokens": "on"}, 401)], ids=["keep", "end"])
def test_tokens_end_with_the_old_password_unless_its_user_says_no(
    me: Client, user: Any, choice: dict[str, str], status: int
) -> None:
    """Promise 61. The box is ticked at first, and the page says what became of them."""
    _, secret = create_token(user, name="laptop", expires_in=None)
    assert "checked" in text(me.get("/account/password/"))
    answer = me.post("/account/password/", NEW_PASSWORDS | choice, follow=True)
    assert ("tokens go on working" in text(answer)) == (status == 200)
    assert Client().get("/api/v1/tokens/", headers={"Authorization": f"Bearer {secret}"}).status_code == status


@pytest.mark.parametrize(
    "wrong",
    [
        {"old_password": "wrong"},
        {"new_password2": "another staple 8"},
        {"new_password1": "12345678", "new_password2": "12345678"},
        {"new_password1": "", "new_password2": ""},
    ],
)
def test_a_password_that_cannot_be_taken_is_told_in_words(me: Client, user: Any, wrong: dict[str, str]) -> None:
    answer = me.post("/account/password/", NEW_PASSWORDS | wrong)
    assert answer.status_code == 200 and 'role="alert"' in text(answer) and 'class="errors"' in text(answer)
    user.refresh_from_db()
    assert user.check_password(PASSWORD)


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/account/", {"email": "new@example.com", "current_password": PASSWORD}),
        ("/account/password/", NEW_PASSWORDS),
    ],
)
def test_who_found_an_open_session_cannot_try_passwords_without_end(
    me: Client, user: Any, sign_in_rate: Callable[[str], None], path: str, right: dict[str, str]
) -> None:
    sign_in_rate("2/min")
    wrong = dict.fromkeys(right, "wrong")
    assert [me.post(path, wrong).status_code for _ in range(3)] == [200, 200, 429]
    refused = me.post(path, right)
    assert refused.status_code == 429 and int(refused["Retry-After"]) > 0
    assert "<h1>" in text(refused)
    user.refresh_from_db()
    assert user.check_password(PASSWORD) and user.email != "new@example.com"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/account/", {"email": "new@example.com", "current_password": PASSWORD}),
        ("/account/password/", NEW_PASSWORDS),
        ("/account/tokens/", {"name": "laptop", "days": "90", "scope": "full", "current_password": PASSWORD}),
    ],
)
def test_forged_fields_change_nothing(me: Client, user: Any, path: str, sent: dict[str, str]) -> None:
    """Promise 40. A form takes its own fields and no others."""
    other = UserFactory()
    assert me.post(path, FORGED | sent).status_code in (201, 302)
    for someone in (user, other):
        name = someone.username
        someone.refresh_from_db()
        assert (someone.username, someone.is_active) == (name, True)
        assert not (someone.is_staff or someone.is_superuser or someone.groups.exists())
    assert other.check_password(PASSWORD)
    assert other.email != "new@example.com"


@pytest.mark.parametrize("path", [*PAGES, "/sign-in/", "/sign-out/", "/language/", "/password/forgotten/"])
def test_no_other_site_can_send_these_forms(user: Any, path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    answer = client.post(path, NEW_PASSWORDS)
    assert answer.status_code == 403 and "did not come from a page of ours" in text(answer)


@pytest.mark.parametrize("path", [*PAGES, "/sign-in/", "/password/forgotten/", "/password/new/MQ/a-b/"])
def test_these_pages_carry_nothing_inline_and_are_kept_by_nobody(
    me: Client, settings: Any, path: str, visitor: Client
) -> None:
    """Promise 52. And nothing on them needs what the policy forbids."""
    settings.EMAIL_HOST = "localhost"
    answer = (me if path in PAGES else visitor).get(path)
    page = text(answer)
    assert "no-store" in answer["Cache-Control"] and "private" in answer["Cache-Control"]
    assert (answer["X-Content-Type-Options"], answer["X-Frame-Options"]) == ("nosniff", "DENY")
    assert answer["Referrer-Policy"] == "same-origin"
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    assert page.count("<h1") == 1


def test_the_language_is_changed_where_one_is(me: Client) -> None:
    answer = me.post("/language/", {"language": "de", "next": "/account/?a=b"})
    assert (answer.status_code, answer["Location"]) == (302, "/account/?a=b")
    assert '<html lang="de">' in text(me.get("/account/"))
    assert me.get("/account/")["Content-Language"] == "de"
    me.post("/language/", {"language": "tlh", "next": "/account/"})
    assert '<html lang="de">' in text(me.get("/account/"))


@pytest.mark.parametrize(
    "wanted", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_changing_the_language_leads_to_no_other_site(me: Client, wanted: str) -> None:
    answer = me.post("/language/", {"language": "de", "next": wanted}, headers={"Referer": wanted})
    assert (answer.status_code, answer["Location"]) == (302, "/")


def test_the_form_in_the_footer_comes_back_to_its_page(visitor: Client) -> None:
    page = text(visitor.get("/sign-in/?next=/upload/"))
    assert 'action="/language/"' in page
    assert 'name="next" value="/sign-in/?next=/upload/"' in page

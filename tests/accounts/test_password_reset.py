"""A forgotten password: the mail, through a real SMTP server, and the link in it."""

import json
import logging
import re
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from io import StringIO
from typing import Any

import pytest
import time_machine
from aiosmtpd.controller import Controller
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation

from accounts.pages import views
from tests.factories import UserFactory
from tests.servers import free_port

ASK = "/password/forgotten/"
NEW_PASSWORD = "a longer staple 8"
NEW_PASSWORDS = {"new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD}


class Mailbox:
    """What the server received."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return self.answer


@pytest.fixture(autouse=True)
def mails_by_smtp(settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_USE_TLS = False
    settings.EMAIL_HOST = "127.0.0.1"


@pytest.fixture
def mailbox(settings: Any) -> Iterator[Mailbox]:
    box = Mailbox()
    settings.EMAIL_PORT = free_port()
    server = Controller(box, hostname="127.0.0.1", port=settings.EMAIL_PORT)
    server.start()
    yield box
    server.stop()


@pytest.fixture
def person(transactional_db: None) -> Any:
    """Committed, so that the thread that sends mail finds them."""
    return UserFactory(username="anna", email="anna@example.com")


def ask(client: Client, email: str, **kwargs: Any) -> Any:
    """The answer; when this returns, the mail is sent."""
    answer = client.post(ASK, {"email": email}, **kwargs)
    views.mail_room.submit(int).result(timeout=30)
    return answer


def link_in(mail: EmailMessage) -> str:
    (link,) = re.findall(r"https?://\S+", mail.get_content())
    return str(link)


def test_the_mail_has_a_link_that_makes_a_new_password_once(client: Client, person: Any, mailbox: Mailbox) -> None:
    elsewhere = Client()
    elsewhere.force_login(person)
    answer = ask(client, "ANNA@example.com", follow=True)
    assert answer.redirect_chain == [("/sign-in/", 302)] and "is on its way" in answer.content.decode()
    (mail,) = mailbox.mails
    assert (mail["To"], mail.get_content_type()) == ("anna@example.com", "text/plain")
    assert "“anna”" in mail.get_content() and "24 hours" in mail.get_content()
    link = link_in(mail)
    assert link.startswith("http://testserver/password/new/")

    form = client.get(link, follow=True)
    assert form.status_code == 200 and "anna" in form.content.decode()
    path = form.redirect_chain[-1][0]
    assert path.endswith("/set-password/")
    assert client.post(path, NEW_PASSWORDS | {"new_password2": "x"}).status_code == 200
    done = client.post(path, NEW_PASSWORDS, follow=True)
    assert done.redirect_chain == [("/sign-in/", 302)] and "sign in with it" in done.content.decode()
    person.refresh_from_db()
    assert person.check_password(NEW_PASSWORD)
    assert elsewhere.get("/account/").status_code == 302
    assert Client().get(link).status_code == 404
    assert client.post(path, NEW_PASSWORDS).status_code == 404


def test_an_unknown_address_gets_the_same_answer_and_no_mail(client: Client, person: Any, mailbox: Mailbox) -> None:
    UserFactory(email="gone@example.com", is_active=False)
    known, unknown, inactive = (ask(client, f"{name}@example.com") for name in ("anna", "nobody", "gone"))
    assert len(mailbox.mails) == 1
    for answer in (known, unknown, inactive):
        del answer.headers["X-Request-ID"]
        assert (answer.status_code, answer.headers, answer.content) == (302, known.headers, known.content)


def test_the_answer_is_given_before_anybody_looks_for_the_address(
    client: Client, person: Any, mailbox: Mailbox
) -> None:
    """So that its time tells nothing: the request asks for no account, and waits for no mail server."""
    for email in ("anna@example.com", "nobody@example.com"):
        with CaptureQueriesContext(connection) as queries:
            assert ask(client, email).status_code == 302
        assert not [query for query in queries if "auth_user" in query["sql"]]
    assert len(mailbox.mails) == 1


def test_nobody_can_fill_somebodys_mailbox(client: Client, person: Any, mailbox: Mailbox) -> None:
    """However many ask, and from wherever: one mail a minute goes to an address."""
    UserFactory(username="berta", email="berta@example.com")
    with time_machine.travel(timezone.now(), tick=False) as clock:
        asked = [ask(client, email) for email in ("anna@example.com", "ANNA@example.com", "berta@example.com")]
        assert [mail["To"] for mail in mailbox.mails] == ["anna@example.com", "berta@example.com"]
        assert {(answer.status_code, answer["Location"]) for answer in asked} == {(302, "/sign-in/")}
        clock.shift(timedelta(seconds=views.MAIL_PAUSE_SECONDS + 1))
        ask(client, "anna@example.com")
    assert len(mailbox.mails) == 3


def test_everybody_with_the_address_gets_a_link_of_their_own(client: Client, person: Any, mailbox: Mailbox) -> None:
    UserFactory(username="berta", email="Anna@Example.com")
    ask(client, "anna@example.com")
    assert len({link_in(mail) for mail in mailbox.mails}) == 2


def test_the_link_leads_to_the_host_that_was_asked(
    client: Client, person: Any, mailbox: Mailbox, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["audio.example.com"]
    ask(client, "anna@example.com", headers={"Host": "audio.example.com:8443"}, secure=True)
    assert link_in(mailbox.mails[0]).startswith("https://audio.example.com:8443/password/new/")
    assert ask(client, "anna@example.com", headers={"Host": "evil.example"}).status_code == 400
    assert len(mailbox.mails) == 1


def test_the_mail_is_written_in_the_language_of_who_asks(
    client: Client, person: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_in: list[str] = []
    monkeypatch.setattr(
        "django.contrib.auth.forms.PasswordResetForm.send_mail",
        lambda *args, **kwargs: written_in.append(translation.get_language()),
    )
    for asked in ("de-AT,de;q=0.8", "en", "fr"):
        UserFactory(email=f"{asked[:2]}@example.com")
        ask(client, f"{asked[:2]}@example.com", headers={"Accept-Language": asked})
    assert written_in == ["de", "en", "en"]


@pytest.mark.parametrize("fault", ["refuses", "is silent", "is not there"])
def test_a_mail_server_that_does_not_work_is_logged_and_not_told(
    client: Client,
    person: Any,
    mailbox: Mailbox,
    settings: Any,
    fault: str,
    log_in_format: Callable[[str], StringIO],
) -> None:
    log = log_in_format("json")
    settings.EMAIL_TIMEOUT = 0.2
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if fault == "refuses":
            mailbox.answer = "554 No"
        elif fault == "is silent":
            settings.EMAIL_PORT = silent.getsockname()[1]
        else:
            settings.EMAIL_PORT = free_port()
        answers = [ask(client, email) for email in ("anna@example.com", "nobody@example.com")]
    assert [(answer.status_code, answer["Location"]) for answer in answers] == [(302, "/sign-in/")] * 2
    errors = [line for line in map(json.loads, log.getvalue().splitlines()) if line["level"] == "error"]
    assert len(errors) == 1 and f"email to {person.pk}" in errors[0]["event"] and errors[0]["request_id"]


def test_a_database_that_does_not_work_is_logged_and_not_told(
    client: Client, person: Any, monkeypatch: pytest.MonkeyPatch, log_in_format: Callable[[str], StringIO]
) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no database")

    log = log_in_format("json")
    monkeypatch.setattr("django.contrib.auth.forms.PasswordResetForm.get_users", fail)
    assert ask(client, "anna@example.com").status_code == 302
    assert "password_mail_failed" in log.getvalue()


def test_without_a_mail_server_the_page_says_whom_to_ask(
    client: Client, person: Any, mailbox: Mailbox, settings: Any
) -> None:
    settings.EMAIL_HOST = ""
    page = client.get(ASK).content.decode()
    assert "sends no mail" in page and "administrator" in page and 'name="email"' not in page
    assert ask(client, "anna@example.com")["Location"] == ASK
    assert mailbox.mails == []


def test_asking_is_bounded_for_each_address_like_signing_in(
    client: Client, person: Any, mailbox: Mailbox, sign_in_rate: Callable[[str], None]
) -> None:
    sign_in_rate("2/min")
    answers = [ask(client, email) for email in ("nobody@example.com", "a@example.com", "anna@example.com")]
    assert [answer.status_code for answer in answers] == [302, 302, 429]
    assert int(answers[2]["Retry-After"]) > 0
    assert not mailbox.mails


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@b\nBcc: c@example.com", "a\0@example.com", "x" * 250 + "@example.com"]
)
def test_what_is_no_address_is_told_in_words(client: Client, person: Any, mailbox: Mailbox, email: str) -> None:
    answer = ask(client, email)
    assert answer.status_code == 200 and 'role="alert"' in answer.content.decode()
    assert mailbox.mails == []


def test_a_link_dies_with_time_with_a_new_address_and_with_a_new_password(
    client: Client, person: Any, mailbox: Mailbox
) -> None:
    ask(client, person.email)
    link = link_in(mailbox.mails[0])
    with time_machine.travel(timezone.now() + timedelta(hours=23)):
        assert Client().get(link).status_code == 302
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert Client().get(link).status_code == 404
    for column, value in (("email", "new@example.com"), ("password", "!")):
        before = getattr(person, column)
        setattr(person, column, value)
        person.save()
        assert Client().get(link).status_code == 404
        setattr(person, column, before)
        person.save()
    assert Client().get(link).status_code == 302


def test_a_wrong_link_says_how_to_get_another(client: Client, person: Any, mailbox: Mailbox) -> None:
    other = UserFactory(email="other@example.com")
    ask(client, person.email)
    ask(client, other.email)
    (uid, token), (their_uid, their_token) = (link_in(mail).split("/")[-3:-1] for mail in mailbox.mails)
    wrong = [(uid, their_token), (their_uid, token), (uid, "x"), ("x", token), (uid, "set-password"), ("ÿ", "²")]
    for wrong_uid, wrong_token in wrong:
        path = reverse("new-password", args=[wrong_uid, wrong_token])
        for answer in (client.get(path), client.post(path, NEW_PASSWORDS)):
            assert answer.status_code == 404
            assert f'href="{ASK}"' in answer.content.decode() and "does not work" in answer.content.decode()
    for someone in (person, other):
        someone.refresh_from_db()
        assert not someone.check_password(NEW_PASSWORD)


@pytest.mark.parametrize("format", ["json", "text"])
def test_the_token_of_a_link_is_in_no_log(
    person: Any,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    format: str,
    log_in_format: Callable[[str], StringIO],
) -> None:
    """Promise 49. Not in the line about the request, not in an error's, and not in what gunicorn would say of it."""
    visitor = Client(raise_request_exception=False)
    log = log_in_format(format)
    ask(visitor, person.email)
    link = link_in(mailbox.mails[0])
    token = link.split("/")[-2]
    assert visitor.get(link).status_code == 302
    logging.getLogger("gunicorn.error").error(
        "Error handling request %s %s", "GET", link.removeprefix("http://testserver")
    )
    logging.getLogger("gunicorn.error").warning("Invalid request: %s", f"GET {link} HTTP/9")

    def fail(*args: Any) -> None:
        raise RuntimeError(link)

    monkeypatch.setattr("accounts.pages.views.NewPassword.get_user", fail)
    assert visitor.get(link).status_code == 500
    written = log.getvalue()
    assert written.count("/password/new/[redacted]") >= 5
    assert "RuntimeError" in written
    assert token not in written and token.split("-")[1] not in written

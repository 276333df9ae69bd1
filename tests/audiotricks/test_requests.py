import io
import json
import logging
from collections.abc import Callable
from importlib import import_module
from io import StringIO
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client, RequestFactory
from structlog.contextvars import get_contextvars

from tests.factories import UserFactory


def written_lines(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_each_request_has_one_line_with_its_id(visitor: Client, log_in_format: Callable[[str], StringIO]) -> None:
    log = log_in_format("json")
    answer = visitor.get("/plain/?token=hidden", headers={"X-Request-ID": "abc-1"})
    (line,) = written_lines(log)
    assert answer["X-Request-ID"] == line["request_id"] == "abc-1"
    assert (line["method"], line["path"], line["status"], line["bytes"]) == ("GET", "/plain/", 200, 12)
    assert line["duration_ms"] >= 0
    assert line["user_id"] is None
    assert "hidden" not in log.getvalue()


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\r\nSet-Cookie: b", "ü", "<script>"])
def test_a_request_id_that_is_no_plain_name_is_replaced(visitor: Client, given: str) -> None:
    made = visitor.get("/plain/", headers={"X-Request-ID": given})["X-Request-ID"]
    assert made != given
    assert len(made) == 32


@pytest.mark.django_db
def test_the_line_names_the_user_of_a_session_and_of_a_token(log_in_format: Callable[[str], StringIO]) -> None:
    user = UserFactory()
    client = Client()
    client.force_login(user)
    log = log_in_format("json")
    client.get("/api/v1/tokens/")
    assert written_lines(log)[0]["user_id"] == user.pk


def test_lines_of_the_standard_library_carry_the_request_id(
    visitor: Client, log_in_format: Callable[[str], StringIO]
) -> None:
    log = log_in_format("json")
    visitor.get("/api/v1/raise/unexpected/", headers={"X-Request-ID": "abc-2"})
    lines = written_lines(log)
    assert {line["logger"] for line in lines} == {"django.request", "audiotricks.requests"}
    assert {line["request_id"] for line in lines} == {"abc-2"}
    assert "RuntimeError: secret detail" in next(line for line in lines if "exception" in line)["exception"]


def test_nothing_stays_bound_after_a_request(visitor: Client) -> None:
    visitor.get("/api/v1/raise/unexpected/")
    assert get_contextvars() == {}


@pytest.mark.parametrize(
    ("query", "status"),
    [("q=a%00b", 400), ("q%00=a", 400), ("q=%ff", 400), ("q=%C3%BC", 200), ("q=%EF%BF%BD", 200), ("q=ü", 200)],
)
def test_a_query_that_a_database_cannot_hold_is_refused(visitor: Client, query: str, status: int) -> None:
    """Promise 53. Text with NUL or of another encoding than UTF-8 is a clear 400 on every address."""
    answer = visitor.generic(
        "POST", "/api/v1/echo/", b"{}", "application/json", QUERY_STRING=query.encode().decode("latin-1")
    )
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["code"] == "malformed_request"


@pytest.fixture
def application(transactional_db: None, log_in_format: Callable[[str], StringIO]) -> Any:
    """The WSGI application itself, since the test client makes its requests in a way of its own.

    Importing it sets logging up once more, which ``log_in_format`` takes back.
    """
    return import_module("audiotricks.wsgi").application


def answer_of(application: Any, query: str, content_type: str) -> tuple[int, Any]:
    body = b"{}"
    environ = RequestFactory()._base_environ(
        REQUEST_METHOD="POST",
        PATH_INFO="/api/v1/echo/",
        QUERY_STRING=query,
        CONTENT_TYPE=content_type,
        CONTENT_LENGTH=str(len(body)),
        **{"wsgi.input": io.BytesIO(body)},
    )
    status: list[int] = []
    chunks = application(environ, lambda line, headers: status.append(int(line.split()[0])))
    return status[0], json.loads(b"".join(chunks))


@pytest.mark.parametrize("charset", ["utf-7", "hex", "utf-16", "no-such-charset", "UTF-8"])
def test_the_charset_of_a_content_type_does_not_change_how_a_query_is_read(application: Any, charset: str) -> None:
    """Promise 53. In UTF-7 this query would be a NUL; as ``hex`` Django would fail while it makes the request."""
    status, answer = answer_of(application, "q=%2BAAA-", f"application/json; charset={charset}")
    assert (status, answer["query"]) == (200, "+AAA-")


@pytest.mark.parametrize(
    ("query", "content_type", "status"),
    [
        ("a&" * 2000, "application/json; charset=utf-8", 400),
        ("", "application/json; charset*=hex'en'%61", 200),
        ("", "application/json; x*=nothing'en'%61", 415),
    ],
)
def test_a_request_that_cannot_be_read_at_all_is_no_500(
    application: Any, query: str, content_type: str, status: int
) -> None:
    """Promise 53."""
    assert answer_of(application, query, content_type)[0] == status


@pytest.mark.django_db
def test_an_escaped_nul_in_a_session_cookie_is_refused() -> None:
    """Promise 53. The session's key is looked up in the database, which refuses NUL."""
    assert Session.objects.count() == 0
    answer = Client().get("/api/v1/tokens/", headers={"Cookie": r'sessionid="abcdefgh\000ijkl"'})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_path_with_a_nul_is_refused(visitor: Client) -> None:
    assert visitor.get("/api/v1/raise/a%00b/").json()["code"] == "malformed_request"


def test_a_body_of_unknown_length_is_a_411_and_not_an_empty_body(visitor: Client) -> None:
    """Promise 46. Django would read a chunked body as nothing, and the view would answer as if nothing was sent."""
    answer = visitor.generic(
        "POST", "/api/v1/echo/", b"", content_type="application/json", headers={"Transfer-Encoding": "chunked"}
    )
    assert (answer.status_code, answer.json()["code"]) == (411, "length_required")


@pytest.mark.parametrize("address", ["/plain/", "/api/v1/echo/", "/api/v1/nothing/", "/api/v1/raise/unexpected/"])
def test_no_answer_may_be_kept_by_a_cache(visitor: Client, address: str) -> None:
    """Promise 52. Whatever a view answers is for the one who asked."""
    answer = visitor.get(address)
    assert answer["Cache-Control"] == "private, no-store"
    assert {"Cookie", "Authorization"} <= {name.strip() for name in answer["Vary"].split(",")}
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_what_a_view_says_about_caching_and_content_stays(visitor: Client) -> None:
    answer = visitor.get("/cached/")
    assert answer["Cache-Control"] == "private, max-age=60"
    assert answer["Content-Security-Policy"] == "sandbox"


def test_a_page_may_load_nothing_from_elsewhere_and_no_inline_script(visitor: Client) -> None:
    policy = visitor.get("/plain/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "object-src 'none'" in policy
    assert "unsafe" not in policy


def test_only_the_admin_may_run_inline_scripts(visitor: Client) -> None:
    assert "script-src 'self' 'unsafe-inline' 'unsafe-eval'" in visitor.get("/admin/")["Content-Security-Policy"]
    docs = visitor.get("/api/docs/")["Content-Security-Policy"]
    assert "style-src 'self' 'unsafe-inline'" in docs and "script-src" not in docs


def test_logging_is_quiet_about_guessed_addresses(visitor: Client, log_in_format: Callable[[str], StringIO]) -> None:
    log = log_in_format("json")
    visitor.get("/wp-login.php")
    visitor.get("/plain/", headers={"Host": "evil.example"})
    assert [line["event"] for line in written_lines(log)] == ["request", "request"]
    assert logging.getLogger("django.request").level == logging.ERROR


def test_who_is_refused_at_the_door_reads_why_in_his_own_language(visitor: Client) -> None:
    german = visitor.get("/plain/?q=%00", headers={"Accept": "application/json", "Accept-Language": "de"})
    english = visitor.get("/plain/?q=%00", headers={"Accept": "application/json"})
    assert (german.json()["code"], english.json()["code"]) == ("malformed_request", "malformed_request")
    assert english.json()["title"] == "The request cannot be read"
    assert german.json()["title"] != english.json()["title"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/%00", {}, 400),
        ("/plain/?q=%00", {}, 400),
        ("/plain/", {"Accept": "x; a*=nothing'en'b"}, 400),
        ("/plain/", {"Cookie": 'a="\\000"'}, 400),
        ("/plain/", {"Host": "elsewhere.example"}, 400),
        ("/nothing/", {}, 404),
        ("/raise/unexpected/", {}, 500),
        ("/plain", {}, 301),
        ("/static/audiotricks/pages.css", {}, 200),
    ],
)
def test_every_answer_is_kept_harmless(visitor: Client, path: str, headers: dict[str, str], status: int) -> None:
    """Wherever in the middleware it was made."""
    answer = visitor.get(path, headers=headers)
    answer.close()
    assert answer.status_code == status
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] == answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert "no-store" in answer["Cache-Control"] or status == 200


@pytest.mark.django_db
def test_the_way_to_the_sign_in_page_is_no_longer_than_proxies_take(settings: Any) -> None:
    settings.ROOT_URLCONF = "audiotricks.urls"
    short, long = (Client().get("/account/", {"q": "ü" * count}) for count in (10, 600))
    assert "next=" in short["Location"]
    assert long["Location"] == "/sign-in/"

import logging
from typing import Any

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.test import Client

from audiotricks.database import is_unavailable, when_available
from audiotricks.errors import GENERAL, DomainError, catalogue
from tests.servers import free_port, wait_until

EXPECTED = [
    ("conflict", 409, "conflict"),
    ("invalid", 400, "invalid"),
    ("rest-invalid", 400, "invalid"),
    ("rest-throttled", 429, "throttled"),
    ("rest-method", 405, "method_not_allowed"),
    ("missing", 404, "not_found"),
    ("denied", 403, "permission_denied"),
    ("suspicious", 400, "malformed_request"),
    ("too-big", 413, "request_too_large"),
    ("multipart", 400, "malformed_request"),
    ("database", 503, "temporarily_unavailable"),
    ("unexpected", 500, "server_error"),
]


@pytest.mark.parametrize("where", ["raise", "page"])
@pytest.mark.parametrize(("name", "status", "code"), EXPECTED)
def test_every_error_of_the_api_is_a_problem_document_with_its_code(
    visitor: Client, where: str, name: str, status: int, code: str
) -> None:
    answer = visitor.get(f"/api/v1/{where}/{name}/")
    assert answer.status_code == status
    assert answer["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == code
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert problem["title"] and problem["detail"]
    assert "secret" not in answer.content.decode() and "10.0.0.1" not in answer.content.decode()


@pytest.mark.parametrize(("name", "status", "code"), EXPECTED)
def test_an_error_of_a_page_is_a_page_with_the_same_status(visitor: Client, name: str, status: int, code: str) -> None:
    answer = visitor.get(f"/raise/{name}/", headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/html")
    assert f">{status}</p>" in answer.content.decode()
    assert "secret" not in answer.content.decode() and "10.0.0.1" not in answer.content.decode()


def test_a_page_answers_with_json_when_json_is_asked_for(visitor: Client) -> None:
    answer = visitor.get("/raise/conflict/", headers={"Accept": "application/json"})
    assert answer.json()["code"] == "conflict"


def test_members_of_an_error_stand_beside_its_code(visitor: Client) -> None:
    assert visitor.get("/api/v1/raise/conflict/").json()["state"] == "archived"


def test_validation_errors_name_each_field(visitor: Client) -> None:
    problem = visitor.get("/api/v1/raise/rest-invalid/").json()
    assert problem["errors"] == {"name": ["Too long."]}
    assert problem["detail"] == "name: Too long."


@pytest.mark.parametrize(("name", "seconds"), [("rest-throttled", "13"), ("database", "5")])
def test_an_answer_that_says_wait_says_how_long(visitor: Client, name: str, seconds: str) -> None:
    assert visitor.get(f"/api/v1/raise/{name}/")["Retry-After"] == seconds


def test_an_unauthenticated_request_is_told_how_to_authenticate(visitor: Client) -> None:
    answer = visitor.get("/api/v1/tokens/")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("address", ["/api/v1/nothing/", "/nothing/"])
def test_an_unknown_address_is_a_404_for_programs_and_for_people(visitor: Client, address: str) -> None:
    answer = visitor.get(address, headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert ("json" in answer["Content-Type"]) == address.startswith("/api/")


def test_a_host_that_is_not_ours_is_a_400(visitor: Client) -> None:
    answer = visitor.get("/api/v1/tokens/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


def test_a_form_without_its_csrf_token_is_a_403_that_says_so() -> None:
    answer = Client(enforce_csrf_checks=True).post("/plain/", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")


def test_an_unexpected_error_is_logged_once_with_its_traceback(
    visitor: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "django.request"):
        visitor.get("/api/v1/raise/unexpected/")
    errors = [record for record in caplog.records if record.exc_info]
    assert len(errors) == 1
    assert "secret detail" in str(errors[0].exc_info)


def test_the_catalogue_holds_every_code_once_with_a_status_and_a_title() -> None:
    codes = catalogue()
    assert codes["conflict"] == (409, "The present state does not allow this")
    assert set(GENERAL) | set(DomainError.catalogue) == set(codes)
    assert all(400 <= status < 600 and title for status, title in codes.values())


def test_a_code_that_both_lists_name_has_one_status() -> None:
    for code in set(GENERAL) & set(DomainError.catalogue):
        assert GENERAL[code][0] == DomainError.catalogue[code].status, code


class AwayMiddleware:
    """What the session's middleware meets when it asks for the session while there is no database."""

    def __init__(self, get_response: object) -> None:
        pass

    def __call__(self, request: HttpRequest) -> HttpResponse:
        raise OperationalError("the database system is starting up")


@pytest.mark.parametrize("path", ["/api/v1/echo/", "/plain/", "/admin/"])
def test_a_database_that_is_away_for_middleware_is_no_500(visitor: Client, settings: Any, path: str) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.AwayMiddleware"]
    answer = visitor.get(path)
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")


def failing_after(first: Exception, second: Exception) -> Exception:
    try:
        try:
            raise first
        except Exception:
            raise second  # noqa: B904 - as a transaction does it
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("error", "unavailable"),
    [
        (OperationalError("database is locked"), True),
        (InterfaceError("connection already closed"), True),
        (failing_after(OperationalError("gone"), TransactionManagementError("broken")), True),
        (TransactionManagementError("broken"), False),
        (IntegrityError("twice"), False),
        (failing_after(OperationalError("gone"), ValueError("ours")), False),
    ],
)
def test_what_follows_from_a_lost_database_is_told_apart_from_faults_of_ours(
    error: Exception, unavailable: bool
) -> None:
    assert is_unavailable(error) is unavailable


def test_what_waits_for_the_database_is_done_once_it_answers() -> None:
    attempts: list[int] = []

    def give_back() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise OperationalError("the database system is starting up")

    when_available(give_back, seconds=60)
    wait_until(lambda: len(attempts) == 3, what="the third attempt")


@pytest.mark.django_db
def test_while_the_cache_is_away_requests_are_served_uncounted(visitor: Client, settings: Any) -> None:
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{free_port()}/0",
        }
    }
    assert visitor.post("/api/v1/echo/", {}, "application/json").status_code == 200
    tried = visitor.post("/api/v1/tokens/", {}, "application/json", headers={"Authorization": "Basic eDp5"})
    assert tried.status_code in (401, 503)

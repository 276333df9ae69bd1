"""Renders errors as ``application/problem+json`` (RFC 9457) and as pages."""

import json
import math
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from django.core import exceptions as django_errors
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.template.loader import render_to_string
from django.utils.translation import gettext
from rest_framework import exceptions as rest_errors
from rest_framework.utils.encoders import JSONEncoder

from audiotricks.cache import is_cache_error
from audiotricks.database import is_unavailable, look_at_pool
from audiotricks.errors import GENERAL, DomainError, Invalid
from audiotricks.web.users import page_before

if TYPE_CHECKING:
    pass

RETRY_AFTER_SECONDS = 5
MEDIA_TYPE = "application/problem+json"


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Problem:
    """RFC 9457 with a ``code`` and extra members."""

    code: str
    status: int
    title: str
    detail: str = ""
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            **self.members,
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail or self.title,
            "code": self.code,
        }


def general_problem(code: str, detail: str = "", headers: dict[str, str] | None = None) -> Problem:
    status, title = GENERAL[code]
    return Problem(code=code, status=status, title=str(title), detail=detail, headers=headers or {})


def problem_from(error: BaseException) -> Problem | None:
    """None for an error of the server."""
    if isinstance(error, DomainError):
        return _from_domain_error(error)
    if isinstance(error, rest_errors.APIException):
        return _from_rest_error(error)
    if isinstance(error, django_errors.ValidationError):
        return _from_django_validation_error(error)
    if isinstance(error, Http404):
        return general_problem("not_found")
    if isinstance(error, django_errors.PermissionDenied):
        return general_problem("permission_denied")
    if isinstance(error, django_errors.RequestDataTooBig):
        return general_problem("request_too_large")
    if isinstance(error, django_errors.TooManyFieldsSent | django_errors.TooManyFilesSent):
        return general_problem("malformed_request", gettext("The form has too many parts."))
    if isinstance(
        error,
        MultiPartParserError | UnreadablePostError | django_errors.SuspiciousOperation | django_errors.BadRequest,
    ):
        return general_problem("malformed_request")
    if is_unavailable(error):
        log.error("database_unavailable", exc_info=error)
        look_at_pool()
        return general_problem("temporarily_unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    if is_cache_error(error):
        log.error("cache_unavailable", exc_info=error)
        return general_problem("temporarily_unavailable", headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
    return None


def json_answer(problem: Problem) -> HttpResponse:
    return HttpResponse(
        json.dumps(problem.document(), cls=JSONEncoder, allow_nan=False),
        status=problem.status,
        content_type=MEDIA_TYPE,
        headers=problem.headers,
    )


def page_answer(problem: Problem, *, back: str = "") -> HttpResponse:
    """Needs neither database nor session, which may have failed."""
    return HttpResponse(
        render_to_string("problem.html", {"problem": problem, "back": back}),
        status=problem.status,
        headers=problem.headers,
    )


def answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    """JSON under ``/api/`` and on request, else a page."""
    return json_answer(problem) if wants_json(request) else page_answer(problem)


def wants_json(request: HttpRequest) -> bool:
    if request.path.startswith("/api/"):
        return True
    return request.get_preferred_type(["text/html", "application/json", MEDIA_TYPE]) in ("application/json", MEDIA_TYPE)


def problem_response(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's exception handler. None: Django logs the traceback and calls :func:`server_error`."""
    problem = problem_from(error)
    return json_answer(problem) if problem else None


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    problem = problem_from(exception) if exception else None
    return answer(request, problem or general_problem("malformed_request"))


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return answer(request, general_problem("permission_denied"))


def page_not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return answer(request, general_problem("not_found"))


def method_not_allowed(request: HttpRequest, allowed: str) -> HttpResponse:
    return answer(request, general_problem("method_not_allowed", headers={"Allow": allowed}))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Leads back to a form from before a new sign-in."""
    problem = general_problem("csrf_failed")
    return json_answer(problem) if wants_json(request) else page_answer(problem, back=page_before(request))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    error = sys.exception()
    problem = problem_from(error) if error else None
    return answer(request, problem or general_problem("server_error"))


def _from_domain_error(error: DomainError) -> Problem:
    members = dict(error.members)
    headers = {}
    if error.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) or "retry_after" in members:
        headers["Retry-After"] = str(math.ceil(members.get("retry_after", RETRY_AFTER_SECONDS)))
    return Problem(
        code=error.code,
        status=error.status,
        title=str(error.title),
        detail=error.detail,
        members=members,
        headers=headers,
    )


def _from_rest_error(error: rest_errors.APIException) -> Problem:
    if isinstance(error, rest_errors.ValidationError):
        return _from_validation_error(error)
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    code = error.get_codes()
    if isinstance(error, rest_errors.Throttled):
        code = "throttled"
        headers["Retry-After"] = str(math.ceil(getattr(error, "wait", None) or RETRY_AFTER_SECONDS))
    elif isinstance(error, rest_errors.ParseError):
        code = "malformed_request"
    elif isinstance(error, rest_errors.PermissionDenied) and str(error.detail).startswith("CSRF"):
        code = "csrf_failed"
    if not isinstance(code, str) or code not in GENERAL:
        code = _code_for_status(error.status_code)
    return Problem(
        code=code, status=error.status_code, title=str(GENERAL[code][1]), detail=str(error.detail), headers=headers
    )


def _from_validation_error(error: rest_errors.ValidationError) -> Problem:
    detail: Any = error.detail
    return _invalid(detail if isinstance(detail, dict) else {"non_field_errors": detail})


def _from_django_validation_error(error: django_errors.ValidationError) -> Problem:
    return _invalid(error.message_dict if hasattr(error, "error_dict") else {"non_field_errors": error.messages})


def _invalid(errors: dict[str, Any]) -> Problem:
    return Problem(
        code=Invalid.code,
        status=Invalid.status,
        title=str(Invalid.title),
        detail=_first_sentence(errors),
        members={"errors": errors},
    )


def _first_sentence(errors: dict[str, Any]) -> str:
    """``field: message`` of the first invalid field."""
    path: list[str] = []
    found: Any = errors
    while isinstance(found, dict | list) and found:
        if isinstance(found, dict):
            name, found = next(iter(found.items()))
            path.append(str(name))
        else:
            found = next((item for item in found if item), "")
    prefix = "" if path == ["non_field_errors"] else ".".join(path) + ": "
    return f"{prefix}{found}"


def _code_for_status(status: int) -> str:
    for code, (code_status, _title) in GENERAL.items():
        if code_status == status:
            return code
    return "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "malformed_request"

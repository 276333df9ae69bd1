"""Request ids and log lines, refusals, private responses, errors as pages."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes
from zoneinfo import available_timezones

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.cache import patch_vary_headers
from django.utils.functional import LazyObject
from django.utils.http import parse_header_parameters
from django.utils.translation import get_language_from_request, gettext
from structlog.contextvars import bind_contextvars, clear_contextvars

from audiotricks.addresses import FORWARDING_HEADERS, client_address, is_trusted_proxy, normal_address
from audiotricks.web import problems

GetResponse = Callable[[HttpRequest], HttpResponseBase]
TIME_ZONES = available_timezones()
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

PAGE_POLICY = {
    "default-src": "'self'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
}
# The admin's Alpine.js evaluates attributes, and its pages have inline styles and scripts.
ADMIN_POLICY = PAGE_POLICY | {
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
}
# Swagger's page has inline styles; its script is a file.
DOCS_POLICY = PAGE_POLICY | {"style-src": "'self' 'unsafe-inline'"}
POLICIES = (("/admin/", ADMIN_POLICY), ("/api/docs/", DOCS_POLICY), ("/", PAGE_POLICY))

log = structlog.get_logger("audiotricks.requests")


#: The longest address of the sign-in page with the page to return to.
MAX_WAY_BACK_BYTES = 2048
#: Headers of each response, also of one from outside the middleware that would set them.
DEFAULT_HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ClientAddressMiddleware:
    """Sets REMOTE_ADDR and drops untrusted forwarding headers. Must be outermost: throttles, logs and X-Forwarded-Proto
    rely on it.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        trusted = is_trusted_proxy(normal_address(request.META.get("REMOTE_ADDR", "")))
        request.META["REMOTE_ADDR"] = client_address(request)
        for name in FORWARDING_HEADERS:
            if not trusted or name == "HTTP_X_FORWARDED_FOR":
                request.META.pop(name, None)
        return self.get_response(request)


class DefaultHeadersMiddleware:
    """Adds safe headers, also to responses of outer middleware."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        location = response.headers.get("Location", "")
        if len(location) > MAX_WAY_BACK_BYTES and location.startswith(reverse("sign-in")):
            # Proxies refuse a response with so long a header; the user then returns to the first page.
            response.headers["Location"] = reverse("sign-in")
        for name, value in (DEFAULT_HEADERS | {"Content-Security-Policy": policy_for(request.path)}).items():
            response.headers.setdefault(name, value)
        return response


class RequestLogMiddleware:
    """Writes a log line for each request, without the query, and gives it an id: the client's ``X-Request-ID`` of 1 to
    64 letters, digits, dots, dashes and underscores, or a new one.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        clear_contextvars()
        bind_contextvars(request_id=request_id, method=request.method, path=request.path)
        try:
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            write = log.error if response.status_code >= 500 else log.info
            write(
                "request",
                status=response.status_code,
                duration_ms=round((time.monotonic() - started) * 1000, 1),
                user_id=known_user_id(request),
                bytes=announced_bytes(response),
            )
            return response
        finally:
            clear_contextvars()


class RequestGuardMiddleware:
    """Refuses text that a database cannot hold, an unreadable Accept, and a body of unknown length, which Django would
    read as empty.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Static files are served before the language is chosen; a refusal here needs one.
        with translation.override(get_language_from_request(request)):
            return self.refusal(request) or self.get_response(request)

    def refusal(self, request: HttpRequest) -> HttpResponse | None:
        if accepts_nothing_readable(request):
            return problems.json_answer(
                problems.general_problem("malformed_request", gettext("The header Accept cannot be read."))
            )
        if reason := unusable_text(request):
            return problems.answer(request, problems.general_problem("malformed_request", reason))
        if has_body_of_unknown_length(request):
            return problems.answer(request, problems.general_problem("length_required"))
        return None


class PrivateResponseMiddleware:
    """Keeps responses out of shared caches and sets the content security policy, unless the view did."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if "Cache-Control" not in response:
            response["Cache-Control"] = "private, no-store"
        patch_vary_headers(response, ["Cookie", "Authorization"])
        if "Content-Security-Policy" not in response:
            response["Content-Security-Policy"] = policy_for(request.path)
        return response


class TimeZoneMiddleware:
    """From the cookie ``timezone`` (IANA name); UTC for programs."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path.startswith("/api/"):
            zone = "UTC"
        else:
            chosen = request.COOKIES.get("timezone", "")
            zone = chosen if chosen in TIME_ZONES else settings.TIME_ZONE
        with timezone.override(zone):
            return self.get_response(request)


class ProblemPageMiddleware:
    """Renders errors of page views, also a GET of a form's target."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            return problems.method_not_allowed(request, response["Allow"])
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        problem = problems.problem_from(error)
        return problems.answer(request, problem) if problem else None


def known_user_id(request: HttpRequest) -> object:
    user = getattr(request, "user", None)
    if isinstance(user, LazyObject):
        user = getattr(request, "_cached_user", None)
    return user.pk if user else None


def announced_bytes(response: HttpResponseBase) -> int | None:
    if isinstance(response, HttpResponse):
        return len(response.content)
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def unusable_text(request: HttpRequest) -> str:
    if "\0" in request.path_info:
        return gettext("The path holds a NUL character.")
    if any("\0" in cookie for cookie in request.COOKIES.values()):
        return gettext("A cookie holds a NUL character.")
    query = unquote_to_bytes(request.META.get("QUERY_STRING", "").encode("latin-1"))
    if b"\0" in query:
        return gettext("The query holds a NUL character.")
    try:
        query.decode()
    except UnicodeDecodeError:
        return gettext("The query is not UTF-8.")
    return ""


def accepts_nothing_readable(request: HttpRequest) -> bool:
    """Whether Django's parser raises for Accept, as rendering an error would."""
    try:
        for media_type in request.META.get("HTTP_ACCEPT", "").split(","):
            parse_header_parameters(media_type)
    except (LookupError, TypeError, ValueError):
        return True
    return False


def has_body_of_unknown_length(request: HttpRequest) -> bool:
    return bool(request.META.get("HTTP_TRANSFER_ENCODING")) and not request.META.get("CONTENT_LENGTH")


def policy_for(path: str, *, media: Iterable[str] = ()) -> str:
    """``media`` are the origins of signed URLs."""
    policy = dict(next(policy for prefix, policy in POLICIES if path.startswith(prefix)))
    policy["media-src"] = " ".join((policy["media-src"], *media))
    return "; ".join(f"{directive} {sources}" for directive, sources in policy.items())

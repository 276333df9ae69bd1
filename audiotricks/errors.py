"""Domain errors and their codes.

``audiotricks.web.problems`` renders them for the API (RFC 9457) and pages. ``detail`` is in the active language,
``str`` in English.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from django.utils import translation
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


class DomainError(Exception):
    """An error with a stable ``code``, an HTTP ``status``, a lazy ``detail`` that says what to do, and
    JSON-serialisable ``members`` of the problem document.
    """

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 400
    title: ClassVar["_StrOrPromise"] = _("The request cannot be carried out")
    catalogue: ClassVar[dict[str, type["DomainError"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "code" in cls.__dict__:
            taken = DomainError.catalogue.setdefault(cls.code, cls)
            if taken.__qualname__ != cls.__qualname__:
                raise TypeError(f"error code {cls.code!r} is used by {taken.__qualname__} already")

    def __init__(self, detail: "_StrOrPromise" = "", **members: Any) -> None:
        super().__init__(detail or self.title)
        self.members = members

    @property
    def detail(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        with translation.override("en"):
            return self.detail


class NotFound(DomainError):
    code = "not_found"
    status = 404
    title = _("There is nothing here, or it is not yours")


class PermissionDenied(DomainError):
    code = "permission_denied"
    status = 403
    title = _("Your role does not allow this")


class Conflict(DomainError):
    code = "conflict"
    status = 409
    title = _("The present state does not allow this")


class RequestTimeout(DomainError):
    code = "request_timeout"
    status = 408
    title = _("The request arrived too slowly: send it again")


class TooManyTransfers(DomainError):
    code = "too_many_transfers"
    status = 503
    title = _("Too many files are on their way at once: try again soon")


class Invalid(DomainError):
    """``errors`` maps a field to its message."""

    code = "invalid"
    status = 400
    title = _("Something that was sent cannot be used")


#: Codes without a DomainError class: status and title.
GENERAL: dict[str, tuple[int, "_StrOrPromise"]] = {
    "malformed_request": (400, _("The request cannot be read")),
    "not_authenticated": (401, _("Sign in, or send a token")),
    "authentication_failed": (401, _("The name and password, or the token, are not accepted")),
    "token_expired": (401, _("The token has expired")),
    "csrf_failed": (403, _("The request did not come from a page of ours, or the page is too old: load it again")),
    "permission_denied": (403, _("You may not do this")),
    "not_found": (404, _("There is nothing here, or it is not yours")),
    "method_not_allowed": (405, _("This address does not take this method")),
    "not_acceptable": (406, _("This is not offered in a format that the request accepts")),
    "length_required": (411, _("The request must say how long its body is (Content-Length)")),
    "uri_too_long": (414, _("The address of the request is too long")),
    "request_too_large": (413, _("The request is larger than what is accepted here")),
    "unsupported_media_type": (415, _("The body has a media type that is not accepted here")),
    "expectation_failed": (417, _("This expectation of the request (Expect) is not met here")),
    "throttled": (429, _("Too many requests: wait a little")),
    "headers_too_large": (431, _("The headers of the request are too large")),
    "server_error": (500, _("Something went wrong here; it has been logged")),
    "transfer_coding_unknown": (501, _("This Transfer-Encoding is not known here")),
    "temporarily_unavailable": (503, _("Something that is needed does not answer: try again soon")),
}


def catalogue() -> dict[str, tuple[int, str]]:
    """Every code with its status and title, by status."""
    codes = {code: (status, str(title)) for code, (status, title) in GENERAL.items()}
    for code, error in DomainError.catalogue.items():
        codes[code] = (error.status, str(error.title))
    return dict(sorted(codes.items(), key=lambda entry: (entry[1][0], entry[0])))

"""Errors that a client can act on, and the catalogue of their codes.

A service raises a :class:`DomainError`; ``audiotricks.problems`` renders it for the API (RFC 9457) and for pages.
Nothing here knows HTTP beyond the status that each code has.

Words are kept untranslated until somebody reads them: ``detail`` is in the language of whoever asks for it, ``str`` of
an error is English, for logs and for what is stored.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from django.utils import translation
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrOrPromise


class DomainError(Exception):
    """An error with a stable ``code``, an HTTP ``status``, a ``detail`` that says what to do, and extra members.

    ``detail`` should be lazy (``gettext_lazy``, with ``format_lazy`` around it where it has placeholders). ``members``
    must be JSON-serialisable; they stand beside ``code`` and ``detail`` in the problem document.
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
        """What is wrong and what to do, in the language that is active now."""
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
    """The state of the thing does not allow what was asked."""

    code = "conflict"
    status = 409
    title = _("The present state does not allow this")


class RequestTimeout(DomainError):
    """The client sends slower than a request of its kind may."""

    code = "request_timeout"
    status = 408
    title = _("The request arrived too slowly: send it again")


class TooManyTransfers(DomainError):
    code = "too_many_transfers"
    status = 503
    title = _("Too many files are on their way at once: try again soon")


class Invalid(DomainError):
    """A value that was sent cannot be used. ``errors`` maps a field to what is wrong with it."""

    code = "invalid"
    status = 400
    title = _("Something that was sent cannot be used")

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from rest_framework.request import Request

P = ParamSpec("P")
Page = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def user_of(request: HttpRequest | Request) -> User:
    """For views behind a sign-in."""
    user = request.user
    assert isinstance(user, User)
    return user


def sign_in_required(*, form_on: str = "") -> Callable[[Page[P]], Page[P]]:
    """Redirect visitors to the sign-in page, and back.

    A form sent after a sign-out changes nothing. A view for POST only names the page of its form: ``form_on`` is a URL
    name, with ``pk`` where the view has one.
    """

    def guard(page: Page[P]) -> Page[P]:
        @wraps(page)
        def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.user.is_authenticated:
                return page(request, *args, **kwargs)
            back = request.get_full_path()
            if form_on:
                found = page_before(request)
                named = {"pk": kwargs["pk"]} if "pk" in kwargs else None
                back = found if found and found != back else reverse(form_on, kwargs=named)
            if request.method not in ("GET", "HEAD"):
                messages.warning(request, _("You were signed out: nothing was changed. Sign in and send it again."))
            return redirect_to_login(back)

        return guarded

    return guard


def page_before(request: HttpRequest) -> str:
    referrer = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(referrer, allowed_hosts={request.get_host()}):
        return ""
    parts = urlsplit(referrer)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path

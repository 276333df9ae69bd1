from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import audit
from accounts.attempts import remember_browser

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class AuditMiddleware:
    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before = audit.request_now.set(request)
        try:
            response = self.get_response(request)
            if name := getattr(request, "signed_in_as", ""):
                remember_browser(request, response, name)
            return response
        finally:
            audit.request_now.reset(before)

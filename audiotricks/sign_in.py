from typing import Any

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse

from audiotricks.authentication import check_sign_in_rate


class SignInView(LoginView):
    """Every try at a password counts towards the ``sign-in`` rate of its address, as it does in the API."""

    template_name = "sign_in.html"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        check_sign_in_rate(request)
        return super().post(request, *args, **kwargs)

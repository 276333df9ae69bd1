"""Sign-in, account, passwords and API tokens. Views with a password or mail address count attempts."""

from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordResetForm
from django.core.paginator import Paginator
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils import timezone, translation
from django.utils.translation import gettext
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from accounts.attempts import charge, check_account, check_address, forgive
from accounts.audit import Kind, record_refusal
from accounts.pages.forms import ChangePasswordForm, EmailForm, NewPasswordForm, SignInForm, TokenForm
from accounts.tokens import LONGEST_DAYS, create_token, own_token, revoke_token, tokens_of
from audiotricks.web.users import sign_in_required, user_of

TOKENS_ON_A_PAGE = 50
#: The pause between two mails to one address, so that strangers cannot fill a mailbox.
MAIL_PAUSE_SECONDS = 60

log = structlog.get_logger(__name__)
# Mail is sent after the response, one at a time. A kill loses what still waits; users then ask again.
mail_room = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")


class SignIn(views.LoginView):
    """The authentication backend counts the attempts."""

    template_name = "account/sign_in.html"
    form_class = SignInForm
    redirect_authenticated_user = True

    def get_redirect_url(self) -> str:  # type: ignore[override] # the stubs are of another version
        """Never this page, which would loop."""
        wanted: str = super().get_redirect_url()
        return "" if wanted == self.request.path else wanted


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def account(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = EmailForm(user)
    if request.method == "POST":
        check_address(request)
        counted = check_account(request, user.get_username())
        form = EmailForm(user, request.POST)
        valid = form.is_valid()
        if "current_password" not in form.errors:
            forgive(counted)
        if valid:
            form.save()
            messages.success(request, gettext("Your email address is saved."))
            return redirect("account")
    return render(request, "account/account.html", {"form": form})


class ChangePassword(views.PasswordChangeView):
    template_name = "account/change_password.html"
    form_class = ChangePasswordForm
    success_url = reverse_lazy("account")

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        check_address(request)
        self.counted = check_account(request, user_of(request).get_username())
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        forgive(self.counted)
        answer = super().form_valid(form)
        messages.success(self.request, password_changed_words(ends_tokens=form.cleaned_data["end_tokens"]))
        return answer

    def form_invalid(self, form: Any) -> HttpResponse:
        if "old_password" not in form.errors:
            forgive(self.counted)
        return super().form_invalid(form)


def password_changed_words(*, ends_tokens: bool) -> str:
    if ends_tokens:
        return gettext(
            "Your password is changed. Wherever else you were signed in, you are not any more; your API tokens and the "
            "links that you made have ended."
        )
    return gettext(
        "Your password is changed. Wherever else you were signed in, you are not any more, and the links that you made "
        "have ended. Your API tokens go on working."
    )


class ForgottenPassword(views.PasswordResetView):
    """Responds before it looks, so that nothing reveals a known address."""

    template_name = "account/forgotten_password.html"

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        check_address(request)
        return super().post(request, *args, **kwargs) if settings.EMAIL_HOST else redirect("forgotten-password")

    def form_valid(self, form: PasswordResetForm) -> HttpResponse:
        record_refusal(Kind.PASSWORD_LINK_ASKED, name=form.cleaned_data["email"])
        mail_room.submit(
            copy_context().run,
            mail_password_link,
            form,
            host=self.request.get_host(),
            by_https=self.request.is_secure(),
            language=translation.get_language(),
        )
        messages.success(
            self.request,
            gettext("If somebody here has this address, a link for a new password is on its way to it."),
        )
        return redirect("sign-in")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs, sends_mail=bool(settings.EMAIL_HOST))


def mail_password_link(form: PasswordResetForm, *, host: str, by_https: bool, language: str) -> None:
    """To each active user with the address, once in MAIL_PAUSE_SECONDS, in a thread. A failure is only logged."""
    try:
        address = sha256(form.cleaned_data["email"].casefold().encode()).hexdigest()
        pause = timedelta(seconds=MAIL_PAUSE_SECONDS)
        if charge(f"mail:{address}", block=lambda tries, began, now: now + pause, window=pause):
            log.info("password_mail_withheld")
            return
        lifetime: dict[str, Any] = {"hours": settings.PASSWORD_RESET_TIMEOUT // 3600}
        with translation.override(language):
            form.save(
                domain_override=host,
                use_https=by_https,
                subject_template_name="account/password_mail_subject.txt",
                email_template_name="account/password_mail.txt",
                extra_email_context=lifetime,
            )
    except Exception:
        log.exception("password_mail_failed")
    finally:
        connections.close_all()


class NewPassword(views.PasswordResetConfirmView):
    """A used, old or wrong link is a 404."""

    template_name = "account/new_password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("sign-in")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        # A valid link redirects to an address without the token, which only this session can open.
        if kwargs["token"] != self.reset_url_token:
            check_address(request)
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer

    def form_valid(self, form: Any) -> HttpResponse:
        answer = super().form_valid(form)
        messages.success(self.request, gettext("Your new password is saved: sign in with it."))
        return answer

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        return super().render_to_response(context, status=200 if self.validlink else 404, **kwargs)


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def tokens(request: HttpRequest) -> HttpResponse:
    """Tokens, and a form for a new one.

    Only the response to the POST has the secret: a redirect would have to store it. It is not cached, and a reload is
    refused.
    """
    user = user_of(request)
    form = TokenForm(user, longest_days=LONGEST_DAYS)
    made: dict[str, Any] = {}
    if request.method == "POST":
        check_address(request)
        counted = check_account(request, user.get_username())
        form = TokenForm(user, request.POST, longest_days=LONGEST_DAYS)
        valid = form.is_valid()
        if "current_password" not in form.errors:
            forgive(counted)
        if valid:
            token, secret = create_token(
                user, name=form.cleaned_data["name"], expires_in=form.expires_in, scope=form.cleaned_data["scope"]
            )
            made = {"token": token, "secret": secret, "address": request.build_absolute_uri(reverse("upload-list"))}
            form = TokenForm(user, longest_days=LONGEST_DAYS)
    page = Paginator(tokens_of(user), TOKENS_ON_A_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "account/tokens.html",
        {"form": form, "made": made, "page": page, "now": timezone.now()},
        status=201 if made else 200,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required()
def revoke(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Asks first. Another user's token is a 404."""
    token = own_token(user_of(request), pk)
    if request.method == "POST":
        revoke_token(token)
        messages.success(request, gettext("“%(name)s” is revoked.") % {"name": token.name})
        return redirect("tokens")
    return render(request, "account/revoke_token.html", {"token": token})

"""Who is asking: by token, or by name and password where a token is made.

Loaded from the settings, so it must not import DRF's views.
"""

from typing import Any, cast

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, Throttled
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from audiotricks.addresses import client_address
from audiotricks.audit import Kind, record_refusal
from audiotricks.models import ApiToken


class TokenExpired(AuthenticationFailed):
    default_detail = _("The token has expired: make a new one.")
    default_code = "token_expired"


class TokenAuthentication(KnoxTokenAuthentication):
    """``Authorization: Bearer TOKEN``. One query, by the token's digest.

    Raises TokenExpired (401 ``token_expired``) until the expired token is forgotten, and AuthenticationFailed (401
    ``authentication_failed``) for an unknown token and for a user who is not active any more.
    """

    def authenticate_credentials(self, token: bytes) -> tuple[Any, ApiToken]:
        try:
            digest = hash_token(token.decode("ascii"))
        except UnicodeDecodeError:
            raise AuthenticationFailed(_("The token is not known.")) from None
        row = ApiToken.objects.select_related("user").filter(digest=digest).first()
        if row is None:
            raise AuthenticationFailed(_("The token is not known."))
        if row.expiry is not None and row.expiry <= timezone.now():
            record_refusal(Kind.TOKEN_REFUSED, subject=row)
            raise TokenExpired()
        if not row.user.is_active:
            record_refusal(Kind.TOKEN_REFUSED, subject=row)
            raise AuthenticationFailed(_("The user is not active."))
        return row.user, row


class SignInThrottle(SimpleRateThrottle):
    """Bounds how often one address may try a password; the rate is ``sign-in``."""

    scope = "sign-in"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": client_address(request)}


def check_sign_in_rate(request: Any) -> None:
    """Count one try at a password from this address. Raises Throttled (429) when there were too many.

    Called before the password is looked at: DRF's own throttles run after authentication, which would let a wrong
    password be tried without end.
    """
    throttle = SignInThrottle()
    if not throttle.allow_request(request, cast(Any, None)):
        raise Throttled(throttle.wait())


class PasswordBackend(ModelBackend):
    """Django's own, and every try over HTTP counts towards the ``sign-in`` rate of its address: page, admin and API."""

    def authenticate(
        self, request: Any, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if request is not None:
            check_sign_in_rate(request)
        return super().authenticate(request, username, password, **kwargs)

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """As Django's, in one query instead of two: every request of an ordinary user asks."""
        if user_obj.is_superuser or user_obj.is_anonymous or not user_obj.is_active or obj is not None:
            return super().get_all_permissions(user_obj, obj)
        if not hasattr(user_obj, "_perm_cache"):
            own, of_groups = (
                Permission.objects.filter(**condition).order_by().values_list("content_type__app_label", "codename")
                for condition in ({"user": user_obj}, {"group__user": user_obj})
            )
            user_obj._perm_cache = {f"{app}.{codename}" for app, codename in own.union(of_groups)}
        permissions: set[str] = user_obj._perm_cache
        return permissions


class PasswordAuthentication(BasicAuthentication):
    """HTTP Basic, for making the first token."""

    www_authenticate_realm = "AudioTricks"

    def authenticate_credentials(self, userid: str, password: str, request: Request | None = None) -> tuple[Any, None]:
        if "\0" in userid or "\0" in password:
            raise AuthenticationFailed(_("The name and password are not accepted."))
        try:
            return super().authenticate_credentials(userid, password, request)
        except Throttled:
            raise
        except APIException:
            raise AuthenticationFailed(_("The name and password are not accepted.")) from None

"""Authentication by token, or by password to create one. Loaded from the settings, so it must not
import DRF's views.
"""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from knox.crypto import hash_token
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, Throttled
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts.attempts import check_account, check_address, forgive
from accounts.audit import Kind, record_refusal
from accounts.models import ApiToken
from audiotricks.errors import DomainError


class TokenExpired(AuthenticationFailed):
    default_detail = _("The token has expired: make a new one.")
    default_code = "token_expired"


class UnknownToken(AuthenticationFailed):
    default_detail = _("The token is not known.")


class TokenReadOnly(DomainError):
    code = "token_read_only"
    status = 403
    title = _("This token only reads: use one that may write")


class TokenAuthentication(KnoxTokenAuthentication):
    """``Authorization: Bearer TOKEN``, in one query.

    Raises TokenExpired (401 ``token_expired``), AuthenticationFailed (401) for an unknown token or inactive user, and
    403 ``token_read_only`` for methods other than GET, HEAD and OPTIONS with a read-only token. Unknown tokens count as
    attempts (429).
    """

    def authenticate(self, request: Any) -> Any:
        try:
            found = super().authenticate(request)
        except UnknownToken:
            check_address(request, kind="token")
            raise
        if found and found[1].scope == ApiToken.Scope.READ and request.method not in SAFE_METHODS:
            raise TokenReadOnly
        return found

    def authenticate_credentials(self, token: bytes) -> tuple[Any, ApiToken]:
        try:
            digest = hash_token(token.decode("ascii"))
        except UnicodeDecodeError:
            raise UnknownToken from None
        row = ApiToken.objects.select_related("user").filter(digest=digest).first()
        if row is None:
            raise UnknownToken
        if row.expiry is not None and row.expiry <= timezone.now():
            record_refusal(Kind.TOKEN_REFUSED, subject=row)
            raise TokenExpired()
        if not row.user.is_active:
            record_refusal(Kind.TOKEN_REFUSED, subject=row)
            raise AuthenticationFailed(_("The user is not active."))
        return row.user, row


class PasswordBackend(ModelBackend):
    """Counts each attempt over HTTP by address and account."""

    def authenticate(
        self, request: Any, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if request is None:
            return super().authenticate(request, username, password, **kwargs)
        check_address(request)
        counted = check_account(request, username or "")
        user = super().authenticate(request, username, password, **kwargs)
        if user is not None:
            forgive(counted)
        return user

    def get_all_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        """In one query, since every request needs it."""
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
    """HTTP Basic, for creating the first token."""

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

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.access import lock_tokens_of
from accounts.audit import Kind, record
from accounts.authentication import UnknownToken
from accounts.models import ApiToken
from audiotricks.errors import NotFound

LONGEST_DAYS = 3650


def create_token(
    user: Any,
    *,
    name: str,
    expires_in: timedelta | None,
    scope: str = ApiToken.Scope.FULL,
    parent: ApiToken | None = None,
) -> tuple[ApiToken, str]:
    """A new token and its secret, which is not stored. ``expires_in`` None: never.

    With ``parent``, it ends with that and is read-only if that is. Raises UnknownToken if that was revoked.
    """
    if parent is not None:
        if parent.expiry is not None:
            left = parent.expiry - timezone.now()
            expires_in = left if expires_in is None else min(expires_in, left)
        scope = ApiToken.Scope.READ if parent.scope == ApiToken.Scope.READ else scope
    with transaction.atomic():
        if parent is not None:
            lock_tokens_of(user)
            if not ApiToken.objects.filter(pk=parent.pk).exists():
                raise UnknownToken
        row, secret = ApiToken.objects.create(user, expiry=expires_in, name=name, scope=scope, parent=parent)
        made = {"user": user.pk, "username": user.get_username(), "scope": scope, "expires_at": row.expiry}
        record(Kind.TOKEN_MADE, subject=row, details=made | ({"parent": str(parent.pk)} if parent else {}))
    return row, secret


def tokens_of(user: Any) -> QuerySet[ApiToken]:
    """The newest first, with expired ones."""
    tokens: QuerySet[ApiToken] = ApiToken.objects.filter(user_id=user.pk)
    return tokens


def own_token(user: Any, pk: UUID) -> ApiToken:
    """Raises NotFound, also for another user's token."""
    token = tokens_of(user).filter(pk=pk).first()
    if token is None:
        raise NotFound
    return token


def revoke_token(token: ApiToken) -> None:
    """Running requests finish."""
    with transaction.atomic():
        lock_tokens_of(token.user)
        token.delete()

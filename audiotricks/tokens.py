"""Tokens for programs: made once, shown once, stored as a digest."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveDestroyAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from audiotricks.access import lock_tokens_of
from audiotricks.attempts import check_account, check_address, forgive
from audiotricks.audit import Kind, record
from audiotricks.authentication import PasswordAuthentication, TokenAuthentication, UnknownToken
from audiotricks.errors import DomainError, Invalid, NotFound
from audiotricks.idempotency import HEADER, IdempotencyNotSupported
from audiotricks.models import ApiToken

LONGEST_DAYS = 3650


class PasswordNeeded(DomainError):
    code = "password_needed"
    status = 403
    title = _("Making a token needs your password: send it as current_password, or sign in with name and password")


def create_token(
    user: Any,
    *,
    name: str,
    expires_in: timedelta | None,
    scope: str = ApiToken.Scope.FULL,
    parent: ApiToken | None = None,
) -> tuple[ApiToken, str]:
    """A new token and its secret, which cannot be had again. ``expires_in`` None means that it never expires.

    One that is made with another token ends with it at the latest, and only reads where that only reads. Raises
    UnknownToken when that one is revoked by now.
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
    """The newest first; expired ones too, until they are forgotten."""
    tokens: QuerySet[ApiToken] = ApiToken.objects.filter(user_id=user.pk)
    return tokens


def own_token(user: Any, pk: UUID) -> ApiToken:
    """Raises NotFound for a token of another user as for one that does not exist."""
    token = tokens_of(user).filter(pk=pk).first()
    if token is None:
        raise NotFound
    return token


def revoke_token(token: ApiToken) -> None:
    """End it at once; requests that are under way with it finish."""
    with transaction.atomic():
        lock_tokens_of(token.user)
        token.delete()


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    created_at = serializers.DateTimeField(source="created", read_only=True)
    expires_at = serializers.DateTimeField(source="expiry", read_only=True, allow_null=True)

    class Meta:
        model = ApiToken
        fields = ("id", "name", "scope", "created_at", "expires_at")
        read_only_fields = ("id", "name", "scope")


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    expires_in_days = serializers.IntegerField(
        min_value=1, max_value=LONGEST_DAYS, required=False, help_text="Left out: the installation's default."
    )
    scope = serializers.ChoiceField(
        ApiToken.Scope.choices, required=False, help_text="`read`: for GET alone. Left out: `full`."
    )
    current_password = serializers.CharField(
        required=False,
        write_only=True,
        trim_whitespace=False,
        max_length=4096,
        help_text="Your password, unless the request signs in with it.",
    )


class MadeTokenSerializer(TokenSerializer):
    token = serializers.CharField(read_only=True, help_text="The secret. It is shown here once.")

    class Meta(TokenSerializer.Meta):
        fields = (*TokenSerializer.Meta.fields, "token")  # type: ignore[assignment]


class TokenView(GenericAPIView[ApiToken]):
    """Only one's own tokens; another user's id is a 404. Name and password are accepted here and nowhere else."""

    authentication_classes = (TokenAuthentication, SessionAuthentication, PasswordAuthentication)
    serializer_class = TokenSerializer
    cursor_ordering = ("-created", "-id")

    def get_queryset(self) -> QuerySet[ApiToken]:
        return tokens_of(self.request.user)


class TokenList(TokenView, ListAPIView[ApiToken]):
    """The tokens of the user who asks."""

    @extend_schema(request=NewTokenSerializer, responses={201: MadeTokenSerializer})
    def post(self, request: Request) -> Response:
        """Make a token; it needs the password, in Basic or as `current_password`.

        One that is made with another token ends with it at the latest, and has no wider scope. Idempotency-Key is
        refused: a stored answer would hold the secret.
        """
        if HEADER in request.headers:
            raise IdempotencyNotSupported()
        wanted = NewTokenSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        days = wanted.validated_data.get("expires_in_days", settings.TOKEN_DAYS)
        check_password_of(request, wanted.validated_data.get("current_password"))
        row, secret = create_token(
            request.user,
            name=wanted.validated_data["name"],
            expires_in=timedelta(days=days),
            scope=wanted.validated_data.get("scope", ApiToken.Scope.FULL),
            parent=request.auth if isinstance(request.auth, ApiToken) else None,
        )
        location = reverse("api-token", kwargs={"pk": row.pk}, request=request)
        return Response({**TokenSerializer(row).data, "token": secret}, status=201, headers={"Location": location})


def check_password_of(request: Request, password: str | None) -> None:
    """Make sure that whoever sends this knows the password now. Raises PasswordNeeded, Invalid, Throttled."""
    if isinstance(request.successful_authenticator, PasswordAuthentication):
        return
    if password is None:
        raise PasswordNeeded
    check_address(request)
    counted = check_account(request, request.user.get_username())
    if not request.user.check_password(password):
        raise Invalid(errors={"current_password": [_("This is not your password. Mind upper and lower case.")]})
    forgive(counted)


class TokenDetail(TokenView, RetrieveDestroyAPIView[ApiToken]):
    """One token: when it was made and when it expires. Deleting it ends it at once."""

    def perform_destroy(self, instance: ApiToken) -> None:
        revoke_token(instance)

"""Tokens for programs: made once, shown once, stored as a digest."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.generics import GenericAPIView, ListAPIView, RetrieveDestroyAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from audiotricks.audit import Kind, record
from audiotricks.authentication import PasswordAuthentication, TokenAuthentication
from audiotricks.errors import NotFound
from audiotricks.idempotency import HEADER, IdempotencyNotSupported
from audiotricks.models import ApiToken

LONGEST_DAYS = 3650


def create_token(user: Any, *, name: str, expires_in: timedelta | None) -> tuple[ApiToken, str]:
    """A new token and its secret, which cannot be had again. ``expires_in`` None means that it never expires."""
    with transaction.atomic():
        row, secret = ApiToken.objects.create(user, expiry=expires_in, name=name)
        made_for = {"user": user.pk, "username": user.get_username(), "expires_at": row.expiry}
        record(Kind.TOKEN_MADE, subject=row, details=made_for)
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
    token.delete()


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    created_at = serializers.DateTimeField(source="created", read_only=True)
    expires_at = serializers.DateTimeField(source="expiry", read_only=True, allow_null=True)

    class Meta:
        model = ApiToken
        fields = ("id", "name", "created_at", "expires_at")
        read_only_fields = ("id", "name")


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)
    expires_in_days = serializers.IntegerField(
        min_value=1, max_value=LONGEST_DAYS, required=False, help_text="Left out: the installation's default."
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
        """Make a token. Idempotency-Key is refused: a stored answer would hold the secret."""
        if HEADER in request.headers:
            raise IdempotencyNotSupported()
        wanted = NewTokenSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        days = wanted.validated_data.get("expires_in_days", settings.TOKEN_DAYS)
        row, secret = create_token(request.user, name=wanted.validated_data["name"], expires_in=timedelta(days=days))
        location = reverse("api-token", kwargs={"pk": row.pk}, request=request)
        return Response({**TokenSerializer(row).data, "token": secret}, status=201, headers={"Location": location})


class TokenDetail(TokenView, RetrieveDestroyAPIView[ApiToken]):
    """One token: when it was made and when it expires. Deleting it ends it at once."""

    def perform_destroy(self, instance: ApiToken) -> None:
        revoke_token(instance)

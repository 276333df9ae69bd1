from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.mixins import DestroyModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import GenericViewSet

from accounts.attempts import check_account, check_address, forgive
from accounts.authentication import PasswordAuthentication, TokenAuthentication
from accounts.models import ApiToken
from accounts.tokens import LONGEST_DAYS, create_token, revoke_token, tokens_of
from audiotricks.api.idempotency import HEADER, IdempotencyNotSupported
from audiotricks.errors import DomainError, Invalid


class PasswordNeeded(DomainError):
    code = "password_needed"
    status = 403
    title = _("Making a token needs your password: send it as current_password, or sign in with name and password")


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


@extend_schema_view(
    list=extend_schema(description="The tokens of the user who asks."),
    retrieve=extend_schema(description="One token: when it was made and when it expires."),
    destroy=extend_schema(description="Deleting a token ends it at once."),
)
class TokenViewSet(ListModelMixin, RetrieveModelMixin, DestroyModelMixin, GenericViewSet[ApiToken]):
    """Only one's own tokens; another user's id is a 404. Name and password are accepted here and nowhere else."""

    authentication_classes = (TokenAuthentication, SessionAuthentication, PasswordAuthentication)
    serializer_class = TokenSerializer
    lookup_value_converter = "uuid"
    cursor_ordering = ("-created", "-id")

    def get_queryset(self) -> QuerySet[ApiToken]:
        return tokens_of(self.request.user)

    @extend_schema(request=NewTokenSerializer, responses={201: MadeTokenSerializer})
    def create(self, request: Request) -> Response:
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
        location = reverse("api-token-detail", kwargs={"pk": row.pk}, request=request)
        return Response({**TokenSerializer(row).data, "token": secret}, status=201, headers={"Location": location})

    def perform_destroy(self, instance: ApiToken) -> None:
        revoke_token(instance)


def check_password_of(request: Request, password: str | None) -> None:
    """Raises PasswordNeeded, Invalid, Throttled."""
    if isinstance(request.successful_authenticator, PasswordAuthentication):
        return
    if password is None:
        raise PasswordNeeded
    check_address(request)
    counted = check_account(request, request.user.get_username())
    if not request.user.check_password(password):
        raise Invalid(errors={"current_password": [_("This is not your password. Mind upper and lower case.")]})
    forgive(counted)

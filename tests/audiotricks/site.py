"""Addresses for the tests of this folder: views that do one thing each, and the real ones of the ground floor."""

from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.urls import include, path
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from audiotricks.api.idempotency import IdempotentPostMixin
from audiotricks.errors import Conflict, Invalid
from audiotricks.models import EncryptionKey
from audiotricks.running import health

ERRORS: dict[str, Exception] = {
    "conflict": Conflict("It is archived.", state="archived"),
    "invalid": Invalid("Not so.", errors={"name": ["Too long."]}),
    "rest-invalid": exceptions.ValidationError({"name": ["Too long."]}),
    "rest-throttled": exceptions.Throttled(wait=12.2),
    "rest-method": exceptions.MethodNotAllowed("PUT"),
    "missing": Http404("secret table name"),
    "denied": PermissionDenied("secret reason"),
    "suspicious": SuspiciousOperation("secret path"),
    "too-big": RequestDataTooBig("secret"),
    "multipart": MultiPartParserError("secret"),
    "database": OperationalError("connection to server at 10.0.0.1 failed"),
    "unexpected": RuntimeError("secret detail"),
}


class KeySerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=100)


class RaiseView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(responses=KeySerializer)
    def get(self, request: Request, name: str) -> Response:
        raise ERRORS[name]


class EchoView(APIView):
    permission_classes = (AllowAny,)

    @extend_schema(request=KeySerializer, responses=KeySerializer)
    def post(self, request: Request) -> Response:
        return Response({"data": request.data, "query": request.query_params.get("q")})


class MakeView(IdempotentPostMixin, APIView):
    """Makes a row with the name that is sent; ``fail`` answers 400 and ``crash`` fails after the row was made."""

    @extend_schema(request=KeySerializer, responses={201: KeySerializer})
    def post(self, request: Request) -> Response:
        name = request.data["name"]
        if name == "fail":
            return Response({"no": True}, status=400)
        EncryptionKey.objects.create(provider="test", key_reference=name)
        if name == "crash":
            raise Conflict("It went wrong half way.")
        return Response({"name": name}, status=201, headers={"Location": f"/{name}"})


class StreamViewSet(IdempotentPostMixin, ViewSet):
    """``create`` looks after its key itself; ``rename`` does not."""

    actions_with_own_transaction = frozenset({"create"})

    @extend_schema(request=KeySerializer, responses={201: KeySerializer})
    def create(self, request: Request) -> Response:
        return Response({"read": request._request.read().decode()}, status=201)

    @extend_schema(request=KeySerializer, responses=KeySerializer)
    def rename(self, request: Request) -> Response:
        return Response({"name": request.data["name"]})


def raising_page(request: HttpRequest, name: str) -> HttpResponse:
    raise ERRORS[name]


def plain_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<p>hello</p>")


def cached_page(request: HttpRequest) -> HttpResponse:
    answer = HttpResponse("picture")
    answer["Cache-Control"] = "private, max-age=60"
    answer["Content-Security-Policy"] = "sandbox"
    return answer


urlpatterns = [
    path("health", health.health),
    path("api/v1/raise/<str:name>/", RaiseView.as_view()),
    path("api/v1/echo/", EchoView.as_view()),
    path("api/v1/make/", MakeView.as_view()),
    path("api/v1/stream/", StreamViewSet.as_view({"post": "create"})),
    path("api/v1/rename/", StreamViewSet.as_view({"post": "rename"})),
    path("api/v1/page/<name>/", raising_page),
    path("api/v1/", include("accounts.api.urls")),
    path("raise/<name>/", raising_page),
    path("plain/", plain_page),
    path("cached/", cached_page),
    path("admin/", plain_page),
    path("api/docs/", plain_page),
]
handler400 = "audiotricks.web.problems.bad_request"
handler403 = "audiotricks.web.problems.permission_denied"
handler404 = "audiotricks.web.problems.page_not_found"
handler500 = "audiotricks.web.problems.server_error"

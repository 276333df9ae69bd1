"""Errors, headers and security of all operations in the OpenAPI document."""

from typing import Any

from django.utils import translation
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter
from rest_framework.permissions import AllowAny

from audiotricks.api.idempotency import HEADER, REPLAYED_HEADER
from audiotricks.errors import catalogue
from audiotricks.models import MAX_KEY_LENGTH
from audiotricks.web.problems import MEDIA_TYPE

DESCRIPTIONS = {
    400: "The request cannot be read, or a value in it cannot be used.",
    401: "Not signed in, or the token is unknown or expired.",
    403: "Your role does not allow this.",
    404: "There is nothing here, or it is not yours.",
    405: "This address does not take this method.",
    406: "Not offered in a format that the request accepts.",
    409: "The present state does not allow this.",
    410: "It was here and is no more.",
    411: "The request does not say how long its body is.",
    412: "A precondition in the request's headers does not hold.",
    413: "Larger than what is accepted.",
    415: "The body's media type is not accepted here.",
    416: "The file has no such bytes.",
    422: "The request was read, but what it holds cannot be used.",
    423: "Somebody else is writing; see Retry-After.",
    429: "Too many requests; see Retry-After.",
    460: "The checksum of the request's body is wrong.",
    503: "Something that is needed does not answer; see Retry-After.",
    507: "The storage is full.",
}
ALWAYS = (400, 406, 429, 503)
WITH_BODY = (411, 413, 415, 422)


class EnglishSchemaGenerator(SchemaGenerator):
    """English, since most of the document is not translated."""

    def get_schema(self, *args: Any, **kwargs: Any) -> Any:
        with translation.override("en"):
            return super().get_schema(*args, **kwargs)  # type: ignore[no-untyped-call]


class ProblemAutoSchema(AutoSchema):
    """Adds the problem document for fitting statuses.

    A view names others without a body: ``responses={507: None}``. ``takes_idempotency_key = True`` documents the header
    on its POST.
    """

    def get_override_parameters(self) -> list[Any]:
        parameters = super().get_override_parameters()
        if not self.takes_idempotency_key():
            return parameters
        return [
            *parameters,
            OpenApiParameter(
                HEADER,
                {"type": "string", "minLength": 1, "maxLength": MAX_KEY_LENGTH},
                OpenApiParameter.HEADER,
                description="Any text of your own that names this request. The same request sent again with it gets "
                f"the first answer again, with `{REPLAYED_HEADER}: true`; another request with it is 422, and one that "
                "comes while the first is being worked on is 409.",
            ),
        ]

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        own = {int(status) for status in operation["responses"] if int(status) >= 400}
        for status in self.problem_statuses("requestBody" in operation) | own:
            operation["responses"][str(status)] = self.problem(status)
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    def takes_idempotency_key(self) -> bool:
        return self.method == "POST" and getattr(self.view, "takes_idempotency_key", False)

    def problem_statuses(self, has_body: bool) -> set[int]:
        statuses = set(ALWAYS)
        if not any(isinstance(permission, AllowAny) for permission in self.view.get_permissions()):
            statuses |= {401, 403}
        if "{" in self.path:
            statuses.add(404)
        if self.method not in ("GET", "HEAD", "OPTIONS"):
            statuses |= {403, 409}
        if has_body:
            statuses |= set(WITH_BODY)
        return statuses

    def problem(self, status: int) -> dict[str, Any]:
        component = ResolvedComponent(  # type: ignore[no-untyped-call]
            name="Problem", type=ResolvedComponent.SCHEMA, object="Problem", schema=problem_schema()
        )
        self.registry.register_on_missing(component)
        return {"content": {MEDIA_TYPE: {"schema": component.ref}}, "description": DESCRIPTIONS[status]}


def problem_schema() -> dict[str, Any]:
    """RFC 9457 with our ``code``, and all codes in the description."""
    lines = [f"| `{code}` | {status} | {title} |" for code, (status, title) in catalogue().items()]
    return {
        "type": "object",
        "description": "An error (RFC 9457). Act on `code`, show `detail`. A code may bring members of its own.\n\n"
        + "\n".join(["| code | status | meaning |", "| --- | --- | --- |", *lines]),
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "description": "One of the codes above; they do not change."},
            "errors": {
                "type": "object",
                "description": "With `invalid`: each field, and what is wrong with it.",
                "additionalProperties": True,
            },
        },
        "additionalProperties": True,
    }


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "A token made at `tokens/`."}


class PasswordScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "accounts.authentication.PasswordAuthentication"
    name = "password"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "basic", "description": "Name and password, for making the first token."}

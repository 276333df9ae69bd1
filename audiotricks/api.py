"""What every API view shares: JSON that is safe to store, and pages by cursor.

Loaded from the settings, so it must not import DRF's views.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing
from django.db.models import Q
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from audiotricks.errors import DomainError, Invalid

MAX_JSON_DEPTH = 32


class JSONParser(parsers.JSONParser):
    """JSON in UTF-8 (RFC 8259) that PostgreSQL can store and that nothing trips over.

    Refused with 400: NaN and infinities (1e999 too), NUL and lone surrogates in any string or name, nesting deeper
    than 32, whole numbers of more than 4,300 digits. Its size is bounded by DATA_UPLOAD_MAX_MEMORY_SIZE (413).
    """

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            value = json.loads(stream.read().decode(), parse_constant=refuse_constant)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON in UTF-8: {error}.") from None
        check_json(value)
        return value


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def check_json(value: Any) -> None:
    """Raises ParseError for what JSON can spell and a database or a later step cannot take."""
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        following: list[Any] = []
        for item in level:
            if isinstance(item, str):
                check_json_text(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ParseError("The JSON holds a number that is too large.")
            elif isinstance(item, list):
                following += item
            elif isinstance(item, dict):
                following += item.keys()
                following += item.values()
        if not following:
            return
        level = following
    raise ParseError("The JSON is nested too deeply.")


def check_json_text(text: str) -> None:
    if "\0" in text:
        raise ParseError("The JSON holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParseError("The JSON holds half of a surrogate pair.") from None


class InvalidCursor(DomainError):
    code = "invalid_cursor"
    status = 400
    title = "The cursor is none that this list gave out"


class CursorPagination(BasePagination):
    """Pages by key: ``?page_size=`` and the ``next`` and ``previous`` links of the answer.

    A page costs the same wherever it lies, and rows that come or go meanwhile neither repeat nor hide others. The
    order is the view's ``cursor_ordering``: fields that are never null, all rising or all falling, the last one unique.
    A cursor is signed and bound to its order; any other is 400 ``invalid_cursor``. A page size above the largest is
    the largest; one that is no whole number from 1 is 400 ``invalid``. An empty page has no ``previous``.
    """

    default_page_size = 50
    max_page_size = 200
    ordering: tuple[str, ...] = ("-created_at", "-id")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.ordering = getattr(view, "cursor_ordering", self.ordering)
        self.names = [name.removeprefix("-") for name in self.ordering]
        self.url = request.build_absolute_uri()
        page_size = self.page_size_of(request)
        backwards, key = self.cursor_of(request)
        falling = self.ordering[0].startswith("-") != backwards
        if key is not None:
            queryset = queryset.filter(self.beyond(key, falling=falling))
        ordered = queryset.order_by(*[f"-{name}" if falling else name for name in self.names])
        rows = list(self.first_rows(ordered, page_size + 1, request))
        more = len(rows) > page_size
        page = rows[:page_size]
        if backwards:
            page.reverse()
        self.has_next = bool(page) and (backwards or more)
        self.has_previous = bool(page) and (more if backwards else key is not None)
        self.page = page
        return page

    def first_rows(self, queryset: Any, count: int, request: Request) -> Any:
        """The first ``count`` rows of an ordered queryset, for lists that know a faster way."""
        return queryset[:count]

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self.link(self.page[-1], backwards=False) if self.has_next else None,
                "previous": self.link(self.page[0], backwards=True) if self.has_previous else None,
                "results": data,
            }
        )

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where to go on, out of `next` or `previous` of another page.",
                "schema": {"type": "string"},
            },
            {
                "name": "page_size",
                "in": "query",
                "required": False,
                "description": f"How many results; more than {self.max_page_size} are {self.max_page_size}.",
                "schema": {"type": "integer", "minimum": 1, "default": self.default_page_size},
            },
        ]

    def page_size_of(self, request: Request) -> int:
        given = request.query_params.get("page_size", "")
        if not given:
            return self.default_page_size
        digits = given.lstrip("0")
        if not (given.isascii() and given.isdigit() and digits):
            raise Invalid(
                "page_size must be a whole number from 1.", errors={"page_size": ["Write a whole number from 1."]}
            )
        return min(int(digits[:9]), self.max_page_size)

    def cursor_of(self, request: Request) -> tuple[bool, list[Any] | None]:
        """Whether the page lies before its key, and the key; no key on the first page."""
        given = request.query_params.get("cursor", "")
        if not given:
            return False, None
        try:
            direction, *key = signing.loads(given, salt=self.salt())
        except signing.BadSignature:
            raise InvalidCursor("Begin at the first page, or use a link of this list as it was given.") from None
        return direction == "previous", key

    def beyond(self, key: list[Any], *, falling: bool) -> Q:
        """The rows after this key. The first field's own condition lets an index be used for its start."""
        operator = "lt" if falling else "gt"
        after = Q()
        for position in range(len(self.names)):
            same = {name: key[index] for index, name in enumerate(self.names[:position])}
            after |= Q(**same, **{f"{self.names[position]}__{operator}": key[position]})
        return Q(**{f"{self.names[0]}__{operator}e": key[0]}) & after

    def link(self, row: Any, *, backwards: bool) -> str:
        key = [cursor_value(row[name] if isinstance(row, dict) else getattr(row, name)) for name in self.names]
        cursor = signing.dumps(["previous" if backwards else "next", *key], salt=self.salt())
        return replace_query_param(self.url, "cursor", cursor)

    def salt(self) -> str:
        return "cursor:" + ",".join(self.ordering)


def cursor_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value

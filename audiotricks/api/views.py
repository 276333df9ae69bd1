"""JSON parser and cursor pagination. Loaded from the settings, so it must not import DRF's views."""

import json
import math
from collections.abc import Mapping
from typing import Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from rest_framework import parsers
from rest_framework.exceptions import ParseError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from audiotricks.errors import DomainError, Invalid
from audiotricks.keyset import BrokenCursor, Page, page_of

MAX_JSON_DEPTH = 32


class JSONParser(parsers.JSONParser):
    """JSON in UTF-8 (RFC 8259) that PostgreSQL can store.

    400 for NaN and infinities (also 1e999), NUL and lone surrogates, nesting beyond 32, integers beyond 4,300 digits;
    413 beyond DATA_UPLOAD_MAX_MEMORY_SIZE.
    """

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        try:
            value = json.loads(stream.read().decode(), parse_constant=refuse_constant)
        except RecursionError:
            raise ParseError(_("The JSON is nested too deeply.")) from None
        except ValueError as error:
            raise ParseError(format_lazy(_("The body is not JSON in UTF-8: {reason}."), reason=error)) from None
        check_json(value)
        return value


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def check_json(value: Any) -> None:
    """Raises ParseError for valid JSON that a database cannot store."""
    level = [value]
    for _level in range(MAX_JSON_DEPTH + 1):
        following: list[Any] = []
        for item in level:
            if isinstance(item, str):
                check_json_text(item)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ParseError(_("The JSON holds a number that is too large."))
            elif isinstance(item, list):
                following += item
            elif isinstance(item, dict):
                following += item.keys()
                following += item.values()
        if not following:
            return
        level = following
    raise ParseError(_("The JSON is nested too deeply."))


def check_json_text(text: str) -> None:
    if "\0" in text:
        raise ParseError(_("The JSON holds a NUL character."))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ParseError(_("The JSON holds half of a surrogate pair.")) from None


class InvalidCursor(DomainError):
    code = "invalid_cursor"
    status = 400
    title = _("The cursor is none that this list gave out")


class CursorPagination(BasePagination):
    """Pages by key (:mod:`audiotricks.keyset`) in the view's ``cursor_ordering``.

    A foreign cursor is 400 ``invalid_cursor``, an unusable ``?page_size=`` 400 ``invalid``; a larger one than the
    maximum is the maximum.
    """

    default_page_size = 50
    max_page_size = 200
    ordering: tuple[str, ...] = ("-created_at", "-id")

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.ordering = getattr(view, "cursor_ordering", self.ordering)
        self.url = request.build_absolute_uri()
        try:
            self.page: Page[Any] = page_of(
                queryset,
                self.ordering,
                size=self.page_size_of(request),
                cursor=request.query_params.get("cursor", ""),
                first_rows=lambda ordered, count: self.first_rows(ordered, count, request),
            )
        except BrokenCursor:
            raise InvalidCursor(_("Begin at the first page, or use a link of this list as it was given.")) from None
        return self.page.rows

    def first_rows(self, queryset: Any, count: int, request: Request) -> Any:
        """Overridden by lists with a faster query."""
        return queryset[:count]

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            {
                "next": self.link(self.page.next),
                "previous": self.link(self.page.previous),
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
                _("page_size must be a whole number from 1."), errors={"page_size": [_("Write a whole number from 1.")]}
            )
        return min(int(digits[:9]), self.max_page_size)

    def link(self, cursor: str) -> str | None:
        return replace_query_param(self.url, "cursor", cursor) if cursor else None

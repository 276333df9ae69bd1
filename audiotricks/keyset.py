"""Pages of a list by key, equally fast everywhere and stable under changes.

An order has non-null fields, all ascending or all descending, the last one unique. A cursor is a key and a direction,
signed and bound to its order.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.core import signing
from django.db.models import Q

Row = TypeVar("Row")
Ordering = tuple[str, ...]
#: Returns the first rows of an ordered queryset: for lists with a faster way than slicing.
FirstRows = Callable[[Any, int], Iterable[Any]]


class BrokenCursor(ValueError): ...


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """An empty page has neither next nor previous."""

    rows: list[Row]
    ordering: Ordering
    has_next: bool
    has_previous: bool

    @property
    def next(self) -> str:
        return cursor_at(self.rows[-1], self.ordering, backwards=False) if self.has_next else ""

    @property
    def previous(self) -> str:
        return cursor_at(self.rows[0], self.ordering, backwards=True) if self.has_previous else ""


def sliced(queryset: Any, count: int) -> Iterable[Any]:
    return queryset[:count]  # type: ignore[no-any-return]


def page_of(
    queryset: Any, ordering: Ordering, *, size: int, cursor: str = "", first_rows: FirstRows = sliced
) -> Page[Any]:
    """In one query; an empty ``cursor`` is the first page. Raises BrokenCursor."""
    backwards, key = read_cursor(cursor, ordering) if cursor else (False, None)
    rows = list(first_rows(beyond(queryset, ordering, key, backwards=backwards), size + 1))
    more = len(rows) > size
    shown = rows[:size]
    if backwards:
        shown.reverse()
    return Page(
        rows=shown,
        ordering=ordering,
        has_next=bool(shown) and (backwards or more),
        has_previous=bool(shown) and (more if backwards else key is not None),
    )


def page_or_first(
    queryset: Any, ordering: Ordering, *, size: int, cursor: str, first_rows: FirstRows = sliced
) -> Page[Any]:
    """The first page for a broken cursor."""
    try:
        return page_of(queryset, ordering, size=size, cursor=cursor, first_rows=first_rows)
    except BrokenCursor:
        return page_of(queryset, ordering, size=size, first_rows=first_rows)


def pages_of(queryset: Any, ordering: Ordering, *, size: int, first_rows: FirstRows = sliced) -> Iterator[list[Any]]:
    """Without an open database cursor between pages."""
    key = None
    while rows := list(first_rows(beyond(queryset, ordering, key), size)):
        yield rows
        if len(rows) < size:
            return
        key = key_of(rows[-1], ordering)


def beyond(queryset: Any, ordering: Ordering, key: list[Any] | None, *, backwards: bool = False) -> Any:
    names = [name.removeprefix("-") for name in ordering]
    falling = ordering[0].startswith("-") != backwards
    if key is not None:
        queryset = queryset.filter(_behind(names, key, falling=falling))
    return queryset.order_by(*[f"-{name}" if falling else name for name in names])


def _behind(names: list[str], key: list[Any], *, falling: bool) -> Q:
    """The condition on the first field lets an index be used."""
    operator = "lt" if falling else "gt"
    after = Q()
    for position, name in enumerate(names):
        same = dict(zip(names[:position], key[:position], strict=True))
        after |= Q(**same, **{f"{name}__{operator}": key[position]})
    return Q(**{f"{names[0]}__{operator}e": key[0]}) & after


def cursor_at(row: Any, ordering: Ordering, *, backwards: bool) -> str:
    key = ["previous" if backwards else "next", *key_of(row, ordering)]
    # Uncompressed, a long non-Latin name would make an address that servers refuse.
    return signing.dumps(key, salt=_salt(ordering), compress=True)


def read_cursor(cursor: str, ordering: Ordering) -> tuple[bool, list[Any]]:
    """Whether the page is before its key, and the key. Raises BrokenCursor."""
    try:
        direction, *key = signing.loads(cursor, salt=_salt(ordering))
    except signing.BadSignature:
        raise BrokenCursor(cursor) from None
    return direction == "previous", key


def key_of(row: Any, ordering: Ordering) -> list[Any]:
    """JSON-serialisable values of the order's fields, from a model or dict."""
    names = [name.removeprefix("-") for name in ordering]
    return [_plain(row[name] if isinstance(row, dict) else getattr(row, name)) for name in names]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _salt(ordering: Ordering) -> str:
    return "cursor:" + ",".join(ordering)

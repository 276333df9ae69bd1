"""Marks views that read the body as it arrives; the web server reads all others itself."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.urls import Resolver404, get_resolver, resolve

#: In a request's environment: the function of our web server that reads the body into a buffer and returns how many
#: bytes it read, 0 at the end.
RECEIVE = "audiotricks.receive"
#: The function of our web server that tells whether the client is silent for so many seconds from now on.
IS_IDLE = "audiotricks.is_idle"
View = TypeVar("View", bound=Callable[..., Any])


def streams(view: View) -> View:
    """The view also gets bodies that end early or come too slowly."""
    view.streams_body = True  # type: ignore[attr-defined]
    return view


def streams_body(method: str, path: str) -> bool:
    try:
        view: Any = resolve(path).func
    except Resolver404:
        return False
    if (view_class := getattr(view, "cls", None)) is not None:
        actions = getattr(view, "actions", None) or {}
        view = getattr(view_class, actions.get(method.lower(), method.lower()), None)
    return getattr(view, "streams_body", False)


def warm_up() -> None:
    """Import every view in advance."""
    _ = get_resolver().url_patterns
    resolve("/health")

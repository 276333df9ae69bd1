"""Views that read the bodies of their requests as they arrive. The web server waits for all other bodies itself.

Mark the function (or the method of a class of REST framework) with :func:`streams`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from django.urls import Resolver404, get_resolver, resolve

View = TypeVar("View", bound=Callable[..., Any])


def streams(view: View) -> View:
    """The view reads its body while it arrives, and is also given one that ended too early or came too slowly."""
    view.streams_body = True  # type: ignore[attr-defined]
    return view


def streams_body(method: str, path: str) -> bool:
    """Whether the view at this path has been marked for this method."""
    try:
        view: Any = resolve(path).func
    except Resolver404:
        return False
    if (view_class := getattr(view, "cls", None)) is not None:
        actions = getattr(view, "actions", None) or {}
        view = getattr(view_class, actions.get(method.lower(), method.lower()), None)
    return getattr(view, "streams_body", False)


def warm_up() -> None:
    """Import every view, so that no request waits for that."""
    _ = get_resolver().url_patterns
    resolve("/health")

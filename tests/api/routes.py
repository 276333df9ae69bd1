"""Every address of the site with its verbs, out of the URL map itself, so that a new one is met without being named."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Route:
    """``verbs`` are those that its view takes; all of them for a plain function, which may refuse some itself."""

    path: str
    verbs: frozenset[str]

    @property
    def parameters(self) -> list[str]:
        return PARAMETER.findall(self.path)

    def filled(self, values: dict[str, Any]) -> str:
        return PARAMETER.sub(lambda match: str(values[match[1]]), self.path)


def routes(prefix: str = "/") -> list[Route]:
    """Those below ``prefix``, without the admin's."""
    found = [route for route in walk(get_resolver().url_patterns, "/") if not route.path.startswith("/admin/")]
    return [route for route in found if route.path.startswith(prefix)]


def walk(patterns: list[Any], before: str) -> Iterator[Route]:
    for pattern in patterns:
        path = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            yield Route(path, verbs_of(pattern.callback))


def verbs_of(view: Any) -> frozenset[str]:
    if actions := getattr(view, "actions", None):
        names = set(actions)
    elif made_from := getattr(view, "view_class", None) or getattr(view, "cls", None):
        names = {name for name in made_from.http_method_names if hasattr(made_from, name)}
    else:
        return frozenset(VERBS)
    verbs = {name.upper() for name in names} & set(VERBS)
    return frozenset(verbs | ({"HEAD"} if "GET" in verbs else set()))

"""Makes SQLite compare text as PostgreSQL does."""

import re
from functools import lru_cache
from typing import Any

from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created)
def ignore_case_of_every_letter(connection: Any, **kwargs: Any) -> None:
    """SQLite's LIKE ignores case in ASCII only."""
    if connection.vendor == "sqlite":
        connection.connection.create_function("like", 3, _like, deterministic=True)


def _like(pattern: str | None, text: object, escape: str) -> bool | None:
    if pattern is None or text is None:
        return None
    return _compiled(pattern, escape).fullmatch(str(text).casefold()) is not None


@lru_cache(maxsize=64)
def _compiled(pattern: str, escape: str) -> re.Pattern[str]:
    tokens = re.findall(f"{re.escape(escape)}.|.", pattern, re.DOTALL)
    wildcards = {"%": ".*", "_": "."}
    expression = (wildcards.get(token) or re.escape(token.removeprefix(escape).casefold()) for token in tokens)
    return re.compile("".join(expression), re.DOTALL)

from typing import Any


class Failure(Exception):
    """``code`` is one of :mod:`media.errors`, which this process cannot import (Django)."""

    def __init__(self, code: str, reason: str, **members: Any) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.members = members

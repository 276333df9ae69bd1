"""A signed-in browser for pages, and what a reader has of them."""

import re
from html import unescape
from typing import Any

from django.test import Client


def browser(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text_of(markup: str) -> str:
    """The words alone, with single spaces between them."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())

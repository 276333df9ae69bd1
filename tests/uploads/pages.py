"""What tests of the pages need: somebody who is signed in, forms with their token, and the words on a page."""

import html
import re
from typing import Any

from django.test import Client


def sign_in(user: Any, **headers: str) -> Client:
    """A browser of this user that must bring the CSRF token, as a real one must."""
    client = Client(enforce_csrf_checks=True, headers=headers)
    client.force_login(user)
    return client


def token_of(client: Client) -> str:
    """The CSRF token as the page's own form holds it."""
    page = client.get("/upload/").content.decode()
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1]  # type: ignore[index]


def post(client: Client, address: str, **fields: Any) -> Any:
    return client.post(address, {"csrfmiddlewaretoken": token_of(client), **fields})


def notices(client: Client, address: str) -> list[tuple[str, str]]:
    """The messages that a page shows: each with its level."""
    page = client.get(address).content.decode()
    found = re.findall(r'<p class="notice (\w+)"[^>]*>(.*?)</p>', page, re.DOTALL)
    return [(level, html.unescape(words).strip()) for level, words in found]


def names_on(page: str) -> list[str]:
    """The files of a list, in its order."""
    return [html.unescape(name) for name in re.findall(r'<a href="/files/[0-9a-f-]+/">(.*?)</a></th>', page)]

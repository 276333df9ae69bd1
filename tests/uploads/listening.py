"""The bytes of a file as a client gets them that goes where it is sent."""

from dataclasses import dataclass
from typing import Any

import requests

from tests.api.answers import body_of


@dataclass(frozen=True)
class Heard:
    """The last answer; ``address`` is where the client was sent, empty where the bytes came from us."""

    status: int
    body: bytes
    headers: Any
    address: str


def hear(client: Any, path: str, **headers: str) -> Heard:
    """GET this path; headers are written with ``_`` for ``-``."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.get(path, headers=named)
    body = body_of(answer)
    if answer.status_code != 302:
        return Heard(answer.status_code, body, answer.headers, "")
    address = answer["Location"]
    sent_to = requests.get(address, headers=named, timeout=30)
    return Heard(sent_to.status_code, sent_to.content, sent_to.headers, address)

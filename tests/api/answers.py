from typing import Any


def body_of(answer: Any) -> bytes:
    """The whole body, streamed or not; a file behind it is closed then."""
    content: bytes = b"".join(answer) if answer.streaming else answer.content
    return content

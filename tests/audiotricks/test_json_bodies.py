import pytest
from django.test import Client


def post(client: Client, body: bytes, content_type: str = "application/json") -> tuple[int, str]:
    answer = client.generic("POST", "/api/v1/echo/", body, content_type)
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"a": "\\u0000"}',
        b'{"\\u0000": 1}',
        b'["x", {"a": ["\\u0000"]}]',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e999}',
        b'{"a": -1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": "\xff"}',
        b"[" * 40 + b"]" * 40,
        b"[" * 200_000 + b"]" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=lambda body: body[:20].decode("latin-1"),
)
def test_json_that_cannot_be_stored_is_a_400(visitor: Client, body: bytes) -> None:
    """Promise 53. Nothing that JSON can spell reaches a view that could trip over it."""
    assert post(visitor, body) == (400, "malformed_request")


def test_json_within_the_bounds_arrives_as_it_was_sent(visitor: Client) -> None:
    body = '{"a": [1, 2.5, null, true, {"b": "ü 😀 \\ud83d\\ude00"}]}'.encode()
    answer = visitor.generic("POST", "/api/v1/echo/", body, "application/json")
    assert answer.json()["data"] == {"a": [1, 2.5, None, True, {"b": "ü 😀 😀"}]}


def test_json_that_is_too_large_is_a_413(visitor: Client) -> None:
    """Promise 46. The body is bounded before it is parsed."""
    body = b'"' + b"a" * (1024 * 1024) + b'"'
    assert post(visitor, body) == (413, "request_too_large")


def test_a_body_that_is_no_json_is_a_415(visitor: Client) -> None:
    assert post(visitor, b"a=b", "application/x-www-form-urlencoded") == (415, "unsupported_media_type")

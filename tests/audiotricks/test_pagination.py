from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core import signing
from rest_framework.test import APIClient

from accounts.models import ApiToken
from accounts.tokens import create_token
from tests.factories import UserFactory

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def make_tokens(user: Any, count: int, *, at_once: int = 1) -> list[str]:
    """Their ids, newest first; ``at_once`` of them share each moment."""
    for number in range(count):
        row, _ = create_token(user, name=str(number), expires_in=None)
        ApiToken.objects.filter(pk=row.pk).update(created=BEGAN + timedelta(seconds=number // at_once))
    return [str(pk) for pk in ApiToken.objects.order_by("-created", "-id").values_list("pk", flat=True)]


def ids_of(page: Any) -> list[str]:
    return [row["id"] for row in page["results"]]


@pytest.mark.parametrize("at_once", [1, 4, 13])
def test_pages_hold_each_row_once_in_both_directions(api: APIClient, user: Any, at_once: int) -> None:
    expected = make_tokens(user, 13, at_once=at_once)
    forwards: list[list[str]] = []
    page = api.get("/api/v1/tokens/?page_size=5").json()
    while True:
        forwards.append(ids_of(page))
        if page["next"] is None:
            break
        page = api.get(page["next"]).json()
    assert [row_id for ids in forwards for row_id in ids] == expected
    assert [len(ids) for ids in forwards] == [5, 5, 3]

    backwards = [ids_of(page)]
    while page["previous"] is not None:
        page = api.get(page["previous"]).json()
        backwards.insert(0, ids_of(page))
    assert backwards == forwards


def test_a_row_that_comes_meanwhile_neither_repeats_nor_hides_another(api: APIClient, user: Any) -> None:
    expected = make_tokens(user, 6)
    first = api.get("/api/v1/tokens/?page_size=3").json()
    create_token(user, name="new", expires_in=None)
    ApiToken.objects.filter(pk=expected[1]).delete()
    assert ids_of(api.get(first["next"]).json()) == expected[3:]


@pytest.mark.parametrize(("page_size", "rows"), [("200", 200), ("201", 200), ("1000000000", 200), ("9" * 5000, 200)])
def test_a_page_size_above_the_largest_is_the_largest(api: APIClient, user: Any, page_size: str, rows: int) -> None:
    ApiToken.objects.bulk_create(
        ApiToken(user=user, name="many", digest=str(number), token_key="") for number in range(205)
    )
    assert len(api.get("/api/v1/tokens/", {"page_size": page_size}).json()["results"]) == rows


def test_a_page_holds_fifty_rows_unless_asked_otherwise(api: APIClient, user: Any) -> None:
    make_tokens(user, 51)
    assert len(api.get("/api/v1/tokens/").json()["results"]) == 50


@pytest.mark.parametrize("page_size", ["0", "-1", "x", "1.5", "1e3", "٣", " 5"])
def test_a_page_size_that_is_no_number_is_a_400(api: APIClient, page_size: str) -> None:
    answer = api.get("/api/v1/tokens/", {"page_size": page_size})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert "page_size" in answer.json()["errors"]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "cD0yMDI2",
        "a:b:c",
        "ü",
        signing.dumps(["next", "2026-01-01T00:00:00+00:00", "1"], salt="cursor:another"),
        signing.dumps(["next"], salt="session"),
    ],
    ids=["no cursor", "Base64", "parts", "not ASCII", "of another list", "of another use"],
)
def test_a_broken_cursor_is_a_400(api: APIClient, cursor: str) -> None:
    answer = api.get("/api/v1/tokens/", {"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


def test_a_cursor_that_was_changed_is_a_400(api: APIClient, user: Any) -> None:
    make_tokens(user, 2)
    (cursor,) = parse_qs(urlsplit(api.get("/api/v1/tokens/?page_size=1").json()["next"]).query)["cursor"]
    assert api.get("/api/v1/tokens/", {"cursor": cursor}).status_code == 200
    assert api.get("/api/v1/tokens/", {"cursor": "x" + cursor}).json()["code"] == "invalid_cursor"


def test_a_page_costs_one_query_whatever_the_rows(api: APIClient, user: Any, django_assert_num_queries: Any) -> None:
    make_tokens(user, 9)
    following = api.get("/api/v1/tokens/?page_size=3").json()["next"]
    for address in ("/api/v1/tokens/?page_size=3", following):
        with django_assert_num_queries(1):
            api.get(address)


def test_another_users_rows_are_in_no_page(api: APIClient) -> None:
    create_token(UserFactory(), name="theirs", expires_in=None)
    assert api.get("/api/v1/tokens/").json() == {"next": None, "previous": None, "results": []}

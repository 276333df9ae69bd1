from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from audiotricks.errors import catalogue
from tests.audiotricks import site


@pytest.fixture
def document() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator(patterns=site.urlpatterns).get_schema(request=None, public=True)
    return document


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate_schema(document)


def test_every_operation_tells_of_the_problems_that_fit_it(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert {"400", "429"} <= statuses
            assert ("401" in statuses) == (not path.startswith(("/api/v1/raise/", "/api/v1/echo/")))
            assert ("404" in statuses) == ("{" in path)
            assert ("415" in statuses) == (method == "post")
            for status in statuses - {"200", "201", "204"}:
                content = operation["responses"][status]["content"]
                assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def test_the_catalogue_of_codes_is_part_of_the_document(document: dict[str, Any]) -> None:
    description = document["components"]["schemas"]["Problem"]["description"]
    for code, (status, title) in catalogue().items():
        assert f"| `{code}` | {status} | {title} |" in description


def test_an_idempotency_key_is_told_of_where_it_is_taken(document: dict[str, Any]) -> None:
    def headers(path: str) -> list[str]:
        return [p["name"] for p in document["paths"][path]["post"].get("parameters", []) if p["in"] == "header"]

    assert headers("/api/v1/make/") == ["Idempotency-Key"]
    assert headers("/api/v1/tokens/") == headers("/api/v1/echo/") == []


def test_tokens_and_passwords_are_told_of_as_they_are_used(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["token"]["scheme"], schemes["password"]["scheme"]) == ("bearer", "basic")
    assert {"token": []} in document["paths"]["/api/v1/make/"]["post"]["security"]
    assert {"password": []} not in document["paths"]["/api/v1/make/"]["post"]["security"]
    assert {"password": []} in document["paths"]["/api/v1/tokens/"]["post"]["security"]

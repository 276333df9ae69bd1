"""The document that programs are written from says what the API does."""

import io
import json
from contextlib import redirect_stderr
from typing import Any

import jsonschema
import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from quotas.rights import Role
from tests.api.routes import PARAMETER, routes
from tests.api.rows import store_upload
from tests.factories import WorkspaceFactory, client_for, member_of
from uploads.lifecycle.events import record_event

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return made


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, verb.upper(), operation)
        for path, item in document["paths"].items()
        for verb, operation in item.items()
        if verb in ("get", "post", "put", "patch", "delete")
    ]


def test_the_document_is_valid_and_made_without_a_warning() -> None:
    complaints = io.StringIO()
    with redirect_stderr(complaints):
        call_command("spectacular", "--validate", "--fail-on-warn", stdout=io.StringIO())
    assert complaints.getvalue() == ""


def test_every_address_and_verb_is_in_the_document(document: dict[str, Any]) -> None:
    there = {
        (PARAMETER.sub(r"{\1}", route.path).replace("{pk}", "{id}"), verb)
        for route in [*routes("/api/v1/"), *routes("/storage/")]
        for verb in route.verbs - {"HEAD"}
    }
    assert {(path, verb) for path, verb, _ in operations(document)} == there


def test_every_operation_is_named_summed_up_and_tells_of_its_problems(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for path, verb, operation in operations(document):
        assert operation.get("summary") or operation.get("description"), (verb, path)
        answers = operation["responses"]
        assert [status for status in answers if status.startswith("2")], (verb, path)
        problems = {status for status in answers if int(status) >= 400}
        assert {"400", "401", "403", "406", "429", "503"} <= problems, (verb, path)
        assert ("404" in problems) >= ("{" in path)
        for status in problems:
            assert answers[status]["content"] == PROBLEM, (verb, path, status)


def test_an_upload_is_described_as_a_form_and_as_a_raw_body(document: dict[str, Any]) -> None:
    post = document["paths"]["/api/v1/uploads/"]["post"]
    assert set(post["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
    names = {parameter["name"] for parameter in post["parameters"]}
    assert {"Idempotency-Key", "Content-Disposition", "Repr-Digest", "workspace"} <= names
    assert {"411", "413", "415", "422", "507"} <= set(post["responses"])
    schema = document["components"]["schemas"]["AudioUpload"]
    writable = {name for name, field in schema["properties"].items() if not field.get("readOnly")}
    assert writable == {"original_filename"}


def test_each_way_that_the_bytes_can_be_answered_is_described(document: dict[str, Any]) -> None:
    get = document["paths"]["/api/v1/uploads/{id}/content/"]["get"]
    assert {"200", "206", "304", "404", "409", "412", "416"} <= set(get["responses"])
    assert set(get["responses"]["206"]["content"]) == {"audio/*"}
    assert "content" not in get["responses"]["304"]
    assert {"Range", "If-Range", "If-None-Match"} <= {parameter["name"] for parameter in get["parameters"]}


@pytest.mark.django_db
@pytest.mark.parametrize("role", Role)
def test_what_members_get_is_what_the_document_says(document: dict[str, Any], role: Role) -> None:
    """Viewers too, who are not shown every column."""
    workspace = WorkspaceFactory()
    upload = store_upload(workspace)
    record_event(upload, "renamed", details={"from": "a.mp3", "to": "b.mp3"})
    client = client_for(member_of(workspace, role))
    one, places = f"/api/v1/uploads/{upload.pk}/", f"/api/v1/workspaces/{workspace.pk}/"
    for address, path in {
        "/api/v1/uploads/": "/api/v1/uploads/",
        one: "/api/v1/uploads/{id}/",
        f"{one}events/": "/api/v1/uploads/{id}/events/",
        "/api/v1/workspaces/": "/api/v1/workspaces/",
        places: "/api/v1/workspaces/{id}/",
        f"{places}members/": "/api/v1/workspaces/{id}/members/",
        f"{places}quota/": "/api/v1/workspaces/{id}/quota/",
        "/api/v1/tokens/": "/api/v1/tokens/",
    }.items():
        described = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        schema = {**described, "components": {"schemas": as_json_schema(document["components"]["schemas"])}}
        jsonschema.validate(client.get(address).json(), schema)


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says ``nullable`` and writes exclusive bounds as flags, which JSON Schema does not know."""
    if isinstance(node, list):
        return [as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    skipped = ("nullable", "exclusiveMinimum", "exclusiveMaximum")
    schema = {name: as_json_schema(each) for name, each in node.items() if name not in skipped}
    return {"anyOf": [schema, {"type": "null"}]} if node.get("nullable") is True else schema


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/", "/api/docs/?script="])
def test_the_document_and_its_page_need_no_sign_in(path: str) -> None:
    answer = APIClient().get(path, headers={"Accept": "*/*"})
    assert answer.status_code == 200
    assert b"cdn" not in answer.content and b"http://" not in answer.content.replace(b"http://testserver", b"")


def test_the_document_is_made_once_and_asked_for_by_its_etag() -> None:
    first, again = (Client().get("/api/schema/") for _ in range(2))
    assert first.content == again.content
    assert first["ETag"] == again["ETag"]
    unchanged = Client().get("/api/schema/", headers={"If-None-Match": first["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    as_json = Client().get("/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
    assert json.loads(as_json.content)["info"]["title"] == "AudioTricks"
    assert as_json["ETag"] != first["ETag"]

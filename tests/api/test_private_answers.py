"""No answer is for anybody but the one who asked."""

from typing import Any

import pytest
from django.test import Client

from quotas.models import Workspace
from tests.api.answers import body_of
from tests.api.routes import VERBS, Route, routes
from tests.api.rows import store_thumbnail, store_upload
from tests.audio import make_jpeg
from tests.factories import member_of

pytestmark = pytest.mark.django_db


def assert_private(answer: Any, what: object) -> None:
    directives = {part.strip() for part in answer["Cache-Control"].split(",")}
    assert directives >= {"private", "no-cache"} or "no-store" in directives, what
    assert {"Cookie", "Authorization"} <= {name.strip() for name in answer["Vary"].split(",")}, what
    assert answer["X-Content-Type-Options"] == "nosniff", what
    assert answer["X-Frame-Options"] == "DENY", what
    assert answer["Content-Security-Policy"], what


@pytest.mark.parametrize(
    "route",
    [*routes(), Route("/admin/", frozenset()), Route("/no/such/page/", frozenset())],
    ids=lambda route: route.path,
)
def test_no_answer_of_any_address_may_be_kept_by_others(route: Route, workspace: Workspace) -> None:
    """Promise 52. Whatever the verb and the outcome, signed in or not."""
    owner = member_of(workspace)
    upload = store_upload(workspace)
    store_thumbnail(upload, make_jpeg())
    signed_in = Client()
    signed_in.force_login(owner)
    ids = (upload.pk, workspace.pk)
    link = {"uidb64": "MQ", "token": "a-b"}
    for client in (Client(), signed_in):
        for pk in ids if route.parameters else ids[:1]:
            for verb in VERBS:
                path = route.filled({"pk": pk, "user_id": owner.pk, "index": 0, **link})
                answer = client.generic(verb, path, b"{}", content_type="application/json")
                body_of(answer)
                if route.path not in ("/health", "/sign-out/"):
                    assert_private(answer, (verb, answer.status_code))


def test_what_may_be_kept_must_be_asked_for_again(workspace: Workspace) -> None:
    """Promise 52. A browser may keep the bytes, and asks each time whether it may still show them."""
    upload = store_upload(workspace)
    client = Client()
    client.force_login(member_of(workspace))
    first = client.get(f"/api/v1/uploads/{upload.pk}/content/")
    body_of(first)
    assert first["Cache-Control"] == "private, no-cache"
    known = {"If-None-Match": first["ETag"]}
    assert client.get(f"/api/v1/uploads/{upload.pk}/content/", headers=known).status_code == 304
    upload.delete()
    assert client.get(f"/api/v1/uploads/{upload.pk}/content/", headers=known).status_code == 404


def test_no_other_site_may_read_an_answer(workspace: Workspace) -> None:
    client = Client()
    client.force_login(member_of(workspace))
    for path in ("/api/v1/uploads/", "/"):
        answer = client.get(path, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in answer

"""The lists of what happened, of orphaned objects and of bulk actions."""

import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoAssertNumQueries

from quotas.models import Workspace
from tests.api.rows import store_session
from tests.factories import UserFactory, WorkspaceFactory
from tests.uploads.life import row, unneeded_object
from tests.uploads.staff import page_of, staff_with, superuser
from uploads.actions.bulk import start
from uploads.actions.holds import HOLD
from uploads.lifecycle import events
from uploads.models import AudioUpload, Status, UploadEvent

pytestmark = pytest.mark.django_db

EVENTS = "/admin/uploads/uploadevent/"
OBJECTS = "/admin/uploads/storedobject/"
SESSIONS = "/admin/uploads/uploadsession/"
BULK_ACTIONS = "/admin/uploads/bulkaction/"


@pytest.fixture
def workspace() -> Workspace:
    made: Workspace = WorkspaceFactory()
    return made


@pytest.fixture
def client() -> Client:
    return superuser()


def rows_of(answer: Any) -> list[Any]:
    assert answer.status_code == 200
    return list(answer.context["cl"].result_list)


def make_rows(workspace: Workspace, count: int) -> None:
    """So many events, sessions, orphans and bulk actions, each by somebody else."""
    for _ in range(count):
        upload = row(workspace, Status.FAILED)
        events.record_event(upload, "failed", actor=UserFactory(), details={"error_code": "worker_lost"})
        store_session(row(WorkspaceFactory(), Status.RECEIVING, owner=UserFactory()), handle="secret")
        unneeded_object(f"audio/{uuid.uuid4()}", size_bytes=1)
        start(HOLD, AudioUpload.objects.filter(pk=upload.pk), actor=UserFactory())


def test_each_list_asks_as_many_questions_for_fifty_rows_as_for_one(
    client: Client, workspace: Workspace, subtests: pytest.Subtests, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    tables = {
        EVENTS: "upload_events",
        SESSIONS: "upload_sessions",
        OBJECTS: "stored_objects",
        BULK_ACTIONS: "bulk_actions",
    }
    make_rows(workspace, 1)
    asked = {}
    for address in tables:
        client.get(address)
        with CaptureQueriesContext(connection) as few:
            assert len(rows_of(client.get(address))) in (1, 2, 3)
        asked[address] = [query["sql"] for query in few.captured_queries]
    make_rows(workspace, 50)
    for address, table in tables.items():
        with subtests.test(address):
            with django_assert_num_queries(len(asked[address])):
                assert len(rows_of(client.get(address))) == 50
            counts = [query for query in asked[address] if "COUNT(" in query.upper() and table in query]
            assert counts and all("LIMIT 10000" in count for count in counts)
            assert not any("original_filename" in count for count in counts), "names are looked up for the page alone"


def test_an_event_says_in_words_what_happened_and_leads_to_the_file(client: Client, workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED, original_filename="talk.wav")
    events.record_event(upload, "held", actor=UserFactory(username="ada"), reason="Case 4711")
    page = client.get(EVENTS).content.decode()
    assert "ada put the file on hold." in page and "Case 4711" in page
    assert "talk.wav" in page and page_of(upload) in page


def test_the_history_of_a_file_whose_row_is_gone_is_found_by_its_id(client: Client, workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED)
    events.record_event(upload, "uploaded")
    events.record_event(row(workspace, Status.COMPLETED), "uploaded")
    pk = upload.pk
    upload.delete()
    found = client.get(EVENTS, {"q": f" {pk} "})
    assert [event.upload_id for event in rows_of(found)] == [pk]
    page = found.content.decode()
    assert f"{EVENTS}?q={pk}" in page and f"/audioupload/{pk}/" not in page
    assert rows_of(client.get(EVENTS, {"q": "nonsense"})) == []
    assert len(rows_of(client.get(EVENTS, {"q": " "}))) == 2
    assert client.get(f"{EVENTS}{found.context['cl'].result_list[0].pk}/change/").status_code == 200


def test_events_are_narrowed_by_action_workspace_person_and_day(client: Client, workspace: Workspace) -> None:
    actor = UserFactory()
    wanted = events.record_event(row(workspace, Status.COMPLETED), "held", actor=actor)
    other = events.record_event(row(WorkspaceFactory(), Status.COMPLETED), "verified")
    UploadEvent.objects.filter(pk=other.pk).update(created_at="2020-01-02T12:00:00Z")
    for query in (
        "?action=held",
        f"?workspace__id__exact={workspace.pk}",
        f"?actor__id__exact={actor.pk}",
        "?created_at_from=2020-01-03",
    ):
        assert rows_of(client.get(EVENTS + query)) == [wanted], query
    assert rows_of(client.get(EVENTS + "?created_at_to=2020-01-02")) == [other]


def test_an_object_is_found_by_its_path_and_by_whether_a_file_needs_it(client: Client, workspace: Workspace) -> None:
    needed = row(workspace, Status.COMPLETED).stored_object
    assert rows_of(client.get(OBJECTS, {"need": "in_use"})) == [needed]
    orphan = unneeded_object("audio/one")
    assert rows_of(client.get(OBJECTS, {"need": "unneeded"})) == [orphan]
    assert rows_of(client.get(OBJECTS, {"need": "removing"})) == []


def test_an_orphan_is_found_by_its_path_and_says_when_it_goes(client: Client) -> None:
    path = f"audio/{uuid.uuid4()}/audio.wav"
    orphan = unneeded_object(path, size_bytes=2048)
    unneeded_object("audio/other", size_bytes=1)
    assert rows_of(client.get(OBJECTS, {"q": path})) == [orphan]
    assert "2.0\xa0KB" in client.get(OBJECTS).content.decode()
    assert client.get(f"{OBJECTS}{orphan.pk}/change/").status_code == 200


def test_a_session_is_found_by_its_file_and_shows_nobody_what_lets_its_holder_write(
    client: Client, workspace: Workspace
) -> None:
    """Promise 49."""
    upload = row(workspace, Status.RECEIVING, original_filename="talk.wav", file_size=2048, owner=UserFactory())
    session = store_session(upload, handle="https://bucket.example/?signature=secret")
    store_session(row(workspace, Status.RECEIVING))
    found = client.get(SESSIONS, {"q": str(upload.pk)})
    assert rows_of(found) == [session]
    page = client.get(f"{SESSIONS}{session.pk}/change/").content.decode()
    for text in (found.content.decode(), page):
        assert "talk.wav" in text and page_of(upload) in text and "2.0\xa0KB" in text
        assert session.handle not in text and "signature" not in text


@pytest.mark.parametrize("model", ["uploadevent", "uploadsession", "storedobject", "bulkaction"])
def test_nobody_writes_history_by_hand(client: Client, workspace: Workspace, model: str) -> None:
    make_rows(workspace, 1)
    address = f"/admin/uploads/{model}/"
    pk = rows_of(client.get(address))[0].pk
    for answer in (
        client.get(f"{address}add/"),
        client.post(f"{address}{pk}/change/", {"action": "purged", "done": "7", "size": "7"}),
        client.post(f"{address}{pk}/delete/", {"post": "yes"}),
    ):
        assert answer.status_code == 403
    viewer = staff_with(f"view_{model}")
    assert viewer.get(address).status_code == 200
    assert viewer.get(f"{address}{pk}/change/").status_code == 200

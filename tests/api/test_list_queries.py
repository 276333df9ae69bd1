"""Lists cost a fixed number of queries, whatever they hold."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from quotas.models import Membership
from tests.api.rows import many_uploads
from tests.factories import MembershipFactory, UserFactory, WorkspaceFactory, auditor
from uploads.models import AudioUpload, UploadEvent

pytestmark = pytest.mark.django_db


def queries_of(client: Client, address: str, rows: int) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        answer = client.get(address)
    assert answer.status_code == 200
    if answer["Content-Type"] == "application/json":
        assert len(answer.json()["results"]) == rows
    return len(queries)


@pytest.mark.parametrize("sees_all", [False, True])
@pytest.mark.parametrize(
    "path", ["/api/v1/uploads/?page_size=200", "/api/v1/uploads/?page_size=200&status=completed", "/"]
)
def test_a_list_of_files_costs_the_same_for_one_and_for_two_hundred(path: str, sees_all: bool) -> None:
    user = auditor() if sees_all else UserFactory()
    client = Client()
    client.force_login(user)
    client.get("/")
    costs = []
    total = 0
    for workspaces, each in ((1, 1), (1, 49), (3, 50)):
        for _ in range(workspaces):
            workspace = MembershipFactory(user=user, role=Membership.Role.VIEWER).workspace
            for maker in UserFactory.create_batch(2):
                many_uploads(workspace, each // 2, owner=maker)
            total += len(many_uploads(workspace, each - 2 * (each // 2), owner=user)) + 2 * (each // 2)
        costs.append(queries_of(client, path, total))
    assert total == 200
    assert costs == [costs[0]] * 3
    assert costs[0] <= 6


@pytest.mark.parametrize("sees_all", [False, True])
def test_a_diary_costs_the_same_for_one_and_for_two_hundred_events(sees_all: bool) -> None:
    user = auditor() if sees_all else UserFactory()
    workspace = MembershipFactory(user=user).workspace
    (upload,) = many_uploads(workspace, 1)
    client = Client()
    client.force_login(user)
    costs = []
    for count in (1, 199):
        actors = UserFactory.create_batch(5)
        UploadEvent.objects.bulk_create(
            UploadEvent(upload_id=upload.pk, workspace=workspace, action="renamed", actor=actors[number % 5])
            for number in range(count)
        )
        rows = UploadEvent.objects.count()
        api = queries_of(client, f"/api/v1/uploads/{upload.pk}/events/?page_size=200", rows)
        costs.append((api, queries_of(client, f"/files/{upload.pk}/", rows)))
    assert costs[0] == costs[1]


def test_members_cost_the_same_for_one_and_for_fifty() -> None:
    user = UserFactory()
    workspace = MembershipFactory(user=user).workspace
    client = Client()
    client.force_login(user)
    costs = []
    for count in (0, 49):
        MembershipFactory.create_batch(count, workspace=workspace, role=Membership.Role.VIEWER)
        path = f"/api/v1/workspaces/{workspace.pk}/members/?page_size=100"
        costs.append(queries_of(client, path, workspace.memberships.count()))
    assert costs[0] == costs[1]


def test_a_page_reads_no_more_rows_than_it_shows() -> None:
    user = UserFactory()
    workspace = WorkspaceFactory()
    MembershipFactory(user=user, workspace=workspace)
    many_uploads(workspace, 120)
    client = Client()
    client.force_login(user)
    with CaptureQueriesContext(connection) as queries:
        client.get("/api/v1/uploads/")
    (select,) = [query["sql"] for query in queries if f'FROM "{AudioUpload._meta.db_table}"' in query["sql"]]
    assert select.endswith("LIMIT 51")

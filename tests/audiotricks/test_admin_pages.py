"""Every list and page of the administration, for those who may everything, who may look, and who may not."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from pytest_django import DjangoAssertNumQueries

from accounts.models import ApiToken, AuditEvent
from accounts.tokens import create_token
from audiotricks.models import EncryptionKey, IdempotencyKey, TaskRun, WorkerHeartbeat
from quotas.models import Membership, QuotaReservation, StorageQuota, Workspace
from quotas.reservations import reserve_storage
from tests.factories import MembershipFactory, StorageQuotaFactory, UserFactory, WorkspaceFactory

ADDRESSES = "audiotricks.urls"

pytestmark = pytest.mark.django_db

OURS = (
    *(User, Group, ApiToken, AuditEvent, TaskRun, WorkerHeartbeat, IdempotencyKey, EncryptionKey),
    *(PeriodicTask, IntervalSchedule, CrontabSchedule, Workspace, Membership, StorageQuota, QuotaReservation),
)


@pytest.fixture
def superuser() -> Client:
    return client_of(UserFactory(username="root", is_staff=True, is_superuser=True))


@pytest.fixture
def viewer() -> Client:
    """Staff who may look at everything and change nothing."""
    user = UserFactory(username="viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return client_of(user)


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make_rows(count: int) -> None:
    """``count`` more rows of each table, each with what its list shows."""
    now = timezone.now()
    for number in range(count):
        quota = StorageQuotaFactory(workspace=WorkspaceFactory(), max_storage_bytes=10**9)
        member = MembershipFactory(workspace=quota.workspace, user=UserFactory(last_name=f"Name {number}")).user
        reserve_storage(quota.workspace, size_bytes=10)
        create_token(member, name=f"token {number}", expires_in=timedelta(days=1))
        Group.objects.create(name=str(uuid4())).user_set.add(member)
        interval = IntervalSchedule.objects.create(every=int(uuid4()) % 10**8, period="hours")
        task = PeriodicTask.objects.create(name=f"Task {uuid4()}", task=f"tests.{uuid4()}", interval=interval)
        ended = {"started_at": now, "finished_at": now, "succeeded": True, "result": {"a": 1}}
        TaskRun.objects.create(pk=uuid4(), task=task.task, **ended)
        CrontabSchedule.objects.create(hour=str(number % 24), minute=str(int(uuid4()) % 60), timezone="UTC")
        WorkerHeartbeat.objects.create(name=str(uuid4()), seen_at=now)
        IdempotencyKey.objects.create(
            user=member, key=str(uuid4()), method="POST", path="/", claimed_at=now, expires_at=now
        )
        EncryptionKey.objects.create(provider="aws-kms", key_reference=str(uuid4()))


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def page_of(row: Model) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def test_all_our_tables_are_met_here() -> None:
    """The files have tests of their own."""
    rest = {model for model in admin.site._registry if model._meta.app_label != "uploads"}
    assert rest == set(OURS)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_each_list_and_page_opens_for_those_who_may_everything_and_those_who_may_look(
    model: type[Model], superuser: Client, viewer: Client
) -> None:
    make_rows(2)
    row = model._default_manager.order_by("pk").last()
    assert row is not None
    for client in (superuser, viewer):
        listed = client.get(list_of(model))
        assert listed.status_code == 200
        assert page_of(row) in listed.content.decode()
        assert client.get(page_of(row)).status_code == 200
        assert client.get(list_of(model), {"q": "name"}).status_code == 200
    assert b'name="_save"' not in viewer.get(page_of(row)).content


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_each_list_and_page_is_closed_to_everybody_else(model: type[Model]) -> None:
    """Promise 38."""
    make_rows(1)
    row = model._default_manager.order_by("pk").last()
    assert row is not None
    plain_staff = client_of(UserFactory(is_staff=True))
    for address in (list_of(model), page_of(row)):
        assert plain_staff.get(address).status_code == 403
        for client in (Client(), client_of(UserFactory())):
            answer = client.get(address)
            assert (answer.status_code, answer["Location"].split("?")[0]) == (302, reverse("admin:login"))


def filters_of(model: type[Model]) -> Iterator[str]:
    """The query of each choice that the list's filters offer."""
    answer = client_of(UserFactory(is_staff=True, is_superuser=True)).get(list_of(model))
    changelist = answer.context["cl"]
    for spec in changelist.filter_specs:
        yield from (choice.get("query_string", "") for choice in spec.choices(changelist))


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_each_filter_of_each_list_works(model: type[Model], superuser: Client) -> None:
    make_rows(1)
    for query in filters_of(model):
        assert superuser.get(list_of(model) + query).status_code == 200, query


def test_lists_of_50_rows_take_as_many_queries_as_lists_of_one(
    superuser: Client, subtests: pytest.Subtests, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_rows(1)
    queries = {}
    for model in OURS:
        superuser.get(list_of(model))
        with CaptureQueriesContext(connection) as few:
            superuser.get(list_of(model))
        queries[model] = len(few)
    make_rows(49)
    for model in OURS:
        with subtests.test(model.__name__), django_assert_num_queries(queries[model]) as many:
            assert len(superuser.get(list_of(model)).context["cl"].result_list) >= 50
        for query in many.captured_queries:
            text = query["sql"].upper()
            assert "COUNT(" not in text or "LIMIT" in text or "GROUP BY" in text, text


def test_an_empty_list_asks_nobody_to_add_what_cannot_be_added(superuser: Client) -> None:
    empty = superuser.get(list_of(IdempotencyKey)).content.decode()
    assert "No results found" in empty
    assert "Create a new item" not in empty and "Reset filters" not in empty
    assert "Reset filters" in superuser.get(f"{list_of(User)}?q=nobody-at-all").content.decode()

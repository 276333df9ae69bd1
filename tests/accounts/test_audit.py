"""The audit log (promise 66): who did what to whom, when and from where; kept, bounded and readable by staff."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.audit import LONGEST_NAME, LONGEST_PROGRAM, MOST_OF_ALL, MOST_OF_AN_ADDRESS
from accounts.models import AppendOnly, AuditEvent
from accounts.tasks import forget_expired
from accounts.tokens import create_token
from quotas.models import Membership, Workspace
from tests.factories import UserFactory, WorkspaceFactory, auditor, client_for, member_of, operator

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
Kind = AuditEvent.Kind


def told(kind: str) -> list[dict[str, Any]]:
    columns = ("actor_name", "subject_name", "address", "user_agent", "right", "details")
    return list(AuditEvent.objects.filter(kind=kind).order_by("id").values(*columns))


def sign_in(client: Client, name: str, password: str = PASSWORD, address: str = "192.0.2.7", **extra: Any) -> Any:
    sent = {"username": name, "password": password}
    return client.post("/sign-in/", sent, REMOTE_ADDR=address, HTTP_USER_AGENT="Firefox", **extra)


def test_signing_in_failing_to_and_signing_out_are_told_with_address_and_program() -> None:
    """Promise 66."""
    user, client = UserFactory(username="ada"), Client()
    sign_in(client, "ada", "wrong")
    assert sign_in(client, "ada").status_code == 302
    client.post("/sign-out/", REMOTE_ADDR="192.0.2.7")
    (failed,) = told(Kind.SIGN_IN_FAILED)
    assert (failed["actor_name"], failed["subject_name"], failed["address"]) == ("", "ada", "192.0.2.7")
    (signed_in,) = told(Kind.SIGNED_IN)
    assert (signed_in["actor_name"], signed_in["user_agent"]) == (user.username, "Firefox")
    assert [event["actor_name"] for event in told(Kind.SIGNED_OUT)] == ["ada"]
    assert "wrong" not in str(list(AuditEvent.objects.values()))


def test_a_name_that_was_tried_is_bounded_and_cannot_forge_a_line() -> None:
    name = "x\n\u202eforged" + "y" * 1000
    Client().post("/sign-in/", {"username": name, "password": "no"}, HTTP_USER_AGENT="z" * 5000)
    (failed,) = told(Kind.SIGN_IN_FAILED)
    assert len(failed["subject_name"]) <= LONGEST_NAME and len(failed["user_agent"]) <= LONGEST_PROGRAM
    assert "\n" not in failed["subject_name"] and "\u202e" not in failed["subject_name"]


def test_failures_do_not_fill_the_disk() -> None:
    """Rows are bounded for an address (a /64 of IPv6) and for all of them together, in each minute."""
    from django.test import RequestFactory

    from accounts.audit import record_refusal, request_now

    def fail(address: str, times: int) -> None:
        before = request_now.set(RequestFactory().get("/", REMOTE_ADDR=address))
        for _ in range(times):
            record_refusal(Kind.SIGN_IN_FAILED, name="ada")
        request_now.reset(before)

    for host in range(MOST_OF_AN_ADDRESS + 3):
        fail(f"2001:db8::{host + 1:x}", 1)
    assert AuditEvent.objects.count() == MOST_OF_AN_ADDRESS
    assert AuditEvent.objects.first().details == {"more_only_in_the_log": True}  # type: ignore[union-attr]
    for host in range(MOST_OF_ALL):
        fail(f"192.0.2.{host}", 2)
    assert AuditEvent.objects.count() == MOST_OF_ALL


def test_members_roles_quotas_and_workspaces_are_told_with_the_right_and_old_and_new() -> None:
    """Promise 66."""
    workspace = WorkspaceFactory()
    owner, newcomer = member_of(workspace), UserFactory(username="new")
    client = client_for(owner)
    members = f"/api/v1/workspaces/{workspace.pk}/members/"
    assert client.post(members, {"username": "new", "role": "viewer"}).status_code == 201
    assert client.patch(f"{members}{newcomer.pk}/", {"role": "editor"}).status_code == 200
    assert client.delete(f"{members}{newcomer.pk}/").status_code == 204
    staff = client_for(operator())
    answer = staff.patch(f"/api/v1/workspaces/{workspace.pk}/quota/", {"max_file_count": 7})
    assert answer.status_code == 200
    assert client.patch(f"/api/v1/workspaces/{workspace.pk}/", {"name": "Other"}).status_code == 200
    (added,) = told(Kind.MEMBER_ADDED)
    assert (added["actor_name"], added["subject_name"], added["right"]) == (owner.username, "new", "owner")
    assert added["details"]["workspace"] == workspace.slug
    assert told(Kind.ROLE_CHANGED)[0]["details"]["changes"] == {"role": ["viewer", "editor"]}
    assert told(Kind.MEMBER_REMOVED)[0]["details"]["role"] == "editor"
    (quota,) = told(Kind.QUOTA_CHANGED)
    assert quota["right"] == "quotas.change_storagequota"
    assert quota["details"]["changes"] == {"max_file_count": [100_000, 7]}
    assert told(Kind.WORKSPACE_CHANGED)[0]["details"]["changes"]["name"][1] == "Other"


def test_accounts_rights_and_tokens_are_told_whoever_changes_them() -> None:
    """Promise 66. From a shell or a command too: then nobody is named as the actor."""
    user = UserFactory(username="ada")
    user.is_staff = True
    user.save()
    group = Group.objects.create(name="Listeners")
    user.groups.add(group)
    user.groups.clear()
    token, _ = create_token(user, name="backup", expires_in=timedelta(days=1))
    token.delete()
    assert told(Kind.USER_MADE)[0]["subject_name"] == "ada"
    assert told(Kind.USER_CHANGED)[0]["details"] == {"changes": {"is_staff": [False, True]}}
    assert [event["details"] for event in told(Kind.RIGHTS_CHANGED)] == [{"given": ["Listeners"]}, {"taken": ["all"]}]
    assert told(Kind.TOKEN_MADE)[0]["subject_name"] == told(Kind.TOKEN_REVOKED)[0]["subject_name"] == "backup"
    assert not AuditEvent.objects.exclude(actor_name="").exists()


def test_what_is_rolled_back_was_not_done() -> None:
    workspace = WorkspaceFactory()
    before = AuditEvent.objects.count()
    with pytest.raises(RuntimeError), transaction.atomic():
        from quotas.workspaces import rename_workspace

        rename_workspace(workspace, name="Other")
        raise RuntimeError
    assert AuditEvent.objects.count() == before


def test_an_event_is_never_changed_nor_deleted_before_its_time() -> None:
    """Promise 66. Neither by the model, nor past it: the database refuses."""
    UserFactory()
    event = AuditEvent.objects.get()
    for forbidden in (
        event.save,
        event.delete,
        AuditEvent.objects.all().delete,
        lambda: AuditEvent.objects.update(kind="x"),
    ):
        with pytest.raises(AppendOnly):
            forbidden()
    for statement in ("UPDATE audit_events SET actor_name = 'x'", "DELETE FROM audit_events"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert AuditEvent.objects.get() == event


def test_events_go_after_their_days_and_refusals_sooner(settings: Any) -> None:
    settings.AUDIT_DAYS, settings.AUDIT_REFUSALS_DAYS = 365, 30
    ages = {Kind.SIGNED_IN: (366, 40), Kind.SIGN_IN_FAILED: (40, 2)}
    for kind, days in ages.items():
        for age in days:
            AuditEvent.objects.create(kind=kind, created_at=Now() - timedelta(days=age))
    forget_expired()
    left = [(event.kind, (timezone.now() - event.created_at).days) for event in AuditEvent.objects.order_by("id")]
    assert left == [(Kind.SIGNED_IN, 40), (Kind.SIGN_IN_FAILED, 2)]


def test_staff_with_the_permission_read_and_search_it_and_change_nothing() -> None:
    """Promise 66."""
    UserFactory(username="ada")
    AuditEvent.objects.create(kind=Kind.SIGNED_IN, created_at=Now(), actor_name="bob", address="2001:db8::1")
    client, plain = Client(), Client()
    client.force_login(auditor())
    plain.force_login(UserFactory(is_staff=True))
    address = "/admin/audiotricks/auditevent/"
    assert plain.get(address).status_code == 403
    page = client.get(address)
    assert page.status_code == 200 and b"ada" in page.content
    for query, found in (("q=bob", True), ("q=2001:db8:0::1", True), ("q=nobody", False), ("actor_name=bob", True)):
        assert (b"2001:db8::1" in client.get(f"{address}?{query}").content) == found, query
    event = AuditEvent.objects.order_by("id").last()
    assert event is not None
    assert client.get(f"{address}{event.pk}/change/").status_code == 200
    for verb in ("change", "delete"):
        assert client.post(f"{address}{event.pk}/{verb}/", {"kind": "x"}).status_code in (403, 405)
    assert client.get(f"{address}add/").status_code == 403


def test_searching_costs_the_same_whatever_the_table_holds() -> None:
    client = Client()
    client.force_login(auditor())
    costs = []
    for count in (1, 200, 1000):
        AuditEvent.objects.bulk_create(
            AuditEvent(kind=Kind.SIGNED_IN, created_at=timezone.now(), actor_name="bob") for _ in range(count)
        )
        client.get("/admin/audiotricks/auditevent/?q=bob")
        with CaptureQueriesContext(connection) as queries:
            client.get("/admin/audiotricks/auditevent/?q=bob")
        costs.append(len(queries))
    assert len(set(costs)) == 1


def test_a_search_finds_many_events_and_no_others() -> None:
    client = Client()
    client.force_login(auditor())
    AuditEvent.objects.bulk_create(
        AuditEvent(kind=Kind.SIGNED_IN, created_at=timezone.now(), **{f"{column}_name": name})
        for _ in range(400)
        for column, name in (("actor", "bob"), ("subject", "bob"), ("actor", "rob"), ("subject", "rob"))
    )
    AuditEvent.objects.bulk_create(
        AuditEvent(kind=Kind.SIGNED_OUT, created_at=timezone.now(), actor_name="bob") for _ in range(300)
    )
    counts = {
        query: client.get(f"/admin/audiotricks/auditevent/?{query}").context["cl"].result_count
        for query in ("q=bob", "q=rob", "q=bob&kind__exact=signed_out")
    }
    assert counts == {"q=bob": 1100, "q=rob": 800, "q=bob&kind__exact=signed_out": 300}


def test_the_migration_goes_back_and_forth() -> None:
    call_command("migrate", "audiotricks", "0004", verbosity=0)
    call_command("migrate", "audiotricks", verbosity=0)
    assert not AuditEvent.objects.exists()
    assert Workspace.objects.count() == Membership.objects.count() == 0

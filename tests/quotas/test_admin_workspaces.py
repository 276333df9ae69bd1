"""Workspaces in the administration: made, renamed, limited and peopled through the services alone."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.template.defaultfilters import filesizeformat
from django.test import Client
from django.urls import reverse
from django.utils import translation

from quotas.admin.sizes import SizeField
from quotas.models import LARGEST, Membership, StorageQuota, Workspace
from quotas.reservations import ensure_quota, reserve_storage
from quotas.workspaces import create_workspace, personal_workspace
from tests.factories import StorageQuotaFactory, UserFactory, WorkspaceFactory, member_of

pytestmark = pytest.mark.django_db

LIST = "/admin/quotas/workspace/"
Role = Membership.Role
GB = 1024**3


@pytest.fixture
def client() -> Client:
    return client_of(UserFactory(is_staff=True, is_superuser=True))


@pytest.fixture
def owner() -> User:
    return UserFactory(username="ada")


@pytest.fixture
def workspace(owner: User) -> Workspace:
    made = create_workspace(owner, name="Choir")
    ensure_quota(made)
    return made


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def viewer() -> Client:
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    return client_of(user)


def page_of(workspace: Workspace) -> str:
    return reverse("admin:quotas_workspace_change", args=[workspace.pk])


def form_of(client: Client, workspace: Workspace) -> dict[str, Any]:
    """The workspace's form as a browser would send it unchanged."""
    context = client.get(page_of(workspace)).context
    form: dict[str, Any] = {}
    formsets = [inline.formset for inline in context["inline_admin_formsets"]]
    for formset in formsets:
        form |= {field.html_name: field.value() for field in formset.management_form}
    for each in [context["adminform"].form, *(each for formset in formsets for each in formset.forms)]:
        form |= {field.html_name: field.value() for field in each if field.value() not in (None, False)}
    return form


def roles_of(workspace: Workspace) -> dict[str, str]:
    return dict(workspace.memberships.values_list("user__username", "role"))


def errors_in(answer: Any) -> str:
    assert answer.status_code == 200
    formsets = answer.context["inline_admin_formsets"]
    found = [answer.context["adminform"].form.errors, answer.context["adminform"].form.non_field_errors()]
    found += [part for inline in formsets for part in (inline.formset.errors, inline.formset.non_form_errors())]
    return str(found)


def member_field(client: Client, workspace: Workspace, name: str, field: str) -> str:
    members = client.get(page_of(workspace)).context["inline_admin_formsets"][1].formset
    (form,) = [form for form in members.forms if form.instance.user.username == name]
    return str(form.add_prefix(field))


def test_a_form_that_is_saved_as_it_was_changes_nothing(client: Client, workspace: Workspace) -> None:
    member_of(workspace, Role.EDITOR)
    quota, roles = StorageQuota.objects.values().get(), roles_of(workspace)
    assert client.post(page_of(workspace), form_of(client, workspace)).status_code == 302
    assert StorageQuota.objects.values().get() == quota
    assert roles_of(workspace) == roles


def test_a_workspace_is_made_with_its_owner(client: Client, owner: User) -> None:
    answer = client.post(LIST + "add/", {"name": "Radio Play", "slug": "", "owner": owner.pk})
    made = Workspace.objects.get()
    assert answer.status_code == 302
    assert (made.name, made.slug, roles_of(made)) == ("Radio Play", "radio-play", {"ada": Role.OWNER})
    assert client.get(page_of(made)).status_code == 200


@pytest.mark.parametrize(
    ("slug", "words"),
    [
        ("choir", "already exists"),
        ("Not A Slug", "lower-case letters"),
        ("--", "single hyphens"),
        ("0d4b9c1e-5c1c-4c43-9a8b-1d1c54f3a6f1", "must not look like an id"),
    ],
)
def test_the_rules_for_short_names_hold(
    client: Client, owner: User, workspace: Workspace, slug: str, words: str
) -> None:
    """Promise 40."""
    answer = client.post(LIST + "add/", {"name": "Another", "slug": slug, "owner": owner.pk})
    assert words in errors_in(answer)
    assert Workspace.objects.get() == workspace


def test_a_service_that_refuses_is_heard_beside_the_form(client: Client, owner: User, settings: Any) -> None:
    settings.MAX_OWNED_WORKSPACES = 0
    answer = client.post(LIST + "add/", {"name": "Another", "slug": "", "owner": owner.pk})
    assert "as many workspaces as a user may" in errors_in(answer)
    assert not Workspace.objects.exists()


def test_a_workspace_is_renamed_and_keeps_its_short_name(client: Client, workspace: Workspace) -> None:
    """Promise 40. Nor can it be made somebody's personal one."""
    other = UserFactory()
    forged = {"name": "Big Choir", "slug": "other", "personal_of": other.pk, "created_at_0": "2000-01-01"}
    assert client.post(page_of(workspace), form_of(client, workspace) | forged).status_code == 302
    before = workspace.created_at
    workspace.refresh_from_db()
    assert (workspace.name, workspace.slug, workspace.personal_of) == ("Big Choir", "choir", None)
    assert workspace.created_at == before


def test_a_workspace_is_not_deleted(client: Client, workspace: Workspace) -> None:
    assert client.post(page_of(workspace).replace("change", "delete"), {"post": "yes"}).status_code == 403
    client.post(LIST, {"action": "delete_selected", "_selected_action": [workspace.pk], "post": "yes"})
    assert Workspace.objects.filter(pk=workspace.pk).exists()


def test_limits_are_written_the_way_people_write_sizes(client: Client, workspace: Workspace) -> None:
    limits = {
        "quota-0-max_storage_bytes": "1.5 TB",
        "quota-0-max_file_size": "",
        "quota-0-max_file_count": "0",
        "quota-0-max_monthly_upload_bytes": "12345",
        "quota-0-retention_days": "30",
    }
    form = form_of(client, workspace)
    assert form["quota-0-max_storage_bytes"] == "100 GB"
    assert client.post(page_of(workspace), form | limits).status_code == 302
    quota = StorageQuota.objects.get()
    assert (quota.max_storage_bytes, quota.max_file_size, quota.max_file_count) == (1536 * GB, None, 0)
    assert (quota.max_monthly_upload_bytes, quota.retention_days) == (12345, 30)


@pytest.mark.parametrize("wrong", ["a lot", "-1", "1,000 GB", "1.000 GB", "5 XB", str(LARGEST + 1), "9" * 19 + " EB"])
def test_a_size_that_is_none_is_refused_in_words(client: Client, workspace: Workspace, wrong: str) -> None:
    before = StorageQuota.objects.values().get()
    form = form_of(client, workspace) | {"quota-0-max_storage_bytes": wrong}
    assert "max_storage_bytes" in errors_in(client.post(page_of(workspace), form))
    assert StorageQuota.objects.values().get() == before


def test_counters_are_not_set_by_a_form(client: Client, workspace: Workspace) -> None:
    """Promise 40."""
    counters = (
        *("current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files"),
        *("monthly_uploads", "monthly_upload_bytes", "month"),
    )
    before = StorageQuota.objects.values(*counters).get()
    forged = {f"quota-0-{name}": "7" for name in counters} | {"quota-0-max_file_count": "5"}
    assert client.post(page_of(workspace), form_of(client, workspace) | forged).status_code == 302
    assert StorageQuota.objects.values(*counters).get() == before
    assert StorageQuota.objects.get().max_file_count == 5


def test_an_upload_that_begins_while_the_form_is_saved_stays_counted(
    client: Client, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The form's row is as old as its beginning; whoever saved it whole would take the reservation back."""
    from quotas.admin import workspaces

    write = workspaces.QuotaFormSet.write

    def write_after_a_reservation(formset: Any) -> None:
        reserve_storage(workspace, size_bytes=1000)
        write(formset)

    monkeypatch.setattr(workspaces.QuotaFormSet, "write", write_after_a_reservation)
    client.post(page_of(workspace), form_of(client, workspace) | {"quota-0-max_file_count": "5"})
    quota = StorageQuota.objects.get()
    assert (quota.reserved_bytes, quota.reserved_files, quota.max_file_count) == (1000, 1, 5)


def test_members_come_change_and_go(client: Client, workspace: Workspace) -> None:
    for name in ("clara", "nina"):
        member_of(workspace, Role.VIEWER, username=name)
    maria = UserFactory(username="maria")
    change = {
        member_field(client, workspace, "clara", "role"): Role.EDITOR,
        member_field(client, workspace, "nina", "DELETE"): "on",
        "memberships-2-0-user": maria.pk,
        "memberships-2-0-role": Role.OWNER,
    }
    assert client.post(page_of(workspace), form_of(client, workspace) | change).status_code == 302
    assert roles_of(workspace) == {"ada": Role.OWNER, "clara": Role.EDITOR, "maria": Role.OWNER}


def test_who_is_added_without_a_choice_may_do_the_least(client: Client, workspace: Workspace) -> None:
    form = form_of(client, workspace)
    form["memberships-2-0-user"] = UserFactory(username="maria").pk
    client.post(page_of(workspace), form)
    assert roles_of(workspace)["maria"] == Role.VIEWER


def test_a_workspace_is_handed_over_in_one_go(client: Client, workspace: Workspace) -> None:
    member_of(workspace, Role.VIEWER, username="clara")
    change = {
        member_field(client, workspace, "ada", "role"): Role.VIEWER,
        member_field(client, workspace, "clara", "role"): Role.OWNER,
    }
    assert client.post(page_of(workspace), form_of(client, workspace) | change).status_code == 302
    assert roles_of(workspace) == {"ada": Role.VIEWER, "clara": Role.OWNER}


@pytest.mark.parametrize(("field", "value"), [("role", Role.VIEWER), ("DELETE", "on")])
def test_the_last_owner_stays_and_nothing_else_of_the_form_is_saved(
    client: Client, workspace: Workspace, field: str, value: str
) -> None:
    change = {member_field(client, workspace, "ada", field): value, "name": "Another", "quota-0-max_file_count": "1"}
    answer = client.post(page_of(workspace), form_of(client, workspace) | change)
    assert "make another member an owner first" in errors_in(answer)
    workspace.refresh_from_db()
    assert (workspace.name, roles_of(workspace)) == ("Choir", {"ada": Role.OWNER})
    assert StorageQuota.objects.get().max_file_count != 1


def test_a_personal_workspace_keeps_its_own_user(client: Client, owner: User) -> None:
    workspace = personal_workspace(owner)
    member_of(workspace, Role.OWNER)
    change = {member_field(client, workspace, "ada", "DELETE"): "on"}
    answer = client.post(page_of(workspace), form_of(client, workspace) | change)
    assert "keeps its own user as an owner" in errors_in(answer)


def test_somebody_is_a_member_once(client: Client, workspace: Workspace, owner: User) -> None:
    change = {"memberships-2-0-user": owner.pk, "memberships-2-0-role": Role.VIEWER}
    answer = client.post(page_of(workspace), form_of(client, workspace) | change)
    assert answer.status_code == 200
    assert roles_of(workspace) == {"ada": Role.OWNER}


def test_many_members_come_in_pages_of_which_each_can_be_saved(client: Client, workspace: Workspace) -> None:
    """A form of a page has a hundred fields at most."""
    for number in range(25):
        member_of(workspace, Role.VIEWER, username=f"member{number:02}")
    page = page_of(workspace) + "?memberships-page=2"
    members = client.get(page).context["inline_admin_formsets"][1].formset
    names = [form.instance.user.username for form in members.forms]
    assert names == [f"member{number:02}" for number in range(9, 19)]
    form = form_of(client, workspace)
    form |= {field.html_name: field.value() for each in members.forms for field in each if field.value()}
    form |= {field.html_name: field.value() for field in members.management_form}
    form[members.forms[0].add_prefix("role")] = Role.EDITOR
    assert client.post(page, form).status_code == 302
    assert roles_of(workspace)["member09"] == Role.EDITOR
    assert list(roles_of(workspace).values()).count(Role.EDITOR) == 1


def test_who_may_only_look_changes_nothing(workspace: Workspace, client: Client) -> None:
    looking = viewer()
    form = form_of(client, workspace) | {"name": "Mine", "quota-0-max_file_count": "1"}
    assert looking.get(page_of(workspace)).status_code == 200
    assert looking.post(page_of(workspace), form).status_code == 403
    assert looking.post(LIST + "add/", {"name": "Mine"}).status_code == 403
    workspace.refresh_from_db()
    assert workspace.name == "Choir" and StorageQuota.objects.get().max_file_count != 1


def test_the_list_tells_owners_members_and_how_full_it_is(client: Client, workspace: Workspace) -> None:
    for number in range(4):
        member_of(workspace, Role.OWNER, username=f"owner{number}")
    StorageQuota.objects.update(current_storage_bytes=25 * GB, current_file_count=12345)
    text = client.get(LIST).content.decode()
    assert "25.0\xa0GB of 100.0\xa0GB" in text and 'width="25%"' in text and "12,345" in text
    assert "owner1" in text and "owner2" not in text and ", …" in text
    assert client.get(LIST).context["cl"].result_list[0].member_count == 5


def test_workspaces_are_found_by_name_by_member_and_by_room(client: Client, workspace: Workspace) -> None:
    for used, name in ((89, "roomy"), (90, "nearly"), (100, "full")):
        StorageQuotaFactory(workspace=WorkspaceFactory(name=name), max_storage_bytes=100, current_storage_bytes=used)
    StorageQuotaFactory(workspace=WorkspaceFactory(name="endless"), current_storage_bytes=10**12)
    personal = personal_workspace(UserFactory(username="clara"))

    def found(**query: str) -> set[str]:
        return {row.name for row in client.get(LIST, query).context["cl"].result_list}

    assert found(room="little") == {"nearly", "full"}
    assert found(room="none") == {"full"}
    assert found(q="ada") == {"Choir"} and found(q="early") == {"nearly"}
    assert found(kind="personal") == {personal.name}
    assert personal.name not in found(kind="shared") and "Choir" in found(kind="shared")


@pytest.mark.parametrize("table", ["workspace", "storagequota"])
def test_recalculating_asks_first_and_is_done_by_a_worker(
    client: Client, sent: list[tuple[str, ...]], table: str, django_capture_on_commit_callbacks: Any
) -> None:
    quotas = [StorageQuotaFactory(workspace=WorkspaceFactory()) for _ in range(3)]
    chosen = [quota.workspace for quota in quotas[:2]] if table == "workspace" else quotas[:2]
    form = {"action": "recalculate", "_selected_action": [row.pk for row in chosen]}
    with django_capture_on_commit_callbacks(execute=True):
        asked = client.post(f"/admin/quotas/{table}/", form)
    assert "The counters of 2 workspaces are set" in asked.content.decode() and sent == []
    again = dict(asked.context["again"]) | {"_selected_action": form["_selected_action"], "confirmed": "yes"}
    with django_capture_on_commit_callbacks(execute=True):
        done = client.post(f"/admin/quotas/{table}/", again, follow=True)
    ((task, ids),) = sent
    assert task == "uploads.tasks.recalculate_quotas"
    assert set(json.loads(ids)) == {str(quota.workspace_id) for quota in quotas[:2]}
    assert "See the result" in done.content.decode()


def test_one_workspace_is_recalculated_from_its_page(
    client: Client, workspace: Workspace, sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    address = f"{LIST}{workspace.pk}/recalculate/"
    with django_capture_on_commit_callbacks(execute=True):
        assert "The counters of 1 workspace are set" in client.get(address).content.decode()
        assert client.post(address, {"confirmed": "yes"})["Location"] == page_of(workspace)
    assert sent == [("uploads.tasks.recalculate_quotas", json.dumps([str(workspace.pk)]))]


def test_recalculating_needs_the_permission_to_change_quotas(
    workspace: Workspace, sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    looking = viewer()
    with django_capture_on_commit_callbacks(execute=True):
        assert looking.post(f"{LIST}{workspace.pk}/recalculate/", {"confirmed": "yes"}).status_code == 403
        form = {"action": "recalculate", "confirmed": "yes"}
        looking.post(LIST, form | {"_selected_action": [workspace.pk]})
        looking.post("/admin/quotas/storagequota/", form | {"_selected_action": [workspace.quota.pk]})
    assert sent == []


@pytest.mark.parametrize("table", ["membership", "storagequota", "quotareservation"])
def test_rows_of_a_workspace_are_not_changed_behind_the_services(
    client: Client, workspace: Workspace, table: str
) -> None:
    """Promise 40."""
    reserve_storage(workspace, size_bytes=10)
    tables = {"membership": workspace.memberships, "quotareservation": workspace.reservations}
    row = tables[table].get() if table in tables else workspace.quota
    before = type(row).objects.values().get()
    forged = {"role": "viewer", "bytes": 1, "files": 1, "current_storage_bytes": 1, "max_storage_bytes": 1}
    for address in (f"{row.pk}/change/", f"{row.pk}/delete/", "add/"):
        assert client.post(f"/admin/quotas/{table}/{address}", forged | {"post": "yes"}).status_code == 403
    assert type(row).objects.values().get() == before


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1536, 100 * GB, 100 * GB + 1, LARGEST])
def test_what_a_size_field_shows_means_the_same_when_it_comes_back(size: int) -> None:
    field = SizeField(required=False)
    assert field.clean(field.prepare_value(size)) == size
    assert not field.has_changed(size, field.prepare_value(size))


@pytest.mark.parametrize(
    ("text", "size"),
    [("100 GB", 100 * GB), ("100gb", 100 * GB), ("1 GiB", GB), ("2k", 2048), ("7 bytes", 7), ("0.5 kb", 512)],
)
def test_a_size_is_read_the_way_people_write_it(text: str, size: int) -> None:
    assert SizeField().clean(text) == size


def test_a_size_is_read_in_the_language_of_the_reader() -> None:
    field = SizeField()
    with translation.override("de"):
        assert field.clean("1,5 GB") == field.clean("1.5 GB") == 1536 * 1024**2
        assert field.clean(filesizeformat(1536 * 1024**2)) == 1536 * 1024**2

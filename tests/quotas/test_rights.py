"""One model of rights: a role in the workspace, or a permission; and by which of them something was done."""

from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.management import call_command
from django.test import Client

from accounts.tokens import create_token
from audiotricks.errors import NotFound, PermissionDenied
from objectstore import default_alias, get_storage
from quotas.errors import QuotaExceeded
from quotas.models import QuotaReservation, Workspace
from quotas.reservations import change_quota
from quotas.rights import SUPERUSER, Right, Role, basis_of, may, require_right
from tests.api.rows import store_upload
from tests.audio import make_wav
from tests.factories import (
    UserFactory,
    WorkspaceFactory,
    auditor,
    client_for,
    member_of,
    operator,
    permitted,
)
from tests.uploads.life import Bytes
from uploads.actions import bulk
from uploads.actions.trash import PURGE
from uploads.intake.arrivals import ENTRY_POINTS_OF_USERS
from uploads.intake.ingest import ingest_audio
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.serving.links import open_link

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("right", Right)
def test_a_right_comes_from_a_role_that_suffices_or_from_its_permission_and_from_nothing_else(right: Right) -> None:
    """Promise 60."""
    workspace = WorkspaceFactory()
    for role in Role:
        expected = role.value if role in right.roles else ""
        assert basis_of(member_of(workspace, role), right, workspace.pk) == expected
        assert basis_of(member_of(WorkspaceFactory(), role), right, workspace.pk) == ""
    assert basis_of(permitted(right.permission), right, workspace.pk) == right.permission
    others = {other.permission for other in Right} - {right.permission}
    assert basis_of(permitted(*others), right, workspace.pk) == ""
    assert basis_of(UserFactory(is_superuser=True), right, workspace.pk) == SUPERUSER
    for nobody in (AnonymousUser(), UserFactory(), UserFactory(is_staff=True)):
        assert basis_of(nobody, right, workspace.pk) == ""


@pytest.mark.parametrize("right", Right)
def test_who_is_not_active_has_no_right_left(right: Right) -> None:
    workspace = WorkspaceFactory()
    for user in (member_of(workspace), permitted(right.permission), UserFactory(is_superuser=True)):
        user.is_active = False
        assert not may(user, right, workspace.pk)


def test_who_sees_a_workspace_is_denied_and_who_does_not_finds_nothing() -> None:
    workspace = WorkspaceFactory()
    for sees in (member_of(workspace, Role.VIEWER), permitted("quotas.view_workspace"), auditor()):
        with pytest.raises(PermissionDenied):
            require_right(sees, Right.PURGE_FILES, workspace.pk)
    for stranger in (UserFactory(), UserFactory(is_staff=True), permitted("quotas.change_storagequota")):
        with pytest.raises(NotFound):
            require_right(stranger, Right.PURGE_FILES, workspace.pk)


PAGES = {
    "": {"auditor": 200, "staff": 404},
    "rename/": {"auditor": 403, "staff": 404},
    "delete/": {"auditor": 403, "staff": 404},
    "link/": {"auditor": 302, "staff": 404},
}


@pytest.mark.parametrize("page", PAGES)
def test_pages_ask_for_the_same_rights_as_the_api(page: str) -> None:
    """Promise 60."""
    upload = store_upload(WorkspaceFactory())
    people = {"auditor": auditor(), "staff": UserFactory(is_staff=True)}
    for name, status in PAGES[page].items():
        client = Client()
        client.force_login(people[name])
        address = f"/files/{upload.pk}/{page}"
        answer = client.post(address, {"name": "other.mp3"}) if page else client.get(address)
        assert answer.status_code == status, name
    client = Client()
    client.force_login(operator())
    answer = client.post(f"/files/{upload.pk}/{page}", {"name": "other.mp3"}) if page else client.get(address)
    assert answer.status_code in (200, 302)


def test_staff_without_a_permission_see_nobodys_files_in_any_list() -> None:
    """Promise 60."""
    workspace = WorkspaceFactory(name="Their workspace")
    store_upload(workspace, original_filename="secret.mp3")
    store_upload(workspace, original_filename="secret.mp3", status=Status.DELETED)
    client = Client()
    client.force_login(UserFactory(is_staff=True))
    for path in ("/", "/trash/", "/files.csv", "/trash.csv", "/workspaces/", "/admin/", "/api/v1/uploads/"):
        answer = client.get(path)
        text = b"".join(answer) if answer.streaming else answer.content
        assert answer.status_code == 200
        assert b"secret" not in text and b"Their workspace" not in text, path
    for path in (f"/?workspace={workspace.slug}", f"/workspaces/{workspace.pk}/empty-trash/"):
        assert client.get(path).status_code == 404


def test_who_may_look_at_files_may_look_at_one_workspaces_without_seeing_the_workspace_itself() -> None:
    workspace = WorkspaceFactory()
    store_upload(workspace)
    client = client_for(permitted("uploads.view_audioupload"))
    assert len(client.get(f"/api/v1/uploads/?workspace={workspace.slug}").json()["results"]) == 1
    assert client.get(f"/api/v1/workspaces/{workspace.pk}/members/").status_code == 403


@pytest.mark.parametrize("kind", ["owner", "permission", "superuser"])
def test_the_event_says_by_which_right_it_was_done(kind: str) -> None:
    """Promise 60."""
    workspace = WorkspaceFactory()
    upload = store_upload(workspace)
    user = {
        "owner": lambda: member_of(workspace),
        "permission": lambda: permitted("uploads.view_audioupload", "uploads.delete_audioupload"),
        "superuser": lambda: UserFactory(is_superuser=True),
    }[kind]()
    client = client_for(user)
    assert client.delete(f"/api/v1/uploads/{upload.pk}/").status_code == 204
    right = {"permission": "uploads.delete_audioupload"}.get(kind, kind)
    assert UploadEvent.objects.get(upload_id=upload.pk, action="deleted").right == right
    event = client.get(f"/api/v1/uploads/{upload.pk}/events/").json()["results"][0]
    assert (event["actor"], event["right"]) == (user.username, right)
    page = Client()
    page.force_login(user)
    words = {"owner": "as Owner", "permission": "by the permission uploads.delete_audioupload"}
    assert words.get(kind, "as superuser") in page.get(f"/files/{upload.pk}/").content.decode()


def test_a_bulk_action_asks_for_the_right_again_for_each_file() -> None:
    """Promise 60. Rights may go while ten thousand files wait."""
    workspace = WorkspaceFactory()
    user = member_of(workspace)
    for _ in range(bulk.AT_ONCE + 1):
        store_upload(workspace, status=Status.DELETED)
    begun = bulk.start(PURGE, AudioUpload.objects.in_workspace(workspace), actor=user)
    user.memberships.update(role=Role.EDITOR)
    bulk.run_bulk_action(begun.pk)
    begun.refresh_from_db()
    assert (begun.done, begun.refused) == (0, bulk.AT_ONCE + 1)
    assert AudioUpload.objects.in_workspace(workspace).filter(status=Status.DELETED).count() == bulk.AT_ONCE + 1


def test_a_bulk_action_ends_with_its_actor() -> None:
    """Promise 60. An account that is removed leaves no right behind."""
    workspace = WorkspaceFactory()
    user = member_of(workspace)
    for _ in range(bulk.AT_ONCE + 1):
        store_upload(workspace, status=Status.DELETED)
    begun = bulk.start(PURGE, AudioUpload.objects.in_workspace(workspace), actor=user)
    user.delete()
    bulk.run_bulk_action(begun.pk)
    begun.refresh_from_db()
    assert (begun.actor, begun.done, begun.refused) == (None, 0, bulk.AT_ONCE + 1)
    assert begun.finished_at is not None


def test_a_permission_that_was_taken_away_ends_at_once_for_tokens_and_links() -> None:
    workspace: Workspace = WorkspaceFactory()
    upload = store_upload(workspace)
    user = auditor()
    _, secret = create_token(user, name="monitor", expires_in=None)
    bearer = {"Authorization": f"Bearer {secret}"}
    page = Client()
    page.force_login(user)
    link = page.post(f"/files/{upload.pk}/link/")["Location"].split("link=")[1].split("#")[0]
    assert Client().get(f"/api/v1/uploads/{upload.pk}/", headers=bearer).status_code == 200
    assert open_link(unquote(link)).upload == upload
    user.groups.clear()
    assert Client().get(f"/api/v1/uploads/{upload.pk}/", headers=bearer).status_code == 404
    assert Client().get("/storage/stats", headers=bearer).status_code == 403
    assert Client().get(f"/listen/?signature={link}").status_code == 410


def test_the_ready_made_groups_can_be_made_again_and_take_nothing_away() -> None:
    plain = UserFactory(is_staff=True)
    call_command("make_groups")
    extra = permitted("uploads.view_audioupload").user_permissions.get()
    groups = {group.name: group for group in Group.objects.all()}
    assert set(groups) == {"Operators", "Auditors"}
    groups["Auditors"].permissions.remove(extra)
    assert not groups["Auditors"].permissions.exclude(codename__startswith="view_").exists()
    assert not groups["Operators"].permissions.filter(codename__in=("change_group", "add_permission")).exists()
    answers = groups["Operators"].permissions.filter(codename__in=("change_storagemark", "change_heldremoval"))
    assert answers.count() == 2, "operators answer whose a storage is, and what a sweep may remove"
    call_command("make_groups", "--add-staff", "auditors")
    assert groups["Auditors"].permissions.filter(pk=extra.pk).exists()
    assert User.objects.get(pk=plain.pk).has_perm("uploads.view_audioupload")
    assert not User.objects.get(pk=plain.pk).has_perm("uploads.change_audioupload")


class Meanwhile(Bytes):
    """A file during whose upload something happens."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(make_wav())
        self.happens = happens

    def chunks(self) -> Iterator[bytes]:
        self.happens()
        yield from super().chunks()


@pytest.mark.parametrize("door", sorted(ENTRY_POINTS_OF_USERS))
def test_a_removed_editors_running_upload_does_not_arrive(door: str) -> None:
    """Promise 23. Nothing stays behind: no row, no object, no reservation."""
    workspace = WorkspaceFactory()
    user = member_of(workspace, Role.EDITOR)
    for left in (lambda: user.memberships.update(role=Role.VIEWER), lambda: user.memberships.all().delete()):
        with pytest.raises((PermissionDenied, NotFound)):
            ingest_audio(Meanwhile(left), workspace=workspace, owner=user, door=door)
    assert not AudioUpload.objects.exists() and not QuotaReservation.objects.exists()
    assert list(get_storage(default_alias()).list("audio/")) == []


def test_a_limit_that_was_lowered_during_an_upload_refuses_it() -> None:
    """Promise 23."""
    workspace = WorkspaceFactory()
    user = member_of(workspace)
    with pytest.raises(QuotaExceeded):
        ingest_audio(
            Meanwhile(lambda: change_quota(workspace, changes={"max_file_count": 0})),
            workspace=workspace,
            owner=user,
            door="api",
        )
    assert not AudioUpload.objects.exists()

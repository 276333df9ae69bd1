"""``import_audio`` and what it is told: refused before anything is stored, or understood."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from quotas.models import Membership, Workspace
from tests.factories import MembershipFactory, UserFactory
from tests.uploads.life import new_workspace, put_files
from uploads.models import AudioUpload

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workspace(db: None) -> Workspace:
    workspace = new_workspace()
    MembershipFactory(workspace=workspace)
    return workspace


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workspace": "nowhere"}, "no workspace called nowhere"),
        ({"owner": "nobody"}, "no user called nobody"),
        ({"owner": "reader"}, "may not put files"),
        ({"owner": "stranger"}, "may not put files"),
        ({"parallel": 0}, "--parallel"),
        ({"parallel": 33}, "--parallel"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_stored(
    options: dict[str, Any], says: str, workspace: Workspace, shelf: Path
) -> None:
    put_files(shelf, "a.wav")
    UserFactory(username="stranger")
    MembershipFactory(workspace=workspace, user=UserFactory(username="reader"), role=Membership.Role.VIEWER)
    with pytest.raises(CommandError, match=says) as raised:
        call_command("import_audio", shelf, **{"workspace": workspace.slug, **options})
    assert raised.value.returncode == 2
    assert not AudioUpload.objects.exists()


def test_a_path_that_is_not_there_is_told_before_anything_is_stored(workspace: Workspace, shelf: Path) -> None:
    (path,) = put_files(shelf, "a.wav")
    with pytest.raises(CommandError, match="There is no") as raised:
        call_command("import_audio", path, shelf / "typo.wav", workspace=workspace.slug)
    assert raised.value.returncode == 2
    assert not AudioUpload.objects.exists()


def test_the_owner_can_be_named_and_the_workspace_by_its_id(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav")
    editor = MembershipFactory(workspace=workspace, role=Membership.Role.EDITOR).user
    call_command(
        "import_audio", shelf, workspace=str(workspace.pk), owner=editor.username, stdout=io.StringIO(),
        stderr=io.StringIO(),
    )  # fmt: skip
    assert AudioUpload.objects.get().owner == editor


def test_a_workspace_without_an_owner_needs_one_named(shelf: Path) -> None:
    put_files(shelf, "a.wav")
    with pytest.raises(CommandError, match="--owner"):
        call_command("import_audio", shelf, workspace=new_workspace().slug)

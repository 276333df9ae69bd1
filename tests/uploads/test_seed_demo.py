"""``seed_demo``: a workspace with one of each thing to look at, made once."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from quotas.models import Workspace
from tests.factories import MembershipFactory
from tests.uploads.life import assert_books_balance, new_workspace
from uploads import demo
from uploads.actions.edits import RENAME
from uploads.demo import FOLDER, SAMPLES
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, Status

pytestmark = pytest.mark.django_db(transaction=True)


def seed_demo(**options: Any) -> str:
    out = io.StringIO()
    call_command("seed_demo", stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def var(settings: Any, tmp_path: Path) -> Path:
    settings.VAR_DIR = tmp_path / "var"
    return tmp_path / "var"


def test_there_is_one_of_each_thing_to_look_at(var: Path) -> None:
    said = seed_demo(wait=True)
    assert f"Added {len(SAMPLES)} recordings to demo." in said
    workspace = Workspace.objects.get(slug="demo")
    uploads = {upload.original_filename: upload for upload in AudioUpload.objects.all()}
    assert set(uploads) == {sample.name for sample in SAMPLES}
    assert {name for name, upload in uploads.items() if upload.status == Status.FAILED} == {"Bell (broken copy).flac"}
    assert {name for name, upload in uploads.items() if upload.status == Status.DELETED} == {"Rain on the roof.webm"}
    completed = [upload for upload in uploads.values() if upload.status == Status.COMPLETED]
    assert len(completed) == len(SAMPLES) - 2
    assert {upload.file_type for upload in completed} == {"opus", "m4a", "mp3", "ogg", "flac", "wav"}
    pair = (uploads["Welcome.opus"], uploads["Welcome (copy).opus"])
    assert len({upload.storage_path for upload in pair}) == 1 and pair[1].duplicate_of == pair[0]
    assert uploads["Waltz for three fingers.mp3"].metadata["tags"]["artist"] == "The Oscillators"
    assert sum(bool(upload.thumbnail_path) for upload in completed) == 4
    assert all(upload.duration and upload.duration > 1 for upload in completed)
    assert_books_balance(workspace)


def test_a_second_run_adds_nothing(var: Path) -> None:
    seed_demo(wait=True)
    renamed = AudioUpload.objects.get(original_filename="Bell.flac")
    RENAME.run(renamed, actor=None, name="Ding.flac")
    before = set(AudioUpload.objects.values_list("pk", "status"))
    assert "Added 0 recordings to demo." in seed_demo(wait=True)
    assert set(AudioUpload.objects.values_list("pk", "status")) == before


def test_without_waiting_they_are_left_to_the_worker(var: Path) -> None:
    seed_demo()
    states = list(AudioUpload.objects.values_list("status", flat=True))
    assert states.count(Status.UPLOADED) == len(SAMPLES) - 1 and states.count(Status.DELETED) == 1


def test_the_demo_users_are_made_where_there_are_none_and_their_passwords_told(var: Path) -> None:
    said = seed_demo()
    login = json.loads((var / "demo-login.json").read_text())
    assert str(var / "demo-login.json") in said and login["user_password"] not in said
    assert User.objects.get(username=login["user"]).check_password(login["user_password"])


def test_where_somebody_has_an_account_no_demo_users_are_made(var: Path) -> None:
    User.objects.create_user("somebody")
    with pytest.raises(CommandError, match="--workspace") as raised:
        seed_demo()
    assert raised.value.returncode == 2
    assert User.objects.count() == 1 and not (var / "demo-login.json").exists()


def test_another_workspace_gets_them_for_its_owner_and_nobody_is_made(var: Path) -> None:
    owner = MembershipFactory(workspace=new_workspace()).user
    seed_demo(workspace=Workspace.objects.get().slug)
    assert set(AudioUpload.objects.values_list("owner", flat=True)) == {owner.pk}
    assert User.objects.count() == 1 and not var.exists()


def test_it_does_not_wait_forever_for_a_worker(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seed_demo()
    for pk in AudioUpload.objects.filter(status=Status.UPLOADED).values_list("pk", flat=True):
        take_upload(str(pk))
    monkeypatch.setattr("uploads.management.commands.seed_demo.WAIT_SECONDS", 0)
    with pytest.raises(CommandError, match="not processed within"):
        seed_demo(wait=True)


def test_the_files_are_small_and_each_is_used() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.suffix not in (".md", ".py")}
    assert set(files) == {sample.file for sample in demo.SAMPLES}
    assert max(files.values()) < 60_000

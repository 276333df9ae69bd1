"""Whose a storage is: no database removes the objects of another one."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from media.inspection import reencode_image
from objectstore import get_storage
from objectstore.base import ObjectStat
from objectstore.errors import TransientStorageError
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_mp3, make_wav
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.plugging import steps_of
from tests.uploads.life import (
    age_all,
    ago,
    arrive,
    complete,
    names_in,
    put_orphan,
    row,
    stored_names,
    sweep_after_grace,
)
from tests.uploads.moved import other_folder
from tests.uploads.staff import staff_with, superuser
from uploads.intake.thumbnails import remove_thumbnail, set_thumbnail
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload, HeldRemoval, Status, StorageMark, StoredObject, UploadEvent, Vault
from uploads.objects import marks
from uploads.objects.brake import answer
from uploads.objects.marks import StorageNotOurs, adopt, ensure_ours, look_at_mark, look_at_marks, mark_name, renew_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.upkeep.sweeps import (
    expire_uploads,
    purge_trash,
    sweep_stale_reservations,
    sweep_stale_work,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]
State = StorageMark.State


def another_database() -> None:
    """Everything that this one knew is gone, as after a start with another DATABASE_URL."""
    AudioUpload.objects.all().delete()
    UploadEvent.objects.all().delete()
    StoredObject.objects.all().delete()
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()


def unmark(root: Path) -> None:
    for path in (root / "vault").iterdir():
        path.unlink()


def sweep_all() -> None:
    sweep_stale_work()
    sweep_stale_reservations()
    expire_uploads()
    purge_trash()
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=400))
    sweep_orphaned_objects()


def state_of(alias: str = "local") -> str:
    return look_at_mark(alias).state


def health() -> dict[str, Any]:
    answer: dict[str, Any] = Client().get("/health").json()
    return answer


@pytest.mark.parametrize("marked", [True, False])
def test_an_empty_database_on_a_full_folder_removes_nothing(
    workspace: Workspace, audio_root: Path, marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 54, Promise 55. Thirty of thirty stay, whatever the clock says; an older version left no mark."""
    for seed in range(30):
        arrive(workspace, make_wav(seed=seed, seconds=0.1))
    age_all(audio_root)
    before = stored_names()
    if not marked:
        unmark(audio_root)
    another_database()
    clock = ago(days=-800)
    monkeypatch.setattr("audiotricks.clock.wall_clock", lambda: clock)
    for _ in range(3):
        sweep_all()
    assert stored_names() == before and len(before) == 30
    assert not StoredObject.objects.unneeded().exists()
    assert state_of() == (State.ANOTHER_VAULT if marked else State.UNKNOWN_OBJECTS)


def test_what_another_vault_owns_is_read_but_nothing_new_goes_there(
    workspace: Workspace, audio_root: Path, settings: Any
) -> None:
    """Promise 54. Its sweep would take our new files for orphans. After staff decided, every grace begins anew."""
    upload = complete(workspace)
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    with pytest.raises(StorageNotOurs) as refused:
        arrive(workspace, make_wav(seed=1))
    assert refused.value.status == 503 and "another vault" in str(refused.value)
    with get_storage("local").open_range(upload.storage_path) as file:
        assert file.read() == make_wav()
    delete_upload(upload, actor=None)
    purge_upload(upload, actor=None)
    assert AudioUpload.objects.get().status == Status.PURGED and upload.storage_path in stored_names()
    check = health()
    assert check["status"] == "degraded" and "local" in check["checks"]["vault"]["detail"]
    adopt("local")
    assert health()["checks"]["vault"]["ok"] is True
    arrive(workspace, make_wav(seed=1))
    AudioUpload.objects.filter(status=Status.PURGED).update(claimable_at=ago(minutes=2))
    sweep_stale_work()
    assert upload.storage_path in stored_names()
    sweep_after_grace(audio_root)
    assert upload.storage_path not in stored_names()


def test_the_other_vault_stops_when_this_one_takes_over(workspace: Workspace) -> None:
    complete(workspace)
    theirs = (Vault.objects.get(), StorageMark.objects.get())
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    adopt("local")
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    for kept in theirs:
        kept.save(force_insert=True)
    assert state_of() == State.ANOTHER_VAULT


def test_an_existing_installation_gets_its_mark_by_itself(workspace: Workspace, audio_root: Path) -> None:
    """Its rows, and the events of files that are gone, account for what lies there."""
    complete(workspace)
    gone = complete(workspace, make_wav(seed=1))
    unmark(audio_root)
    StorageMark.objects.all().delete()
    AudioUpload.objects.filter(pk=gone.pk).delete()
    assert state_of() == State.OURS
    assert StorageMark.objects.get().grace_from is None


def test_two_aliases_that_are_one_folder_stop_both(workspace: Workspace, audio_root: Path, settings: Any) -> None:
    """Promise 54."""
    upload = complete(workspace)
    entry = {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": audio_root}}
    settings.STORAGES = {**settings.STORAGES, "other": entry}
    put_orphan(audio_root)
    StoredObject.objects.filter(storage_path=upload.storage_path).update(unneeded_since=ago(days=400))
    sweep_all()
    assert len(stored_names()) == 2
    assert state_of("other") == State.ANOTHER_ALIAS
    for alias in ("local", "other"):
        with pytest.raises(StorageNotOurs, match="one and the same place"):
            ensure_ours(alias, within_seconds=0)


def test_objects_of_an_alias_that_is_configured_no_more_are_needed(workspace: Workspace, audio_root: Path) -> None:
    upload = complete(workspace)
    AudioUpload.objects.update(storage_provider="formerly")
    age_all(audio_root)
    sweep_all()
    assert stored_names() == {upload.storage_path}


def test_a_folder_that_is_empty_though_files_should_lie_there_takes_nothing_new(
    workspace: Workspace, audio_root: Path
) -> None:
    """A disk that is not mounted: what is written beneath would be hidden later."""
    complete(workspace)
    away = audio_root.rename(audio_root.with_name("away"))
    audio_root.mkdir()
    assert state_of() == State.EMPTIED
    with pytest.raises(StorageNotOurs, match="not mounted"):
        arrive(workspace, make_wav(seed=1))
    audio_root.rmdir()
    away.rename(audio_root)
    assert state_of() == State.OURS


def test_a_mark_that_vanished_alone_is_made_again_and_grace_begins_anew(workspace: Workspace, audio_root: Path) -> None:
    complete(workspace)
    put_orphan(audio_root)
    UploadEvent.objects.create(upload_id="6f1d7a4e-2f53-4a55-9f0a-0d8f3f3f7d11", workspace=workspace, action="uploaded")
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=9))
    unmark(audio_root)
    assert sweep_orphaned_objects()["removed"] == 0
    assert StoredObject.objects.unneeded().get().unneeded_since > ago(minutes=5)


def test_a_mark_that_cannot_be_read_stops_removal(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_orphan(audio_root)
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=9))

    def away(name: str, *args: Any) -> Any:
        raise TransientStorageError

    monkeypatch.setattr(get_storage("local"), "open_range", away)
    assert sweep_orphaned_objects()["removed"] == 0
    assert len(stored_names()) == 1
    (audio_root / mark_name(1)).write_bytes(b"{")
    monkeypatch.undo()
    assert state_of() == State.UNREADABLE


def test_after_a_restore_every_grace_period_begins_anew(workspace: Workspace, audio_root: Path) -> None:
    """Promise 58. The storage carries a later number than the older database knows."""
    trashed = complete(workspace, make_wav(seed=1))
    complete(workspace)
    delete_upload(trashed, actor=None)
    put_orphan(audio_root)
    sweep_orphaned_objects()
    backup = StorageMark.objects.get().number
    for _ in range(2):
        StorageMark.objects.update(renewed_at=ago(hours=1))
        look_at_marks()
    assert StorageMark.objects.get().number == backup + 2
    assert len(names_in_vault()) == 1
    StorageMark.objects.update(number=backup)
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=9))
    AudioUpload.objects.filter(pk=trashed.pk).update(deleted_at=ago(days=99))
    assert sweep_orphaned_objects()["removed"] == 0
    assert purge_trash() == {"purged": 0, "held": 0}
    StorageMark.objects.update(grace_from=F("grace_from") - timedelta(days=40))
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    assert sweep_orphaned_objects()["removed"] == 1
    assert purge_trash() == {"purged": 1, "held": 0}


def names_in_vault() -> list[str]:
    return [stat.name for stat in get_storage("local").list("vault/")]


def test_a_renewal_whose_write_is_killed_is_no_restore(workspace: Workspace) -> None:
    complete(workspace)
    StorageMark.objects.update(number=F("number") + 1)
    mark = look_at_mark("local")
    assert (mark.state, mark.grace_from) == (State.OURS, None)
    StorageMark.objects.update(renewed_at=ago(hours=1))
    renew_mark(mark)
    assert names_in_vault() == [mark_name(3)]


def test_a_renewal_while_the_storage_is_asked_is_no_restore(
    workspace: Workspace, settings: Any, audio_root: Path
) -> None:
    """Whoever looks has read the number of before, and finds the next one in the storage."""
    complete(workspace)
    StorageMark.objects.update(renewed_at=ago(hours=1))
    settings.STORAGES = {
        **settings.STORAGES,
        "local": {"BACKEND": "tests.uploads.test_vault.RenewedMeanwhile", "OPTIONS": {"location": audio_root}},
    }
    RenewedMeanwhile.renewals = 1
    mark = look_at_mark("local")
    assert (mark.state, mark.number, mark.grace_from) == (State.OURS, 2, None)


class RenewedMeanwhile(LocalStorage):
    """Another process renews the mark when this one begins to list."""

    renewals = 0

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        if RenewedMeanwhile.renewals:
            RenewedMeanwhile.renewals = 0
            renew_mark(StorageMark.objects.get(alias="local"))
        return super().list(prefix)


def test_a_clock_that_was_once_ahead_stops_no_renewal(workspace: Workspace) -> None:
    """Promise 37, Promise 58."""
    complete(workspace)
    StorageMark.objects.update(renewed_at=ago(days=-900))
    look_at_marks()
    assert names_in_vault() == [mark_name(2)]


def test_pictures_do_not_go_to_a_held_storage(workspace: Workspace, declare: Callable[..., None]) -> None:
    """Promise 54. The one that is there stays; a picture in the tags does not fail its file."""
    declare(processing_steps=steps_of("uploads.processing.artwork.attach_artwork"))
    pictured = complete(workspace, make_mp3(artwork=make_jpeg()), filename="pictured.mp3")
    waiting = arrive(workspace, make_mp3(artwork=make_jpeg(), seconds=2), filename="waiting.mp3")
    before = stored_names()
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    process_upload(str(waiting.pk))
    assert (done := fresh(waiting)).status == Status.COMPLETED and done.thumbnail_path == ""
    step = UploadEvent.objects.get(upload_id=waiting.pk, action="step_done")
    assert step.details["error_code"] == "storage_not_ours"
    with pytest.raises(StorageNotOurs):
        set_thumbnail(pictured, reencode_image(make_jpeg()), actor=None)
    with pytest.raises(StorageNotOurs):
        remove_thumbnail(pictured)
    assert fresh(pictured).thumbnail_path and stored_names() == before


def fresh(upload: AudioUpload) -> AudioUpload:
    return AudioUpload.objects.get(pk=upload.pk)


def test_a_bucket_carries_a_mark_too(workspace: Workspace, settings: Any, s3_server: ObjectServer) -> None:
    configure(settings, s3_server)
    settings.AUDIO_STORAGE = alias = s3_server.alias
    complete(workspace)
    assert state_of(alias) == State.OURS
    with get_storage(alias).open_range(mark_name(1)) as file:
        told = json.loads(file.read())
    assert (told["vault"], told["alias"]) == (str(Vault.objects.get().pk), alias)
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    assert state_of(alias) == State.ANOTHER_VAULT


def test_two_vaults_that_meet_in_an_empty_storage_do_not_both_own_it(workspace: Workspace, audio_root: Path) -> None:
    look_at_mark("local")
    ours = StorageMark.objects.get()
    told = {"vault": "0b7e1d0c-4f5d-4c53-9d0f-2f6f9a3b8c11", "alias": "local"}
    get_storage("local").save(mark_name(ours.number + 1), ContentFile(json.dumps(told).encode()))
    assert state_of() == State.ANOTHER_VAULT


# What people see and decide


def test_staff_decide_in_the_administration(workspace: Workspace, audio_root: Path) -> None:
    complete(workspace)
    StorageMark.objects.all().delete()
    Vault.objects.all().delete()
    client = superuser()
    mark = look_at_mark("local")
    page = f"/admin/uploads/storagemark/{mark.pk}/change/"
    assert "Storages that may not be ours" in client.get("/admin/").content.decode()
    shown = client.get(page).content.decode()
    assert "carries the mark of another vault" in shown and "(&#x27;held&#x27;" not in shown
    adopting = f"/admin/uploads/storagemark/{mark.pk}/adopt/"
    assert "Every grace period" in client.get(adopting, follow=True).content.decode()
    assert state_of() == State.ANOTHER_VAULT
    assert client.post(adopting, {"confirmed": "yes"}).status_code == 302
    assert state_of() == State.OURS
    assert "Storages that may not be ours" not in client.get("/admin/").content.decode()


def test_who_may_only_look_cannot_decide(workspace: Workspace) -> None:
    mark = look_at_mark("local")
    number = mark.number
    reader = staff_with("view_storagemark", "view_heldremoval")
    assert reader.post(f"/admin/uploads/storagemark/{mark.pk}/adopt/", {"confirmed": "yes"}).status_code == 403
    mark.refresh_from_db()
    assert mark.number == number


def vault_says(code: int = 0, **options: Any) -> str:
    out = io.StringIO()
    try:
        call_command("vault", stdout=out, **options)
    except SystemExit as ended:
        assert ended.code == code
    else:
        assert code == 0
    return out.getvalue()


def test_the_command_says_and_decides_the_same(workspace: Workspace, audio_root: Path) -> None:
    complete(workspace)
    Vault.objects.all().delete()
    StorageMark.objects.all().delete()
    assert "another vault" in vault_says(code=1)
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("check_storage", stdout=out)
    assert "held: vault/" in out.getvalue()
    with pytest.raises(SystemExit):
        call_command("storage_doctor", storage="local", stdout=out)
    assert "whose it is: failed" in out.getvalue()
    assert "belongs to this vault" in vault_says(adopt="local")
    with pytest.raises(CommandError):
        call_command("vault", adopt="nowhere")


# The brake


def trash(workspace: Workspace, count: int, *, days: int = 99) -> None:
    for number in range(count):
        row(workspace, Status.DELETED, deleted_at=ago(days=days, seconds=number), storage_path=f"audio/{number}")


def test_a_purge_of_most_of_a_storage_waits_for_staff_and_covers_what_was_shown(
    workspace: Workspace, settings: Any
) -> None:
    """Promise 55."""
    settings.RETENTION_MIN_COUNT = 3
    trash(workspace, 8)
    assert purge_trash() == {"purged": 0, "held": 8}
    assert purge_trash() == {"purged": 0, "held": 8}
    held = HeldRemoval.objects.get()
    assert (held.sweep, held.count, held.total, held.state) == ("trash", 8, 8, "asked")
    assert "wait for staff" in health()["checks"]["vault"]["detail"]
    client = superuser()
    page = f"/admin/uploads/heldremoval/{held.pk}/allow/"
    shown = f"{held.count} {held.covers_until.isoformat()}"
    assert shown in client.get(page, follow=True).content.decode().replace("&#x27;", "'")
    client.post(page, {"confirmed": "yes", "shown": "7 " + shown})
    assert HeldRemoval.objects.get().state == "asked"
    client.post(page, {"confirmed": "yes", "shown": shown})
    assert HeldRemoval.objects.get().state == "allowed"
    for number in range(8, 20):
        row(workspace, Status.DELETED, deleted_at=ago(days=50), storage_path=f"audio/{number}")
    assert purge_trash()["purged"] == 8
    assert AudioUpload.objects.filter(status=Status.DELETED).count() == 12
    purge_trash()
    assert HeldRemoval.objects.filter(state="asked").get().count == 12


def test_what_was_declined_stays_and_the_sweep_goes_on_with_what_comes_later(
    workspace: Workspace, settings: Any
) -> None:
    settings.RETENTION_MIN_COUNT = 3
    trash(workspace, 8)
    purge_trash()
    answer(HeldRemoval.objects.get(), allowed=False, actor=None)
    row(workspace, Status.DELETED, deleted_at=ago(days=50), storage_path="audio/later")
    assert purge_trash()["purged"] == 1
    assert AudioUpload.objects.filter(status=Status.DELETED).count() == 8
    assert "8 of 8" in vault_says()
    vault_says(allow=HeldRemoval.objects.get().pk)
    assert purge_trash()["purged"] == 8


def test_many_small_workspaces_are_stopped_as_one_storage(settings: Any) -> None:
    """Promise 55. A clock far ahead empties each trash a little."""
    from tests.uploads.life import new_workspace

    settings.RETENTION_MIN_COUNT = 3
    for number in range(6):
        row(new_workspace(), Status.DELETED, deleted_at=ago(days=99), storage_path=f"audio/{number}")
    assert purge_trash()["purged"] == 0
    assert HeldRemoval.objects.get().storage_provider == "local"


def test_orphans_that_are_most_of_a_storage_wait_for_staff(audio_root: Path, settings: Any, db: None) -> None:
    """Promise 55. Also after staff adopted a storage by mistake, and for check_storage --fix."""
    settings.RETENTION_MIN_COUNT = 3
    names = [put_orphan(audio_root, f"audio/6f1d7a4e-2f53-4a55-9f0a-0d8f3f3f7d0{n}/audio.wav") for n in range(6)]
    sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 6}
    with pytest.raises(SystemExit):
        call_command("check_storage", fix=True, stdout=io.StringIO())
    assert stored_names() == set(names)
    answer(HeldRemoval.objects.get(), allowed=True, actor=None)
    assert sweep_orphaned_objects()["removed"] == 6


def test_a_second_folder_is_marked_at_its_first_use(workspace: Workspace, settings: Any, tmp_path: Path) -> None:
    other_folder(settings, tmp_path)
    complete(workspace)
    assert names_in("other") == set()
    assert look_at_marks() == {"held": 0, "unreadable": 0}
    assert {mark.alias for mark in StorageMark.objects.filter(state=State.OURS)} == {"local", "other"}
    assert marks.held_storages() == {}

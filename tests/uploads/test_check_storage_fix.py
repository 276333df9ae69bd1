"""``check_storage --fix``: what is put right, and what is left alone because it changed since it was looked at."""

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from media.inspection import EncodedImage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_png, make_wav
from tests.forked import Prepared
from tests.prepared import migrated_sqlite
from tests.quotas.threads import at_once
from tests.running.programs import environment, ran
from tests.uploads.life import (
    actions,
    arrive,
    assert_books_balance,
    complete,
    new_workspace,
    row,
    stored_names,
)
from tests.uploads.test_check_storage import check_storage, kinds, orphan
from uploads.intake.thumbnails import save_thumbnail
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.models import AudioUpload, Status, StoredObject, UploadEvent
from uploads.objects import ledger
from uploads.processing.runner import process_upload
from uploads.upkeep import inventory
from uploads.upkeep.inventory import Inventory

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

DATA = make_wav()


def twins(workspace: Workspace) -> tuple[AudioUpload, AudioUpload]:
    """Two files of the same bytes, each with an object of its own: the second arrived while the first failed."""
    first = complete(workspace, DATA)
    AudioUpload.objects.update(status=Status.FAILED)
    second = complete(workspace, DATA)
    AudioUpload.objects.filter(pk=first.pk).update(status=Status.COMPLETED)
    assert first.storage_path != second.storage_path
    return first, second


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def is_whole(upload: AudioUpload, root: Path) -> bool:
    upload.refresh_from_db()
    path = root / upload.storage_path
    return path.exists() and path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "deep", "kind"),
    [
        (Path.unlink, False, "missing"),
        (lambda path: path.write_bytes(b"short"), False, "wrong_size"),
        (damage, True, "wrong_hash"),
    ],
)
def test_a_file_is_given_the_whole_object_of_its_twin(
    fault: Callable[[Path], Any], deep: bool, kind: str, workspace: Workspace, audio_root: Path
) -> None:
    """Promise 10. What is wrong is put right, and the check then ends with 0."""
    first, second = twins(workspace)
    lost = audio_root / first.storage_path
    fault(lost)
    checked = check_storage(fix=True, deep=deep)
    assert (checked["code"], kinds(checked), checked["repaired"]) == (0, [kind], 1)
    assert checked["findings"][0]["upload"] == str(first.pk) and checked["findings"][0]["repaired"]
    assert is_whole(first, audio_root) and is_whole(second, audio_root)
    assert first.storage_path == second.storage_path
    event = UploadEvent.objects.filter(upload_id=first.pk).latest("id")
    assert (event.action, event.details["to"]) == ("object_replaced", second.storage_path)
    assert lost.exists() == (kind != "missing"), "what is damaged stays until it is an orphan whose grace is over"
    assert check_storage(deep=True)["findings"] == []
    assert_books_balance(workspace, orphans=True)


def test_a_purge_of_the_twin_leaves_the_object_to_the_file_that_was_repaired(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 8."""
    first, second = twins(workspace)
    (audio_root / first.storage_path).unlink()
    delete_upload(second, actor=None)
    assert check_storage(fix=True)["repaired"] == 1, "a file in the trash can lend its object, too"
    second.refresh_from_db()
    purge_upload(second, actor=None)
    assert is_whole(first, audio_root)


def test_no_object_is_taken_that_is_not_whole_or_not_ours(workspace: Workspace, audio_root: Path) -> None:
    """Promise 38. A damaged twin, or one of another workspace, is no help."""
    first, second = twins(workspace)
    complete(new_workspace(), DATA)
    (audio_root / first.storage_path).unlink()
    damage(audio_root / second.storage_path)
    checked = check_storage(fix=True)
    assert (checked["code"], kinds(checked), checked["repaired"]) == (1, ["missing"], 0)
    before = first.storage_path
    first.refresh_from_db()
    assert first.storage_path == before


def test_what_cannot_be_put_right_is_written_down_once_and_told_each_time(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 10."""
    missing, damaged = complete(workspace), complete(workspace, make_wav(seed=1))
    (audio_root / missing.storage_path).unlink()
    damage(audio_root / damaged.storage_path)
    for _ in range(3):
        assert kinds(check_storage(fix=True, deep=True)) == ["missing", "wrong_hash"]
    assert actions(missing).count("found_missing") == 1
    assert actions(damaged).count("found_damaged") == 1
    (audio_root / damaged.storage_path).write_bytes(b"worse")
    check_storage(fix=True, deep=True)
    assert actions(damaged).count("found_damaged") == 2, "another fault is news"


def test_a_thumbnail_that_is_missing_is_forgotten(workspace: Workspace, audio_root: Path) -> None:
    upload = complete(workspace, thumbnail=make_png())
    (audio_root / upload.thumbnail_path).unlink()
    checked = check_storage(fix=True)
    assert (checked["code"], kinds(checked), checked["repaired"]) == (0, ["missing_thumbnail"], 1)
    upload.refresh_from_db()
    assert upload.thumbnail_path == "" and actions(upload)[-1] == "thumbnail_removed"
    assert check_storage()["findings"] == []


def test_an_orphan_goes_when_its_grace_is_over_and_not_before(audio_root: Path, db: None) -> None:
    """Promise 9, Promise 17. Its own age does not count: after an older database was restored, all seem to be old."""
    path = orphan(audio_root)
    for _ in range(2):
        checked = check_storage(fix=True)
        assert (checked["code"], checked["repaired"], path.exists()) == (1, 0, True)
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") - timedelta(hours=25))
    checked = check_storage(fix=True)
    assert (checked["code"], kinds(checked), checked["repaired"]) == (0, ["orphaned"], 1)
    assert not path.exists() and not StoredObject.objects.unneeded().exists()


# What changes meanwhile


def before_the_lock(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], Any]) -> None:
    """``happens`` once, after everything was looked at again and before the lock is taken."""
    lock, left = ledger.lock, [happens]

    def locked(pks: Any) -> Any:
        if left:
            at_once(left.pop())
        return lock(pks)

    monkeypatch.setattr(ledger, "lock", locked)


@pytest.mark.race
def test_an_object_that_comes_back_meanwhile_is_left_in_its_place(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. Somebody restores it from a backup while the check runs."""
    first, _ = twins(workspace)
    path = audio_root / first.storage_path
    path.unlink()
    before_the_lock(monkeypatch, lambda: path.write_bytes(DATA))
    checked = check_storage(fix=True)
    assert (checked["code"], checked["findings"]) == (0, [])
    first.refresh_from_db()
    assert audio_root / first.storage_path == path
    assert actions(first)[-1] == "completed"


@pytest.mark.race
@pytest.mark.parametrize("change", ["deleted", "purged", "claimed"])
def test_a_row_that_moves_meanwhile_is_judged_anew(
    change: str, workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 9, Promise 10. In the trash it is still put right; purged, or in a worker's hands, it is left alone."""
    first, second = twins(workspace)
    (audio_root / first.storage_path).unlink()
    theirs = AudioUpload.objects.get(pk=first.pk)

    def move() -> None:
        if change == "claimed":
            AudioUpload.objects.filter(pk=first.pk).update(status=Status.PROCESSING)
            return
        delete_upload(theirs, actor=None)
        if change == "purged":
            purge_upload(theirs, actor=None)

    before_the_lock(monkeypatch, move)
    checked = check_storage(fix=True)
    assert checked["code"] == 0
    assert checked["repaired"] == (1 if change == "deleted" else 0)
    if change == "deleted":
        undelete_upload(AudioUpload.objects.get(pk=first.pk), actor=None)
        assert is_whole(first, audio_root)
    elif change == "claimed":
        first.refresh_from_db()
        assert first.storage_path != second.storage_path
    assert is_whole(second, audio_root)


@pytest.mark.race
def test_a_twin_that_is_purged_meanwhile_lends_nothing(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8, Promise 10. Its object was whole when it was read, and is gone when the lock is there."""
    first, second = twins(workspace)
    (audio_root / first.storage_path).unlink()
    delete_upload(second, actor=None)
    before_the_lock(monkeypatch, lambda: purge_upload(second, actor=None))
    checked = check_storage(fix=True)
    assert (checked["code"], checked["repaired"]) == (1, 0)
    first.refresh_from_db()
    assert first.storage_path != second.storage_path
    assert actions(first)[-1] == "found_missing"


@pytest.mark.race
def test_repairs_and_purges_at_once_never_leave_a_file_without_its_object(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 8, Promise 10. Whoever comes first, the file that was repaired keeps the object that it was given."""
    for _ in range(8):
        first, second = twins(workspace)
        (audio_root / first.storage_path).unlink()
        delete_upload(second, actor=None)
        at_once(
            lambda: list(Inventory(fix=True).look_at_files()),
            lambda: purge_upload(second, actor=None),  # noqa: B023
        )
        first.refresh_from_db()
        repaired = "object_replaced" in actions(first)
        assert is_whole(first, audio_root) == repaired
        AudioUpload.objects.filter(pk=first.pk).delete()


@pytest.mark.race
def test_two_checks_at_once_have_one_effect(workspace: Workspace, audio_root: Path) -> None:
    """Promise 10. The second one finds it put right, or does not find it."""
    first, _ = twins(workspace)
    lost = complete(workspace, make_wav(seed=5), thumbnail=make_png())
    for name in (first.storage_path, lost.storage_path, lost.thumbnail_path):
        (audio_root / name).unlink()
    path = orphan(audio_root)
    check = Inventory(fix=True).look_at_objects
    list(check())
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") - timedelta(hours=25))
    outcomes = at_once(*(lambda: check_both(Inventory(fix=True)) for _ in range(4)))
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert actions(first).count("object_replaced") == 1
    assert actions(lost).count("found_missing") == actions(lost).count("thumbnail_removed") == 1
    assert is_whole(first, audio_root) and not path.exists()


def check_both(found: Inventory) -> list[Any]:
    return [*found.look_at_files(), *found.look_at_objects()]


@pytest.mark.race
def test_a_thumbnail_that_is_replaced_meanwhile_is_kept(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. It was missing for a moment, between the old one and the new."""
    upload = complete(workspace, thumbnail=make_jpeg())
    (audio_root / upload.thumbnail_path).unlink()
    theirs, stat, left = AudioUpload.objects.get(pk=upload.pk), inventory.stat_or_none, [1]

    def replace_after(alias: str, name: str) -> Any:
        seen = stat(alias, name)
        if name == upload.thumbnail_path and left:
            left.pop()
            image = EncodedImage(make_jpeg(), "jpg", "image/jpeg", 64, 48)
            at_once(lambda: save_thumbnail(theirs, image))
        return seen

    monkeypatch.setattr(inventory, "stat_or_none", replace_after)
    assert check_storage(fix=True)["findings"] == []
    upload.refresh_from_db()
    assert upload.thumbnail_path in stored_names()


@pytest.mark.race
def test_an_orphan_that_a_row_needs_after_all_is_kept(
    workspace: Workspace, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10, Promise 17. A row of the newer database is put back while the check runs."""
    path = orphan(audio_root)
    name = str(path.relative_to(audio_root))
    check_storage(fix=True)
    StoredObject.objects.unneeded().update(unneeded_since=F("unneeded_since") - timedelta(hours=25))
    remove = inventory.remove_unneeded

    def needed_first(*args: Any) -> bool:
        at_once(lambda: row(workspace, Status.COMPLETED, storage_path=name, file_size=path.stat().st_size))
        return remove(*args)

    monkeypatch.setattr(inventory, "remove_unneeded", needed_first)
    assert check_storage(fix=True)["findings"] == []
    assert path.exists()


@pytest.mark.race
def test_uploads_and_workers_go_on_while_everything_is_checked_and_put_right(
    workspace: Workspace, audio_root: Path
) -> None:
    """Promise 9, Promise 10. Nothing of theirs is called a fault, and nothing is touched."""

    def work() -> None:
        for number in range(6):
            upload = arrive(workspace, make_wav(seed=number % 3))
            process_upload(str(upload.pk))
            delete_upload(AudioUpload.objects.get(pk=upload.pk), actor=None)
            purge_upload(AudioUpload.objects.get(pk=upload.pk), actor=None)
            process_upload(str(arrive(workspace, make_wav(seed=number % 3)).pk))

    def check() -> list[Any]:
        return [finding for _ in range(10) for finding in check_both(Inventory(fix=True, deep=True, parallel=2))]

    worked, checked, again = at_once(work, check, check)
    assert (worked, checked, again) == (None, [], [])
    assert_books_balance(workspace)


# As a process


def test_exit_codes_on_postgresql(workspace: Workspace, audio_root: Path, prepared: Prepared) -> None:
    """Promise 10."""
    upload = complete(workspace)
    assert prepared.manage("check_storage", "--deep").returncode == 0
    (audio_root / upload.storage_path).unlink()
    done = prepared.manage("check_storage", "--fix")
    assert done.returncode == 1 and f"missing: {upload.storage_path}" in done.stdout


PROGRAM = """
import sys
from pathlib import Path
import django; django.setup()
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from quotas.workspaces import create_workspace
from uploads.intake.files import store_audio_file

def check(**options):
    try:
        call_command("check_storage", parallel=4, **options)
    except SystemExit as ended:
        return ended.code
    return 0

assert connection.vendor == "sqlite"
user = User.objects.create_user("olga")
workspace = create_workspace(user, name="Shelf")
for _ in range(2):
    stored = store_audio_file(sys.argv[1], workspace=workspace, owner=user)
codes = [check(deep=True)]
(settings.AUDIO_STORAGE_PATH / stored.audio_path).unlink()
codes += [check(), check(fix=True), check(deep=True)]
assert codes == [0, 1, 0, 0], codes
"""


def test_it_finds_and_puts_right_on_the_embedded_database_too(tmp_path: Path) -> None:
    """Promise 10."""
    (tmp_path / "a.wav").write_bytes(DATA)
    env = environment(
        VAR_DIR=migrated_sqlite(tmp_path / "var"),
        CELERY_BROKER_URL="memory://",
        DJANGO_SETTINGS_MODULE="audiotricks.settings",
    )
    done = ran([sys.executable, "-c", PROGRAM, str(tmp_path / "a.wav")], env)
    assert done.returncode == 0, done.stderr
    assert "put right: missing" in done.stdout

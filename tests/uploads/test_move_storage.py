"""``move_storage`` between two folders: what goes with a file, what stays behind, what is told of it."""

import io
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from objectstore.base import ObjectStat
from objectstore.errors import CredentialsRefused, ObjectArchived, StorageFull, TransientStorageError
from objectstore.local import LocalStorage
from objectstore.retry import RetryPolicy, call_with_retry
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.factories import UserFactory, client_for
from tests.uploads.life import (
    actions,
    age_all,
    arrive,
    complete,
    counted,
    names_in,
    new_workspace,
    receiving,
    sweep_after_grace,
    unneeded_names,
)
from tests.uploads.moved import assert_all_lies_in, move, other_folder, read
from uploads.lifecycle import sentences
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, Status, StoredObject, UploadEvent
from uploads.objects import copying
from uploads.objects.marks import look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep import moving
from uploads.upkeep.moving import Outcome, StorageMove

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding", "other")]


AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0.0, max_delay=0.0)


@pytest.fixture
def other(tmp_path: Path, settings: Any, transactional_db: None) -> Path:
    root = other_folder(settings, tmp_path)
    look_at_mark("other")
    return root


def command(**options: Any) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("move_storage", **{"source": "local", "target": "other", **options}, stdout=out, stderr=err)
    except SystemExit as ended:
        code = int(str(ended.code))
    return code, out.getvalue(), err.getvalue()


def test_files_go_with_their_pictures_and_nothing_stays_behind(workspace: Workspace, audio_root: Path) -> None:
    uploads = [complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg()) for seed in range(3)]
    before = counted(workspace)
    assert {result.outcome for result in move()} == {Outcome.MOVED}
    assert_all_lies_in("other", but_not_in="local")
    for upload in uploads:
        was = dict(vars(upload))
        upload.refresh_from_db()
        assert upload.storage_provider == "other"
        assert (upload.storage_path, upload.thumbnail_path) == (was["storage_path"], was["thumbnail_path"])
        assert actions(upload)[-1] == "moved"
        event = UploadEvent.objects.get(upload_id=upload.pk, action="moved")
        assert event.details == {"from": "local", "to": "other"}
        assert "from the storage “local” to the storage “other”" in sentences.describe(event)
    assert counted(workspace) == before
    assert StoredObject.objects.unneeded().filter(storage_provider="local").count() == 6


def test_there_and_back_again(workspace: Workspace) -> None:
    complete(workspace, thumbnail=make_jpeg())
    move()
    assert [result.outcome for result in move("other", "local")] == [Outcome.MOVED]
    assert_all_lies_in("local", but_not_in="other")


def test_those_who_share_an_object_move_together(workspace: Workspace) -> None:
    """Promise 11. One object, three rows, each with a picture of its own; one of them in the trash."""
    uploads = [complete(workspace, make_wav(), thumbnail=make_jpeg(width=20 + number)) for number in range(3)]
    assert len({upload.storage_path for upload in uploads}) == 1
    delete_upload(uploads[1], actor=None)
    (result,) = move()
    assert (result.outcome, result.files, result.size) == (Outcome.MOVED, 3, uploads[0].file_size)
    assert_all_lies_in("other", but_not_in="local")
    assert len(set(AudioUpload.objects.values_list("storage_url", flat=True))) == 1
    undelete_upload(uploads[1], actor=None)


@pytest.mark.parametrize("status", [Status.UPLOADED, Status.FAILED, Status.DELETED, Status.COMPLETED])
def test_files_move_in_every_state_at_rest(status: Status, workspace: Workspace) -> None:
    upload = arrive(workspace)
    AudioUpload.objects.filter(pk=upload.pk).update(status=status)
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert_all_lies_in("other", but_not_in="local")


@pytest.mark.parametrize("status", [Status.VALIDATING, Status.PROCESSING, Status.ARCHIVING, Status.RESTORING])
def test_what_is_on_its_way_is_left_to_the_next_run_and_told(status: Status, workspace: Workspace) -> None:
    """Promise 9. Its worker reads the object that it knows."""
    busy, at_rest = arrive(workspace, make_wav(seed=1)), complete(workspace, make_wav(seed=2))
    AudioUpload.objects.filter(pk=busy.pk).update(status=status)
    code, out, err = command()
    assert code == 1
    assert "Moved 1 file," in out and "Left 1 object that is being worked on" in out
    assert f"left for the next run, is being worked on: {busy.storage_path}" in err
    assert AudioUpload.objects.get(pk=at_rest.pk).storage_provider == "other"
    assert AudioUpload.objects.get(pk=busy.pk).storage_provider == "local"
    AudioUpload.objects.filter(pk=busy.pk).update(status=Status.COMPLETED)
    assert command()[0] == 0
    assert_all_lies_in("other", but_not_in="local")


def test_what_a_worker_puts_down_before_the_end_moves_in_the_same_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = sorted(
        [arrive(workspace, make_wav(seed=1)), arrive(workspace, make_wav(seed=2))], key=lambda row: row.storage_path
    )
    take_upload(str(first.pk))
    switch = StorageMove._switch

    def put_down_meanwhile(self: StorageMove, name: Any, *args: Any) -> int:
        AudioUpload.objects.filter(pk=first.pk).update(status=Status.COMPLETED)
        return switch(self, name, *args)

    monkeypatch.setattr(StorageMove, "_switch", put_down_meanwhile)
    assert [result.name for result in move()] == [second.storage_path, first.storage_path]
    assert_all_lies_in("other", but_not_in="local")


def test_rows_without_an_object_stay(workspace: Workspace) -> None:
    waiting = receiving(workspace, expired=False)
    gone = complete(workspace)
    AudioUpload.objects.filter(pk=gone.pk).update(status=Status.PURGED, stored_object=None)
    code, out, _err = command()
    assert code == 0 and "Moved 0 files" in out and "1 file is still arriving" in out
    assert set(AudioUpload.objects.values_list("storage_provider", flat=True)) == {"local"}
    assert AudioUpload.objects.filter(pk=waiting.pk).exists()


def test_one_workspace_alone(workspace: Workspace) -> None:
    others = new_workspace()
    complete(workspace), complete(others)
    code, out, _err = command(workspace=workspace.slug)
    assert code == 0 and "Moved 1 file," in out
    assert AudioUpload.objects.get(workspace=workspace).storage_provider == "other"
    assert AudioUpload.objects.get(workspace=others).storage_provider == "local"


def test_a_limit_and_a_second_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "BATCH_SIZE", 2)
    for seed in range(5):
        complete(workspace, make_wav(seed=seed))
    assert "Moved 3 files" in command(limit=3)[1]
    assert AudioUpload.objects.filter(storage_provider="other").count() == 3
    assert "Moved 2 files" in command()[1]
    assert_all_lies_in("other", but_not_in="local")


def test_a_dry_run_moves_nothing_and_says_how_much_there_is(workspace: Workspace, other: Path) -> None:
    size = complete(workspace, make_wav()).file_size
    complete(workspace, make_wav())
    complete(workspace, make_wav(seed=1))
    move_of = StorageMove("local", "other").extent()
    assert (move_of.objects, move_of.files, move_of.size) == (2, 3, 2 * size)
    code, out, _err = command(dry_run=True)
    assert code == 0 and "Would move 3 files" in out
    assert names_in("other") == set()
    assert not StoredObject.objects.filter(storage_provider="other").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "local"}, "same place"),
        ({"target": "mirror"}, "same place"),
        ({"target": "nowhere"}, "not configured"),
        ({"source": "default"}, "not one for audio"),
        ({"workspace": "nowhere"}, "no workspace"),
        ({"parallel": 0}, "--parallel"),
        ({"limit": 0}, "--limit"),
    ],
)
def test_wrong_usage_is_told(options: dict[str, Any], says: str, settings: Any, audio_root: Path, db: None) -> None:
    backend = {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": audio_root}}
    settings.STORAGES = {**settings.STORAGES, "mirror": backend}
    with pytest.raises(CommandError, match=says) as raised:
        command(**options)
    assert raised.value.returncode == 2


def test_a_damaged_or_missing_object_stays_where_it_is_and_is_told(workspace: Workspace, audio_root: Path) -> None:
    """Promise 10. What is not what arrived is never carried over as if it were."""
    damaged, missing, whole = (complete(workspace, make_wav(seed=seed)) for seed in range(3))
    path = audio_root / damaged.storage_path
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (audio_root / missing.storage_path).unlink()
    code, out, err = command()
    assert code == 1 and "2 objects FAILED." in out
    assert f"FAILED: {damaged.storage_path}: The stored object's SHA-256 is" in err
    assert f"FAILED: {missing.storage_path}: The stored object is missing" in err
    assert sorted(names_in("other")) == [whole.storage_path]
    assert path.exists()
    assert AudioUpload.objects.get(pk=damaged.pk).storage_provider == "local"


def test_a_picture_that_is_missing_holds_nothing_up(workspace: Workspace, audio_root: Path) -> None:
    upload = complete(workspace, thumbnail=make_jpeg())
    (audio_root / upload.thumbnail_path).unlink()
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert names_in("other") == {upload.storage_path}


def test_what_is_corrupted_on_its_way_is_read_once_more(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 14. The bytes in the other storage are those that arrived."""
    complete(workspace)
    open_range = LocalStorage.open_range

    def corrupt(self: LocalStorage, name: str, *args: Any) -> Any:
        monkeypatch.setattr(LocalStorage, "open_range", open_range)
        return io.BytesIO(b"x" + make_wav()[1:])

    monkeypatch.setattr(LocalStorage, "open_range", corrupt)
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert read(AudioUpload.objects.get()) == make_wav()


def test_what_the_other_storage_has_otherwise_than_written_is_not_used(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, other: Path
) -> None:
    """Promise 1. Its own word of size and checksum is compared before a row names it."""
    complete(workspace)
    stat = LocalStorage.stat

    def another(self: LocalStorage, name: str) -> ObjectStat:
        found = stat(self, name)
        if self.root != other:
            return found
        return replace(found, checksums={"md5": "0" * 32})

    monkeypatch.setattr(LocalStorage, "stat", another)
    code, _out, err = command()
    assert code == 1 and "does not hold what was written" in err
    monkeypatch.undo()
    assert_all_lies_in("local", but_not_in="other")


def test_an_archived_object_is_told_and_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = complete(workspace)

    def refuse(self: LocalStorage, name: str, *args: Any) -> Any:
        raise ObjectArchived

    monkeypatch.setattr(LocalStorage, "open_range", refuse)
    code, out, err = command()
    assert code == 1 and "has to be restored before it can be read" in out
    assert f"left, has to be restored first: {upload.storage_path}" in err


@pytest.mark.parametrize("error", [StorageFull(), CredentialsRefused()])
def test_what_would_fail_for_every_other_object_ends_the_run(
    error: Exception, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5. Nothing is half done, and the next run goes on."""
    for seed in range(5):
        complete(workspace, make_wav(seed=seed))
    tried: list[str] = []

    def save(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        tried.append(name)
        raise error

    monkeypatch.setattr(LocalStorage, "save", save)
    code, out, _err = command(parallel=1)
    assert code == 1 and "Gave up" in out
    assert len(tried) < 5
    monkeypatch.undo()
    assert_all_lies_in("local", but_not_in="other")


def test_a_storage_that_stays_away_ends_the_run_and_one_that_comes_back_does_not(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    for seed in range(6):
        complete(workspace, make_wav(seed=seed))
    save, calls = LocalStorage.save, [0]
    monkeypatch.setattr(copying, "call_with_retry", lambda function, *args: function(*args))

    def every_second(self: LocalStorage, *args: Any, **options: Any) -> str:
        calls[0] += 1
        if calls[0] % 2:
            raise TransientStorageError
        return save(self, *args, **options)

    monkeypatch.setattr(LocalStorage, "save", every_second)
    code, out, _err = command(parallel=1)
    assert code == 1 and "Gave up" not in out and "3 objects FAILED." in out

    def always(self: LocalStorage, *args: Any, **options: Any) -> str:
        raise TransientStorageError

    monkeypatch.setattr(LocalStorage, "save", always)
    code, out, _err = command(parallel=1)
    assert code == 1 and "Gave up" in out


def test_what_was_moved_goes_after_its_grace_period(workspace: Workspace, audio_root: Path) -> None:
    """Promise 16, Promise 51, Promise 57. A backup that began before, or a signed URL, finds it until then."""
    upload = complete(workspace, thumbnail=make_jpeg())
    assert "Left 1 moved object where it was" in command()[1]
    age_all(audio_root)
    assert sweep_orphaned_objects() == {"noted": 0, "removed": 0, "held": 0}
    assert (audio_root / upload.storage_path).exists()
    assert sweep_after_grace(audio_root)["removed"] == 2
    assert names_in("local") == set()
    assert_all_lies_in("other", but_not_in="local")


def test_three_thousand_files_that_share_an_object_are_switched_by_as_many_queries_as_three(
    workspace: Workspace,
) -> None:
    upload = complete(workspace)

    def queries_of_a_move(source: str, target: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            (result,) = move(source, target)
        assert result.outcome is Outcome.MOVED
        assert result.files == AudioUpload.objects.count()
        return len(queries)

    few = queries_of_a_move("local", "other")
    upload.refresh_from_db()
    copies = [AudioUpload.objects.get(pk=upload.pk) for _ in range(600)]
    for copy in copies:
        copy.pk = uuid.uuid4()
    AudioUpload.objects.bulk_create(copies)
    # One more batch of events, and the way back finds the object that is still there.
    assert queries_of_a_move("other", "local") <= few + 3
    assert_all_lies_in("local", but_not_in="other")


def test_an_object_that_nobody_knows_is_neither_used_nor_overwritten_before_the_sweep_has_seen_it(
    workspace: Workspace, other: Path
) -> None:
    """Promise 12, Promise 17. Somebody may be about to remove it; from when it is noted on, it is ours to use."""
    upload = complete(workspace)
    there = other / upload.storage_path
    there.parent.mkdir(parents=True)
    there.write_bytes(make_wav())
    code, out, _err = command()
    assert code == 1 and "whose name is taken by an unknown one" in out
    age_all(other)
    sweep_orphaned_objects()
    inode = there.stat().st_ino
    assert command()[0] == 0
    assert there.stat().st_ino == inode
    assert_all_lies_in("other", but_not_in="local")


def test_a_damaged_left_over_is_written_anew(workspace: Workspace, other: Path) -> None:
    upload = complete(workspace)
    there = other / upload.storage_path
    there.parent.mkdir(parents=True)
    there.write_bytes(make_wav()[:-1] + b"x")
    age_all(other)
    sweep_orphaned_objects()
    assert command()[0] == 0
    assert read(AudioUpload.objects.get()) == make_wav()
    assert_all_lies_in("other", but_not_in="local")


def test_a_moved_file_lives_on(workspace: Workspace, settings: Any) -> None:
    """Promise 7, Promise 28. Heard over HTTP, shown, deleted, purged: nothing knows that it lay elsewhere."""
    upload = complete(workspace, thumbnail=make_jpeg())
    move()
    client = client_for(UserFactory(is_staff=True, is_superuser=True))
    answer = client.get(f"/api/v1/uploads/{upload.pk}/content/")
    assert (answer.status_code, b"".join(answer.streaming_content)) == (200, make_wav())
    picture = client.get(f"/api/v1/uploads/{upload.pk}/thumbnail/")
    assert picture.status_code == 200
    assert b"".join(picture.streaming_content)
    upload.refresh_from_db()
    delete_upload(upload, actor=None)
    purge_upload(upload, actor=None)
    assert not AudioUpload.objects.exists()
    assert names_in("other") == set()
    assert names_in("local") == unneeded_names("local")
    assert counted(workspace) == (0, 0, 0, 0)


def test_a_file_that_arrived_before_the_setting_changed_stays_readable_and_can_follow(
    workspace: Workspace, settings: Any
) -> None:
    settings.AUDIO_STORAGE = "local"
    old = complete(workspace, make_wav(seed=1))
    settings.AUDIO_STORAGE = "other"
    new = complete(workspace, make_wav(seed=2))
    assert (old.storage_provider, new.storage_provider) == ("local", "other")
    client = client_for(UserFactory(is_staff=True, is_superuser=True))
    for upload, data in ((old, make_wav(seed=1)), (new, make_wav(seed=2))):
        assert b"".join(client.get(f"/api/v1/uploads/{upload.pk}/content/").streaming_content) == data
    assert command()[0] == 0
    assert_all_lies_in("other", but_not_in="local")


def test_it_says_that_new_files_still_go_to_the_source(workspace: Workspace, settings: Any) -> None:
    assert "New files still go to local" in command()[2]
    settings.AUDIO_STORAGE = "other"
    assert "New files" not in command()[2]


def test_stopped_it_ends_with_whole_objects_and_goes_on_later(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        complete(workspace, make_wav(seed=seed))
    run = StorageMove("local", "other")
    results = run.run()
    next(results)
    run.stop()
    assert all(result.outcome is Outcome.MOVED for result in results)
    left = AudioUpload.objects.filter(storage_provider="local").count()
    assert 0 < left < 6
    assert run.was_stopped
    move()
    assert_all_lies_in("other", but_not_in="local")


def test_progress_counts_each_byte_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    size = complete(workspace, make_wav(seconds=5)).file_size
    save, failed = LocalStorage.save, [False]

    def fail_once(self: LocalStorage, name: str, content: Any, *args: Any, **options: Any) -> str:
        if not failed[0]:
            failed[0] = True
            next(iter(content.chunks()))
            raise TransientStorageError
        return save(self, name, content, *args, **options)

    monkeypatch.setattr(LocalStorage, "save", fail_once)
    monkeypatch.setattr(copying, "READ_BYTES", 1000)
    carried: list[int] = []
    monkeypatch.setattr(copying, "call_with_retry", partial(call_with_retry, policy=AT_ONCE))
    list(StorageMove("local", "other", on_bytes=carried.append).run())
    assert sum(carried) == size and min(carried) < 0

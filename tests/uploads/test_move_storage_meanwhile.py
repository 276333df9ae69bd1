"""A move while people and workers use the files: nothing is lost, nothing is refused, what they do is kept."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from media.inspection import EncodedImage, reencode_image
from objectstore import get_storage
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_png, make_wav
from tests.factories import UserFactory, client_for
from tests.quotas.threads import at_once
from tests.uploads.life import age_all, ago, arrive, complete, counted, names_in, unneeded_names
from tests.uploads.moved import assert_all_lies_in, assert_all_readable, move, other_folder, read
from uploads.actions.edits import RENAME
from uploads.intake import thumbnails
from uploads.intake.thumbnails import remove_thumbnail, save_thumbnail, set_thumbnail
from uploads.lifecycle.trash import delete_upload, purge_upload, undelete_upload
from uploads.lifecycle.work import take_upload
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects.marks import look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload
from uploads.serving.content import open_object
from uploads.upkeep.inventory import Inventory
from uploads.upkeep.moving import Outcome, StorageMove
from uploads.upkeep.verification import verify_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding", "other")]

ANOTHER = reencode_image(make_jpeg(width=20))
AS_PNG = reencode_image(make_png())


@pytest.fixture
def other(tmp_path: Path, settings: Any, transactional_db: None) -> Path:
    root = other_folder(settings, tmp_path)
    look_at_mark("other")
    return root


@pytest.fixture(params=["copied", "switched"])
def meanwhile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Have something done once: before the owners of an object are switched, or after, before pictures follow."""

    def do(act: Callable[[], Any]) -> None:
        if request.param == "copied":
            first(monkeypatch, StorageMove, "_switch", act)
        else:
            first(monkeypatch, StorageMove, "_pictures", act)

    return do


def first(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, act: Callable[[], Any]) -> None:
    real = getattr(target, name)

    def act_and_call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(target, name, real)
        act()
        return real(*args, **kwargs)

    monkeypatch.setattr(target, name, act_and_call)


def fresh(upload: AudioUpload) -> AudioUpload:
    return AudioUpload.objects.get(pk=upload.pk)


def picture(upload: AudioUpload) -> bytes:
    upload = fresh(upload)
    assert upload.thumbnail_object is not None
    with get_storage(upload.thumbnail_object.storage_provider).open_range(upload.thumbnail_path) as file:
        return file.read()


def sweep_what_is_left(*roots: Path) -> None:
    """As if the grace period of all that nobody needs were over."""
    for _ in range(2):
        for root in roots:
            age_all(root)
        StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
        sweep_orphaned_objects()


def test_deleted_and_taken_out_of_the_trash_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    upload = complete(workspace, thumbnail=make_jpeg())
    meanwhile(lambda: delete_upload(fresh(upload), actor=None))
    move()
    assert fresh(upload).status == Status.DELETED
    first_books = counted(workspace)
    assert first_books[:2] == (0, 0)
    undelete_upload(fresh(upload), actor=None)
    assert_all_lies_in("other", but_not_in="local")


def test_renamed_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    upload = complete(workspace)
    meanwhile(lambda: RENAME.run(fresh(upload), actor=None, name="else.wav"))
    move()
    assert fresh(upload).original_filename == "else.wav"
    assert_all_lies_in("other", but_not_in="local")


def test_purged_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    """Promise 7. Neither storage keeps anything of it, and it does not come back."""
    upload = complete(workspace, thumbnail=make_jpeg())
    delete_upload(upload, actor=None)
    meanwhile(lambda: purge_upload(fresh(upload), actor=None))
    move()
    assert not AudioUpload.objects.exists()
    assert names_in("other") == set()
    assert names_in("local") == unneeded_names("local")


def test_one_of_two_sharers_purged_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    """Promise 8. The other one keeps the object."""
    kept, gone = complete(workspace, thumbnail=make_jpeg()), complete(workspace, thumbnail=make_jpeg())
    delete_upload(gone, actor=None)
    meanwhile(lambda: purge_upload(fresh(gone), actor=None))
    move()
    assert read(fresh(kept)) == make_wav()
    assert_all_readable()


def test_taken_by_a_worker_meanwhile_it_is_left_to_the_next_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 33. The worker goes on with the object that it has; the copy is used later."""
    upload = arrive(workspace)
    first(monkeypatch, StorageMove, "_switch", lambda: take_upload(str(upload.pk)))
    assert [result.outcome for result in move()] == [Outcome.BUSY]
    assert read(fresh(upload)) == make_wav()
    AudioUpload.objects.update(status=Status.UPLOADED, claimable_at=ago(seconds=1))
    process_upload(str(upload.pk))
    assert fresh(upload).status == Status.COMPLETED
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert_all_lies_in("other", but_not_in="local")


def test_processed_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    upload = arrive(workspace)
    meanwhile(lambda: process_upload(str(upload.pk)))
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert fresh(upload).status == Status.COMPLETED
    assert_all_lies_in("other", but_not_in="local")


def test_a_twin_that_begins_to_share_the_object_meanwhile_moves_with_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 11. It came after the object was copied, with a picture of its own."""
    original = complete(workspace, thumbnail=make_jpeg())
    twin: list[AudioUpload] = []

    def second_arrives() -> None:
        twin.append(complete(workspace, thumbnail=make_jpeg(width=20)))

    first(monkeypatch, StorageMove, "_switch", second_arrives)
    results = move()
    assert twin[0].storage_path == original.storage_path
    assert (results[0].outcome, results[0].files) == (Outcome.MOVED, 2)
    assert_all_lies_in("other", but_not_in="local")


@pytest.mark.parametrize("had_one", [True, False])
@pytest.mark.parametrize("image", [ANOTHER, AS_PNG], ids=["same name", "another name"])
def test_a_picture_set_meanwhile_is_kept(
    image: EncodedImage, had_one: bool, workspace: Workspace, meanwhile: Any, audio_root: Path, other: Path
) -> None:
    upload = complete(workspace, thumbnail=make_jpeg() if had_one else None)
    meanwhile(lambda: set_thumbnail(fresh(upload), image, actor=None))
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert picture(upload) == image.data
    sweep_what_is_left(audio_root, other)
    assert picture(upload) == image.data
    assert_all_lies_in("other", but_not_in="local")


def test_a_picture_removed_meanwhile_stays_away(
    workspace: Workspace, meanwhile: Any, audio_root: Path, other: Path
) -> None:
    upload = complete(workspace, thumbnail=make_jpeg())
    meanwhile(lambda: remove_thumbnail(fresh(upload)))
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert fresh(upload).thumbnail_path == ""
    sweep_what_is_left(audio_root, other)
    assert_all_lies_in("other", but_not_in="local")


def test_a_picture_that_is_being_stored_while_its_file_moves_follows_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row is switched after the storage was chosen."""
    upload = complete(workspace, thumbnail=make_jpeg())
    first(monkeypatch, thumbnails, "thumbnail_name", move)
    save_thumbnail(fresh(upload), ANOTHER)
    assert picture(upload) == ANOTHER.data
    assert_all_lies_in("other", but_not_in="local")


def test_what_the_sweep_took_before_the_switch_is_copied_anew(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path, other: Path
) -> None:
    """Promise 8. The sweep held the copy for an orphan that is old enough, and no row ever names what it removed."""
    upload = complete(workspace, thumbnail=make_jpeg())
    first(monkeypatch, StorageMove, "_switch", lambda: sweep_what_is_left(audio_root, other))
    assert [result.outcome for result in move()] == [Outcome.MOVED]
    assert read(fresh(upload)) == make_wav()
    assert_all_lies_in("other", but_not_in="local")


def test_verified_meanwhile(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 10. What is not there any more was not missing: it is read where it lies now."""
    upload = complete(workspace)
    first(monkeypatch, LocalStorage, "open_range", move)
    verify_upload(upload)
    assert (upload.storage_provider, upload.verified_at is not None) == ("other", True)


def test_the_storage_check_finds_nothing_wrong_meanwhile(workspace: Workspace, meanwhile: Any) -> None:
    """Promise 10."""
    for seed in range(3):
        complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg())
    found: list[Any] = []

    def check() -> None:
        inventory = Inventory(deep=True)
        found.extend([*inventory.look_at_files(), *inventory.look_at_objects()])

    meanwhile(check)
    move()
    assert found == []


def test_what_was_opened_before_is_read_to_its_end(workspace: Workspace) -> None:
    upload = complete(workspace, make_wav(seconds=5))
    with open_object(upload, 0, upload.file_size) as file:
        head = file.read(1000)
        move()
        assert head + file.read() == make_wav(seconds=5)


def test_who_read_the_row_before_finds_the_object_after(workspace: Workspace) -> None:
    upload = complete(workspace)
    before = fresh(upload)
    move()
    with open_object(before, 0, before.file_size) as file:
        assert file.read() == make_wav()


def test_listeners_hear_whole_files_all_the_time(workspace: Workspace) -> None:
    """Promise 15. There and back, while four clients read all files over and over."""
    uploads = {str(complete(workspace, make_wav(seed=seed)).pk): make_wav(seed=seed) for seed in range(6)}
    user, ended, heard = UserFactory(is_staff=True, is_superuser=True), threading.Event(), [0]

    def listen() -> None:
        client = client_for(user)
        while not ended.is_set():
            for pk, data in uploads.items():
                answer = client.get(f"/api/v1/uploads/{pk}/content/")
                assert (answer.status_code, b"".join(answer.streaming_content)) == (200, data)
                heard[0] += 1

    def move_to_and_fro() -> None:
        try:
            for source, target in (("local", "other"), ("other", "local")):
                assert {result.outcome for result in move(source, target, parallel=2)} == {Outcome.MOVED}
        finally:
            ended.set()

    outcomes = at_once(move_to_and_fro, *[listen] * 4)
    assert outcomes == [None] * 5
    assert heard[0] > 0
    assert_all_lies_in("local", but_not_in="other")


@pytest.mark.parametrize("back", [False, True], ids=["the same way", "against each other"])
def test_two_runs_at_once_lose_nothing(back: bool, workspace: Workspace, audio_root: Path, other: Path) -> None:
    """Promise 33. Whoever is second leaves an object to the first one."""
    data = {
        complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg()).pk: make_wav(seed=seed) for seed in range(8)
    }
    second = (lambda: move("other", "local", parallel=2)) if back else (lambda: move(parallel=2))
    outcomes = at_once(lambda: move(parallel=2), second)
    assert all(isinstance(outcome, list) for outcome in outcomes), outcomes
    assert_all_readable()
    sweep_what_is_left(audio_root, other)
    assert_all_readable()
    for upload in AudioUpload.objects.all():
        assert read(upload) == data[upload.pk]

"""A move that is killed at each of its steps: every file stays readable and whole, and the next run goes on."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from objectstore import get_storage
from objectstore.capabilities import Signer
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.forked import Prepared
from tests.uploads import dying
from tests.uploads.life import age_all, ago, complete, counted
from tests.uploads.moved import assert_all_lies_in, assert_all_readable, move, other_folder
from tests.uploads.sending import files_under
from uploads.models import AudioUpload, OrphanedObject
from uploads.objects import carrying
from uploads.objects.carrying import Carrier, remove_left_over
from uploads.objects.marks import look_at_mark
from uploads.upkeep import moving
from uploads.upkeep.moving import Outcome, StorageMove
from uploads.upkeep.sweeps import sweep_orphaned_objects, sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding", "other")]

LocalStorage_save = LocalStorage.save


class SomeSigner(Signer):
    def sign(self, name: str, **options: Any) -> str:
        return f"https://storage.test/{name}"


class Killed(BaseException):
    """Nothing that the product does on its way out of an error is done for a SIGKILL: see ``killed_at``."""


@pytest.fixture
def other(tmp_path: Path, settings: Any, transactional_db: None) -> Path:
    root = other_folder(settings, tmp_path)
    look_at_mark("other")
    return root


def after(target: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Dies when this function has done what it does."""
    real = getattr(target, name)

    def dying(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        raise Killed

    return lambda monkeypatch: monkeypatch.setattr(target, name, dying)


def before(target: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def dying(*args: Any, **kwargs: Any) -> None:
        raise Killed

    return lambda monkeypatch: monkeypatch.setattr(target, name, dying)


def audio_then_die(monkeypatch: pytest.MonkeyPatch) -> None:
    """The audio is stored, the thumbnail not."""

    def save(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        if "thumbnail" in name:
            raise Killed
        return LocalStorage_save(self, name, *args, **options)

    monkeypatch.setattr(LocalStorage, "save", save)


#: Where it dies, and which storage the rows name then.
MOMENTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "noted, nothing copied": (before(Carrier, "_copy"), "local"),
    "audio copied": (audio_then_die, "local"),
    "all copied": (before(StorageMove, "_switch"), "local"),
    "rows switched, not committed": (after(moving, "note_left_over"), "local"),
    "committed": (before(moving, "remove_left_over"), "other"),
    "note of the source taken, source there": (before(LocalStorage, "delete"), "other"),
    "audio removed, thumbnail there": (after(LocalStorage, "delete"), "other"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_step_every_file_stays_readable_and_the_next_run_goes_on(
    moment: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path, other: Path
) -> None:
    """Promise 15, Promise 28."""
    upload = complete(workspace, make_wav(), thumbnail=make_jpeg())
    complete(workspace, make_wav(), thumbnail=make_jpeg(width=20))
    books = counted(workspace)
    dies, lies_in = MOMENTS[moment]
    with monkeypatch.context() as patch:
        dies(patch)
        with pytest.raises(Killed):
            move()
    assert_all_readable()
    assert set(AudioUpload.objects.values_list("storage_provider", flat=True)) == {lies_in}

    # Sweeps before the next run take nothing that is needed, and nothing before its time.
    age_all(audio_root), age_all(other)
    before_sweep = files_under(audio_root) + files_under(other)
    sweep_orphaned_objects()
    assert files_under(audio_root) + files_under(other) == before_sweep
    assert_all_readable()

    move()
    upload.refresh_from_db()
    assert upload.storage_provider == "other"
    assert_all_readable()
    assert counted(workspace) == books
    forget_the_grace_period(audio_root, other)
    assert_all_lies_in("other", but_not_in="local")


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_a_killed_run_left_goes_after_its_grace_period_if_there_is_no_next_run(
    moment: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path, other: Path
) -> None:
    """Promise 2, Promise 16."""
    complete(workspace, make_wav(), thumbnail=make_jpeg())
    dies, lies_in = MOMENTS[moment]
    with monkeypatch.context() as patch:
        dies(patch)
        with pytest.raises(Killed):
            move()
    forget_the_grace_period(audio_root, other)
    assert_all_lies_in(lies_in, but_not_in="other" if lies_in == "local" else "local")
    assert not OrphanedObject.objects.exists()


def forget_the_grace_period(*roots: Path) -> None:
    """Two sweeps, with all that is stored and noted two days old."""
    for _ in range(2):
        for root in roots:
            age_all(root)
        OrphanedObject.objects.update(first_seen_at=ago(days=2))
        sweep_orphaned_objects()
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    sweep_orphaned_objects()


@pytest.mark.parametrize("moment", ["half of the bytes", "in the switch", "before the removal"])
def test_a_real_kill_loses_nothing(
    moment: str, workspace: Workspace, audio_root: Path, other: Path, prepared: Prepared
) -> None:
    """Promise 15."""
    for seed in range(5):
        complete(workspace, make_wav(seed=seed))
    done = prepared.run(dying.move, moment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert_all_readable()
    move()
    assert set(AudioUpload.objects.values_list("storage_provider", flat=True)) == {"other"}
    sweep_partials(audio_root, other)
    forget_the_grace_period(audio_root, other)
    assert_all_lies_in("other", but_not_in="local")
    assert len(files_under(other)) == 5


def sweep_partials(*roots: Path) -> None:
    for root in roots:
        age_all(root)
    sweep_stale_reservations()


def test_killed_while_it_waits_for_signed_urls_the_sources_go_with_the_sweep(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path, other: Path
) -> None:
    """Promise 16, Promise 51. A provider's object is kept for as long as somebody may hold a URL of it."""
    upload = complete(workspace, thumbnail=make_jpeg())
    monkeypatch.setattr(get_storage("local"), "signer", SomeSigner())
    run = StorageMove("local", "other")
    list(run.run())
    assert run.left_objects() == 2 and run.waiting_seconds() > 800
    assert (audio_root / upload.storage_path).exists()
    age_all(audio_root)
    sweep_orphaned_objects()
    assert (audio_root / upload.storage_path).exists()
    forget_the_grace_period(audio_root, other)
    assert_all_lies_in("other", but_not_in="local")


def test_the_sources_of_signed_urls_are_removed_when_their_time_has_come(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, settings: Any, audio_root: Path
) -> None:
    """Promise 51."""
    upload = complete(workspace, thumbnail=make_jpeg())
    monkeypatch.setattr(get_storage("local"), "signer", SomeSigner())
    now = [1000.0]
    monkeypatch.setattr(moving.time, "monotonic", lambda: now[0])
    run = StorageMove("local", "other")
    list(run.run())
    now[0] += settings.SIGNED_URL_SECONDS
    run.remove_left(due_only=True)
    assert (audio_root / upload.storage_path).exists()
    now[0] += moving.SIGNING_SECONDS
    run.remove_left(due_only=True)
    assert_all_lies_in("other", but_not_in="local")
    assert run.left_objects() == 0 and run.waiting_seconds() == 0


@pytest.fixture
def moved_and_waiting(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[StorageMove]:
    """All is moved, and the sources wait for their URLs to run out."""
    complete(workspace, thumbnail=make_jpeg())
    monkeypatch.setattr(get_storage("local"), "signer", SomeSigner())
    run = StorageMove("local", "other")
    list(run.run())
    monkeypatch.setattr(get_storage("local"), "signer", None)
    yield run


def test_what_was_moved_back_meanwhile_is_not_removed(moved_and_waiting: StorageMove) -> None:
    """Promise 8. The objects that wait to be removed are needed again; nothing is even copied."""
    move("other", "local")
    assert_all_lies_in("local", but_not_in="other")
    moved_and_waiting._left[0] = (0.0, moved_and_waiting._left[0][1])
    moved_and_waiting.remove_left()
    assert_all_lies_in("local", but_not_in="other")


def test_what_is_being_removed_is_not_used_by_a_move_back(
    moved_and_waiting: StorageMove, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8. It looked whole, and was gone a moment later."""
    read = carrying.read_object

    def remove_meanwhile(storage: LocalStorage, name: str) -> Any:
        digests = read(storage, name)
        if storage is get_storage("local"):
            assert remove_left_over("local", name)
        return digests

    monkeypatch.setattr(carrying, "read_object", remove_meanwhile)
    assert [result.outcome for result in move("other", "local", limit=1)] == [Outcome.IN_THE_WAY]
    assert_all_readable()
    assert [result.outcome for result in move("other", "local")] == [Outcome.MOVED]
    assert_all_lies_in("local", but_not_in="other")


def test_what_the_sweep_is_about_to_remove_is_not_used_by_a_move_back(
    moved_and_waiting: StorageMove, monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 8. The sweep has decided, and the object is still there."""
    age_all(audio_root)
    OrphanedObject.objects.update(first_seen_at=ago(days=2))
    delete = LocalStorage.delete
    outcomes: list[Any] = []

    def move_back_first(self: LocalStorage, name: str) -> None:
        monkeypatch.setattr(LocalStorage, "delete", delete)
        outcomes.extend(result.outcome for result in move("other", "local"))
        delete(self, name)

    monkeypatch.setattr(LocalStorage, "delete", move_back_first)
    sweep_orphaned_objects()
    assert outcomes == [Outcome.IN_THE_WAY]
    assert_all_readable()

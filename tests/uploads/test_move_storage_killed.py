"""A move that is killed at each of its steps: every file stays readable and whole, and the next run goes on."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.forked import Prepared
from tests.uploads import dying
from tests.uploads.life import age_all, ago, complete, counted, names_in
from tests.uploads.moved import assert_all_lies_in, assert_all_readable, move, other_folder
from tests.uploads.sending import files_under
from uploads.models import AudioUpload, StoredObject
from uploads.objects import ledger
from uploads.objects.copying import Copier
from uploads.objects.marks import look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.upkeep.moving import Outcome, StorageMove
from uploads.upkeep.sweeps import sweep_stale_reservations

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding", "other")]

LocalStorage_save = LocalStorage.save


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
    "noted, nothing copied": (before(Copier, "_copy"), "local"),
    "audio copied": (before(StorageMove, "_switch"), "local"),
    "rows switched, not committed": (after(ledger, "replace"), "local"),
    "committed": (after(StorageMove, "_switch"), "other"),
    "picture not copied": (audio_then_die, "other"),
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
    upload = complete(workspace, make_wav(), thumbnail=make_jpeg())
    dies, lies_in = MOMENTS[moment]
    with monkeypatch.context() as patch:
        dies(patch)
        with pytest.raises(Killed):
            move()
    forget_the_grace_period(audio_root, other)
    assert_all_readable()
    upload.refresh_from_db()
    assert upload.storage_provider == lies_in
    # The picture follows with the next run.
    assert names_in(lies_in) - {upload.thumbnail_path} == {upload.storage_path}
    assert names_in("local") | names_in("other") == {upload.storage_path, upload.thumbnail_path}
    assert len(names_in("local")) + len(names_in("other")) == 2
    assert not StoredObject.objects.unneeded().exists()


def forget_the_grace_period(*roots: Path) -> None:
    """Two sweeps, with all that is stored and noted two days old."""
    for _ in range(2):
        for root in roots:
            age_all(root)
        StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
        sweep_orphaned_objects()
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    sweep_orphaned_objects()


@pytest.mark.parametrize("moment", ["half of the bytes", "in the switch"])
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


def test_what_was_moved_back_meanwhile_is_not_removed(workspace: Workspace, audio_root: Path, other: Path) -> None:
    """Promise 8. The objects that were left behind are needed again; nothing is even copied."""
    upload = complete(workspace, thumbnail=make_jpeg())
    inode = (audio_root / upload.storage_path).stat().st_ino
    move()
    move("other", "local")
    forget_the_grace_period(audio_root, other)
    assert_all_lies_in("local", but_not_in="other")
    assert (audio_root / upload.storage_path).stat().st_ino == inode


def test_what_the_sweep_is_about_to_remove_is_not_used_by_a_move_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, audio_root: Path
) -> None:
    """Promise 8. The sweep has decided, and the object is still there."""
    complete(workspace)
    move()
    age_all(audio_root)
    StoredObject.objects.unneeded().update(unneeded_since=ago(days=2))
    delete = LocalStorage.delete
    outcomes: list[Any] = []

    def move_back_first(self: LocalStorage, name: str, **options: Any) -> None:
        monkeypatch.setattr(LocalStorage, "delete", delete)
        outcomes.extend(result.outcome for result in move("other", "local"))
        delete(self, name, **options)

    monkeypatch.setattr(LocalStorage, "delete", move_back_first)
    sweep_orphaned_objects()
    assert outcomes == [Outcome.IN_THE_WAY]
    assert_all_readable()

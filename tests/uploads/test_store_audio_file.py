"""The door for Python callers: the same promises, with retries, and clean-up of what the caller no longer wants."""

import hashlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from media.errors import UnsupportedImage
from media.formats import ContentMismatch, UnsupportedFormat
from objectstore.errors import PermanentStorageError, TransientStorageError
from objectstore.local import LocalStorage
from objectstore.retry import RetryPolicy, call_with_retry, current_policy
from quotas.errors import QuotaExceeded
from tests.audio import make_mp3, make_png
from tests.factories import UserFactory
from tests.uploads.life import assert_books_balance, new_workspace
from tests.uploads.sending import files_under, what_is_there
from uploads.intake.arrivals import AudioIdTaken
from uploads.intake.files import FileChanged, FileSource, store_audio_file
from uploads.intake.ingest import EmptyFile
from uploads.models import AudioUpload, Status
from uploads.objects.marks import ensure_ours

pytestmark = pytest.mark.django_db

MP3 = make_mp3()
AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0.0, max_delay=0.0)


@pytest.fixture(autouse=True)
def known_mark(audio_root: Path) -> None:
    """The first write to the storage that a test sees is that of its file."""
    ensure_ours("local")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "Füße.mp3"
    path.write_bytes(MP3)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "cover.png"
    path.write_bytes(make_png())
    return path


def failing_save(error: Exception, times: int) -> Callable[..., str]:
    """A save of LocalStorage that fails the first ``times`` times, half way through the content."""
    real, left = LocalStorage.save, [times]

    def save(self: LocalStorage, name: str, content: Any, *args: Any, **options: Any) -> str:
        if left[0]:
            left[0] -= 1
            next(iter(content.chunks()))
            raise error
        return real(self, name, content, *args, **options)

    return save


def test_it_stores_the_file_and_says_what_and_where(file: Path, picture: Path, audio_root: Path) -> None:
    """Promise 1. Size, hashes and paths are those of the stored object."""
    workspace, owner, pk = new_workspace(), UserFactory(), uuid.uuid4()
    stored = store_audio_file(
        file, workspace=workspace, owner=owner, audio_id=pk, thumbnail=picture, metadata={"from": "the attic"}
    )
    assert stored.audio_id == pk
    assert (stored.audio_path, stored.thumbnail_path) == (f"audio/{pk}/audio.mp3", f"audio/{pk}/thumbnail.png")
    assert (stored.storage_provider, stored.size, stored.content_type) == ("local", len(MP3), "audio/mpeg")
    assert (stored.sha256, stored.md5) == (hashlib.sha256(MP3).hexdigest(), hashlib.md5(MP3).hexdigest())
    assert (audio_root / stored.audio_path).read_bytes() == MP3
    upload = AudioUpload.objects.get()
    assert (upload.pk, upload.owner, upload.workspace) == (pk, owner, workspace)
    assert (upload.original_filename, upload.metadata) == ("Füße.mp3", {"from": "the attic"})
    assert file.exists() and picture.exists() and not stored.cleaned_up
    assert_books_balance(workspace)


def test_it_takes_a_path_as_text(file: Path) -> None:
    assert store_audio_file(str(file), workspace=new_workspace(), owner=UserFactory()).size == len(MP3)


def test_clean_up_removes_the_callers_files_after_success(file: Path, picture: Path) -> None:
    stored = store_audio_file(file, workspace=new_workspace(), owner=UserFactory(), thumbnail=picture, cleanup=True)
    assert stored.cleaned_up
    assert not file.exists() and not picture.exists()


def test_a_clean_up_that_fails_is_told_and_does_not_lose_the_upload(
    file: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, unlink = new_workspace(), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == file:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    stored = store_audio_file(file, workspace=workspace, owner=UserFactory(), thumbnail=picture, cleanup=True)
    monkeypatch.undo()
    assert not stored.cleaned_up
    assert file.exists() and not picture.exists()
    assert AudioUpload.objects.get().status == Status.UPLOADED
    assert_books_balance(workspace)


@pytest.mark.parametrize("change", ["more", "other", "another"])
def test_a_file_that_changed_after_it_was_read_is_not_removed(
    change: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a recorder writes behind our last look at the file is nowhere but there."""
    save = LocalStorage.save

    def save_and_change(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        stored = save(self, name, *args, **options)
        if change == "more":
            with file.open("ab") as recorder:
                recorder.write(b"the end of it")
        elif change == "other":
            os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        else:
            fresh = file.with_suffix(".new")
            fresh.write_bytes(MP3)
            os.utime(fresh, ns=(0, file.stat().st_mtime_ns))
            fresh.replace(file)
        return stored

    monkeypatch.setattr(LocalStorage, "save", save_and_change)
    stored = store_audio_file(file, workspace=new_workspace(), owner=UserFactory(), cleanup=True)
    assert not stored.cleaned_up
    assert file.exists()
    assert AudioUpload.objects.get().file_size == len(MP3)


def test_a_passing_fault_is_tried_again_from_the_files_beginning(
    file: Path, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. Each attempt leaves nothing, so that the same id can be tried again."""
    workspace, pk = new_workspace(), uuid.uuid4()
    monkeypatch.setattr(LocalStorage, "save", failing_save(TransientStorageError(), 2))
    stored = store_audio_file(file, workspace=workspace, owner=UserFactory(), audio_id=pk, retry=AT_ONCE)
    assert (stored.audio_id, stored.sha256) == (pk, hashlib.sha256(MP3).hexdigest())
    assert (audio_root / stored.audio_path).read_bytes() == MP3
    assert_books_balance(workspace)


@pytest.mark.parametrize(("error", "attempts"), [(TransientStorageError(), 3), (PermanentStorageError(), 1)])
def test_a_fault_that_stays_comes_out_and_leaves_the_callers_file(
    error: Exception, attempts: int, file: Path, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. One that cannot pass is not tried again."""
    calls: list[str] = []

    def save(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        calls.append(name)
        raise error

    monkeypatch.setattr(LocalStorage, "save", save)
    with pytest.raises(type(error)):
        store_audio_file(file, workspace=new_workspace(), owner=UserFactory(), retry=AT_ONCE, cleanup=True)
    assert len(calls) == attempts
    assert file.exists()
    assert what_is_there(audio_root) == {}


def test_its_policy_rules_the_tries_of_the_storage_itself_and_is_not_multiplied(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. As a storage of a provider does: each of its requests is tried again further in."""
    seen: list[RetryPolicy] = []

    def request() -> None:
        seen.append(current_policy())
        raise TransientStorageError

    monkeypatch.setattr(LocalStorage, "save", lambda *args, **options: call_with_retry(request))
    with pytest.raises(TransientStorageError):
        store_audio_file(file, workspace=new_workspace(), owner=UserFactory(), retry=AT_ONCE)
    assert seen == [AT_ONCE] * 3


def test_what_is_refused_leaves_nothing_and_keeps_the_callers_files(tmp_path: Path, audio_root: Path) -> None:
    good, text, empty, other, no_picture = (
        tmp_path / name for name in ("good.mp3", "text.mp3", "empty.mp3", "a.txt", "cover.png")
    )
    for path, data in ((good, MP3), (text, b"text" * 99), (empty, b""), (other, MP3), (no_picture, b"text")):
        path.write_bytes(data)
    workspace, full = new_workspace(), new_workspace(max_file_count=0)
    for error, path, options in (
        (ContentMismatch, text, {"workspace": workspace}),
        (EmptyFile, empty, {"workspace": workspace}),
        (UnsupportedFormat, other, {"workspace": workspace}),
        (UnsupportedImage, good, {"workspace": workspace, "thumbnail": no_picture}),
        (QuotaExceeded, good, {"workspace": full}),
        (FileNotFoundError, tmp_path / "none.mp3", {"workspace": workspace}),
    ):
        with pytest.raises(error):
            store_audio_file(path, owner=UserFactory(), cleanup=True, **options)
    assert what_is_there(audio_root) == {}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(
        ["good.mp3", "text.mp3", "empty.mp3", "a.txt", "cover.png"]
    )


def test_an_id_that_is_taken_is_refused_and_not_tried_again(file: Path, audio_root: Path) -> None:
    """Promise 12. The file that has it stays as it is."""
    workspace, pk = new_workspace(), uuid.uuid4()
    store_audio_file(file, workspace=workspace, owner=UserFactory(), audio_id=pk)
    with pytest.raises(AudioIdTaken):
        store_audio_file(file, workspace=workspace, owner=UserFactory(), audio_id=pk, retry=AT_ONCE, cleanup=True)
    assert file.exists()
    assert files_under(audio_root) == [f"audio/{pk}/audio.mp3"]
    assert_books_balance(workspace)


@pytest.mark.parametrize("change", [lambda data: data + b"more", lambda data: data[:-100]])
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: Callable[[bytes], bytes], file: Path, audio_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1. What was stored would be neither the one nor the other."""
    chunks = FileSource.chunks

    def change_and_read(source: FileSource) -> Any:
        file.write_bytes(change(MP3))
        return chunks(source)

    monkeypatch.setattr(FileSource, "chunks", change_and_read)
    with pytest.raises(FileChanged):
        store_audio_file(file, workspace=new_workspace(), owner=UserFactory())
    assert what_is_there(audio_root) == {}

"""``import_audio`` as an operator runs it: what goes in, what is skipped, what fails alone, what stays on the disk."""

import io
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError

from objectstore.errors import PermanentStorageError, StorageFull
from objectstore.local import LocalStorage
from quotas.models import StorageQuota, Workspace
from tests.audio import make_mp3, make_wav
from tests.factories import MembershipFactory, UserFactory
from tests.uploads.life import assert_books_balance, new_workspace, put_files
from tests.uploads.sending import what_is_there
from uploads.intake.files import many
from uploads.intake.files.many import FileImport, Result, find_files
from uploads.lifecycle.trash import delete_upload
from uploads.lifecycle.work import fail_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects.marks import ensure_ours

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def workspace(db: None) -> Workspace:
    workspace = new_workspace()
    MembershipFactory(workspace=workspace, user=UserFactory(username="olga"))
    return workspace


def import_audio(*paths: Path, workspace: Workspace, **options: Any) -> dict[str, Any]:
    """The summary, with ``code``, ``lines`` (standard error) and ``files`` by their path."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    try:
        call_command("import_audio", *paths, workspace=workspace.slug, json=True, stdout=out, stderr=err, **options)
    except SystemExit as ended:
        code = int(str(ended.code))
    *files, last = [json.loads(line) for line in out.getvalue().splitlines()]
    by_path = {file["path"]: file for file in files}
    return {**last["summary"], "code": code, "files": by_path, "lines": err.getvalue()}


def words(*paths: Path, workspace: Workspace, **options: Any) -> tuple[str, str]:
    """What a person reads: standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with suppress(SystemExit):
        call_command("import_audio", *paths, workspace=workspace.slug, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def names() -> list[str]:
    return sorted(AudioUpload.objects.values_list("original_filename", flat=True))


def test_a_folder_is_taken_in_all_the_way_down(workspace: Workspace, shelf: Path) -> None:
    """Promise 1. Each file is a row of its own, by the same way in as an upload."""
    put_files(shelf, "a.wav", "deep/er/b.wav", "deep/c.WAV")
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["failed"]) == (0, 3, 0)
    assert names() == ["a.wav", "b.wav", "c.WAV"]
    assert done["bytes"] == sum(AudioUpload.objects.values_list("file_size", flat=True))
    upload = AudioUpload.objects.get(original_filename="a.wav")
    assert done["files"][str(shelf / "a.wav")]["upload"] == str(upload.pk)
    assert (upload.owner.username, upload.status) == ("olga", Status.UPLOADED)
    assert UploadEvent.objects.get(upload_id=upload.pk).details["door"] == "import"
    assert (shelf / "a.wav").exists()
    assert_books_balance(workspace)


def test_hidden_files_and_what_is_no_audio_are_left_alone(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav", ".hidden.wav", ".git/b.wav")
    (shelf / "cover.jpg").write_bytes(b"picture")
    (shelf / "notes.txt").write_text("notes")
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["not_audio"]) == (0, 1, 2)
    assert names() == ["a.wav"]


def test_what_is_named_itself_must_be_audio(workspace: Workspace, shelf: Path) -> None:
    (shelf / "notes.txt").write_text("notes")
    (hidden,) = put_files(shelf, ".hidden.wav")
    done = import_audio(shelf / "notes.txt", hidden, workspace=workspace)
    assert (done["code"], done["stored"], done["failed"]) == (1, 1, 1)
    assert done["files"][str(shelf / "notes.txt")]["code"] == "unsupported_format"


def test_links_in_a_circle_end(workspace: Workspace, shelf: Path, tmp_path: Path) -> None:
    put_files(shelf, "a.wav")
    (shelf / "again").symlink_to(shelf)
    put_files(shelf / "cellar", ".b.wav", seed=1)
    (shelf / "link.wav").symlink_to(shelf / "cellar" / ".b.wav")
    (shelf / "nowhere.wav").symlink_to(shelf / "gone")
    (shelf / "self.wav").symlink_to(shelf / "self.wav")
    done = import_audio(shelf, workspace=workspace)
    assert (done["stored"], done["failed"]) == (2, 2)
    assert names() == ["a.wav", "link.wav"]


def test_a_link_out_of_the_folder_is_refused_unless_it_is_named(
    workspace: Workspace, shelf: Path, tmp_path: Path
) -> None:
    """Whoever may write to an imported folder must not read other files of the machine through it."""
    put_files(shelf, "a.wav")
    (secret,) = put_files(tmp_path / "private", "b.wav", seed=1)
    (shelf / "link.wav").symlink_to(secret)
    (shelf / "way").symlink_to(tmp_path / "private")
    (shelf / "far.wav").symlink_to(Path("way") / "b.wav")
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["failed"]) == (1, 1, 2)
    assert "leads out of the folder" in done["files"][str(shelf / "link.wav")]["detail"]
    assert names() == ["a.wav"]
    assert import_audio(shelf / "link.wav", workspace=workspace)["stored"] == 1


def test_what_two_arguments_hold_comes_once(workspace: Workspace, shelf: Path) -> None:
    (path,) = put_files(shelf, "deep/a.wav")
    done = import_audio(shelf, path, shelf / "deep", shelf, workspace=workspace)
    assert (done["stored"], done["duplicate"], len(done["files"])) == (1, 0, 1)


def test_a_second_run_stores_nothing(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav", "b.wav")
    import_audio(shelf, workspace=workspace)
    put_files(shelf, "c.wav", seed=2)
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["duplicate"]) == (0, 1, 2)
    assert AudioUpload.objects.count() == 3


def test_what_another_workspace_has_is_no_duplicate(workspace: Workspace, shelf: Path) -> None:
    """Promise 38. Whether others have a file is not to be learned this way either."""
    put_files(shelf, "a.wav")
    other = new_workspace()
    MembershipFactory(workspace=other)
    import_audio(shelf, workspace=other)
    assert import_audio(shelf, workspace=workspace)["stored"] == 1


def test_what_lies_in_the_trash_is_skipped_and_named(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav")
    import_audio(shelf, workspace=workspace)
    delete_upload(AudioUpload.objects.get(), actor=None)
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["in_trash"]) == (0, 0, 1)
    out, err = words(shelf, workspace=workspace)
    assert "skipped, is in the trash:" in err and "in the trash" in out


def test_what_failed_before_is_not_stored_again(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav")
    import_audio(shelf, workspace=workspace)
    fail_upload(AudioUpload.objects.get(), error_code="audio_undecodable", reason="It cannot be played.")
    done = import_audio(shelf, workspace=workspace)
    assert (done["stored"], done["duplicate"]) == (0, 1)
    (file,) = done["files"].values()
    assert (file["code"], file["detail"]) == ("audio_undecodable", "It cannot be played.")


def test_of_equal_files_in_one_run_the_first_is_stored(workspace: Workspace, shelf: Path) -> None:
    """Promise 11. Side by side too: the others wait until it is known whether it was stored."""
    for number in range(12):
        (shelf / f"{number}.mp3").write_bytes(make_mp3())
    done = import_audio(shelf, workspace=workspace, parallel=6)
    assert (done["stored"], done["duplicate"]) == (1, 11)
    assert AudioUpload.objects.count() == 1
    assert_books_balance(workspace)


def test_a_file_that_cannot_go_fails_alone_with_its_reason(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav", "z.wav")
    (shelf / "empty.wav").write_bytes(b"")
    (shelf / "text.mp3").write_bytes(b"This is text. " * 50)
    os.mkfifo(shelf / "pipe.wav")
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["failed"]) == (1, 2, 3)
    codes = {Path(path).name: file["code"] for path, file in done["files"].items()}
    assert codes["empty.wav"] == "empty_file"
    assert codes["text.mp3"] == "content_mismatch"
    assert codes["pipe.wav"] == "unreadable"
    out, err = words(shelf, workspace=workspace)
    assert "FAILED: " in err and "text file" in err
    assert "3 files FAILED." in out
    assert_books_balance(workspace)


def test_an_error_that_nobody_expected_fails_one_file(
    workspace: Workspace, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(shelf, "a.wav", "b.wav")
    store = many.store_audio_file

    def broken(path: Path, **options: Any) -> Any:
        if path.name == "a.wav":
            raise ZeroDivisionError
        return store(path, **options)

    monkeypatch.setattr(many, "store_audio_file", broken)
    done = import_audio(shelf, workspace=workspace)
    assert (done["code"], done["stored"], done["failed"]) == (1, 1, 1)


def test_clean_up_removes_what_was_stored_and_nothing_else(workspace: Workspace, shelf: Path) -> None:
    """A duplicate's file, one in the trash and one that failed stay, and the summary says how many."""
    (kept, trashed) = put_files(shelf, "kept.wav", "trashed.wav")
    import_audio(kept, trashed, workspace=workspace)
    delete_upload(AudioUpload.objects.get(original_filename="trashed.wav"), actor=None)
    put_files(shelf, "new.wav", seed=2)
    (shelf / "bad.wav").write_bytes(b"nothing")
    (shelf / "notes.txt").write_text("notes")
    out, _ = words(shelf, workspace=workspace, cleanup=True)
    assert sorted(path.name for path in shelf.iterdir()) == ["bad.wav", "kept.wav", "notes.txt", "trashed.wav"]
    assert "Removed 1 file from here." in out
    assert "Left 2 skipped files where they are." in out


def test_a_clean_up_that_fails_loses_no_upload(
    workspace: Workspace, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,), unlink = put_files(shelf, "a.wav"), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == file:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    out, _ = words(shelf, workspace=workspace, cleanup=True)
    monkeypatch.undo()
    assert "Stored 1 file" in out
    assert "Could not remove 1 stored file from here" in out
    assert AudioUpload.objects.count() == 1


def test_a_dry_run_says_what_would_happen_and_stores_nothing(
    workspace: Workspace, shelf: Path, audio_root: Path
) -> None:
    stored, *_ = put_files(shelf, "a.wav", "b.wav", "c.wav")
    (shelf / "twin of b.wav").write_bytes((shelf / "b.wav").read_bytes())
    (shelf / "text.mp3").write_bytes(b"This is text. " * 50)
    import_audio(stored, workspace=workspace)
    before = what_is_there(audio_root)
    done = import_audio(shelf, workspace=workspace, dry_run=True, cleanup=True)
    assert (done["code"], done["would_store"], done["duplicate"], done["failed"]) == (1, 2, 2, 1)
    assert what_is_there(audio_root) == before
    assert len(list(shelf.iterdir())) == 5


def test_a_dry_run_reckons_as_if_each_file_were_stored(workspace: Workspace, shelf: Path) -> None:
    size = put_files(shelf, "a.wav", "b.wav", "c.wav")[0].stat().st_size
    StorageQuota.objects.update(max_storage_bytes=2 * size)
    done = import_audio(shelf, workspace=workspace, dry_run=True, parallel=1)
    assert (done["would_store"], done["failed"]) == (2, 1)


def test_a_file_that_does_not_fit_stops_those_that_are_as_large(
    workspace: Workspace, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 27. Smaller ones still go in, and nothing is read that could not."""
    (large,) = put_files(shelf, "1 large.wav", seconds=2.0)
    put_files(shelf, "2 small.wav", "3 small.wav", seed=1)
    put_files(shelf, "4 large.wav", "5 large.wav", seed=3, seconds=2.0)
    StorageQuota.objects.update(max_storage_bytes=large.stat().st_size - 1)
    opened: list[str] = []
    read = many.read_pieces

    def watch(path: Path) -> Any:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(many, "read_pieces", watch)
    done = import_audio(shelf, workspace=workspace, parallel=1)
    assert (done["code"], done["stored"], done["failed"], done["not_tried"]) == (1, 2, 1, 2)
    assert done["files"][str(large)]["code"] == "quota_exceeded"
    assert opened == ["1 large.wav", "2 small.wav", "3 small.wav"]
    assert_books_balance(workspace)


def test_a_full_number_of_files_stops_the_run(workspace: Workspace, shelf: Path) -> None:
    """Promise 27. No other file could fit."""
    put_files(shelf, *(f"{number}.wav" for number in range(6)))
    StorageQuota.objects.update(max_file_count=2)
    done = import_audio(shelf, workspace=workspace, parallel=1)
    assert (done["code"], done["stored"], done["failed"], done["not_tried"]) == (1, 2, 1, 3)
    out, err = words(shelf, workspace=workspace, parallel=1)
    assert "Did not try 3 more files" in out
    assert err.count("FAILED") == 1


@pytest.mark.parametrize("error", [StorageFull(), PermanentStorageError(), OperationalError("gone")])
def test_a_disk_or_a_database_that_is_out_of_order_stops_the_run(
    error: Exception, workspace: Workspace, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 5. A clear end, and nothing is left of the file that it met."""
    put_files(shelf, *(f"{number}.wav" for number in range(5)))
    ensure_ours("local")

    def refuse(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(LocalStorage, "save", refuse)
    done = import_audio(shelf, workspace=workspace, parallel=1, cleanup=True)
    assert (done["code"], done["stored"], done["failed"], done["not_tried"]) == (1, 0, 1, 4)
    assert len(list(shelf.iterdir())) == 5
    assert_books_balance(workspace)


def test_a_file_that_changes_between_two_looks_is_refused(
    workspace: Workspace, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 1. Its size is the same; what was judged is not what would be stored."""
    (path,) = put_files(shelf, "a.wav")
    store = many.store_audio_file

    def change_first(path: Path, **options: Any) -> Any:
        path.write_bytes(make_wav(seed=99))
        return store(path, **options)

    monkeypatch.setattr(many, "store_audio_file", change_first)
    done = import_audio(path, workspace=workspace, cleanup=True)
    assert done["files"][str(path)]["code"] == "file_changed"
    assert path.exists() and not AudioUpload.objects.exists()


def test_names_of_any_bytes_are_taken_and_shown_safely(workspace: Workspace, shelf: Path) -> None:
    """Promise 43, Promise 49. Bytes that are no UTF-8, line breaks, escapes and 255 bytes of name."""
    raw = [b"caf\xe9.wav", b"two\nlines.wav", b"\x1b[31mred.wav", ("ü" * 125).encode() + b".wav", b"\xff.wav"]
    for number, name in enumerate(raw):
        Path(os.fsdecode(os.fsencode(shelf) + b"/" + name)).write_bytes(make_wav(seed=number))
    out, err = words(shelf, workspace=workspace)
    assert "Stored 5 files" in out
    assert names() == sorted(["caf\ufffd.wav", "twolines.wav", "[31mred.wav", "ü" * 125 + ".wav", "\ufffd.wav"])
    assert "\x1b" not in err and "two\\nlines.wav" in err and len(err.splitlines()) == 5
    done = import_audio(shelf, workspace=workspace)
    assert os.fsencode(shelf) + b"/caf\xe9.wav" in {os.fsencode(path) for path in done["files"]}


def test_stopping_gives_up_what_is_under_way_and_leaves_nothing_of_it(workspace: Workspace, shelf: Path) -> None:
    """Promise 5. A file is half read when the order comes."""
    (shelf / "long.wav").write_bytes(make_wav(seconds=200))
    run = FileImport(
        workspace=workspace,
        owner=UserFactory(),
        on_read=lambda path, position: run.stop(),
    )
    (result,) = run.run(find_files([shelf]))
    assert result.result == Result.STOPPED
    assert not AudioUpload.objects.exists()
    assert_books_balance(workspace)


def test_files_are_taken_in_side_by_side(workspace: Workspace, shelf: Path) -> None:
    put_files(shelf, "a.wav", "b.wav", "c.wav")
    together = threading.Barrier(3)
    owner = UserFactory()
    run = FileImport(
        workspace=workspace, owner=owner, parallel=3, on_read=lambda path, position: meet(together) and None
    )
    assert [result.result for result in run.run(find_files([shelf]))] == [Result.STORED] * 3


def meet(barrier: threading.Barrier) -> int:
    return barrier.wait(timeout=30)

"""The door for Python callers, on every storage: audio of each format, pictures beside it, and what comes back."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audiotricks.errors import NotFound, PermissionDenied
from media.errors import ImageUnreadable, UnsupportedImage
from media.formats import ContentMismatch, UnsupportedFormat
from objectstore import get_storage
from objectstore.errors import PermanentStorageError, TransientStorageError
from objectstore.local import LocalStorage
from objectstore.retry import RetryPolicy
from quotas.models import Membership, Workspace
from tests.audio import EXTENSIONS, audio_bytes, make_jpeg, make_png, make_webp
from tests.factories import MembershipFactory, UserFactory, member_of
from tests.object_servers.fixtures import ALIASES, configure
from tests.quotas.threads import at_once
from tests.uploads.life import actions, names_in, new_workspace, receiving
from uploads.intake.files import StoredThumbnail, store_audio_file, store_thumbnail
from uploads.lifecycle.transitions import TransitionRefused
from uploads.lifecycle.trash import delete_upload, purge_upload
from uploads.models import AudioUpload

pytestmark = pytest.mark.django_db(transaction=True)

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0.0, max_delay=0.0)
PICTURES = {"jpg": make_jpeg, "jpeg": make_jpeg, "png": make_png, "webp": make_webp}
STORED_AS = {"jpg": "jpg", "jpeg": "jpg", "png": "png", "webp": "webp"}
MIME_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
SCHEMES = {"local": "local:///", "s3": "s3://", "gcs": "gs://", "azure": "http"}


@pytest.fixture
def workspace(db: None) -> Workspace:
    return new_workspace()


@pytest.fixture
def owner(workspace: Workspace) -> Any:
    return member_of(workspace)


@pytest.fixture(params=["local", *ALIASES])
def where(request: pytest.FixtureRequest, settings: Any) -> str:
    """The alias of the storage that new files go to: each in turn."""
    alias: str = request.param
    if alias != "local":
        configure(settings, request.getfixturevalue(f"{alias}_server"))
    settings.AUDIO_STORAGE = alias
    return alias


@pytest.fixture
def audio(workspace: Workspace, owner: Any, shelf: Path) -> AudioUpload:
    path = put(shelf, "song.mp3", audio_bytes("mp3"))
    return AudioUpload.objects.get(pk=store_audio_file(path, workspace=workspace, owner=owner).audio_id)


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def read(alias: str, name: str) -> bytes:
    with get_storage(alias).open_range(name) as file:
        return file.read()


def test_each_format_of_audio_with_its_picture(where: str, workspace: Workspace, owner: Any, shelf: Path) -> None:
    """Promise 1. What is told of the stored objects is true of them, on every storage."""
    picture = put(shelf, "Bild ä.webp", make_webp())
    for extension in EXTENSIONS:
        data, pk = audio_bytes(extension), uuid.uuid4()
        file = put(shelf, f"Füße {extension}.{extension.upper()}", data)
        stored = store_audio_file(file, workspace=workspace, owner=owner, audio_id=pk, thumbnail=picture)
        assert (stored.audio_path, stored.thumbnail_path) == (
            f"audio/{pk}/audio.{extension}",
            f"audio/{pk}/thumbnail.webp",
        )
        assert stored.audio_uri.startswith(SCHEMES[where]) and stored.audio_uri.endswith(f"/{stored.audio_path}")
        assert stored.thumbnail_uri.startswith(SCHEMES[where]) and stored.thumbnail_uri.endswith(stored.thumbnail_path)
        assert (stored.storage_provider, stored.size, stored.has_thumbnail) == (where, len(data), True)
        assert stored.checksums["sha256"] == stored.sha256 == hashlib.sha256(data).hexdigest()
        assert stored.checksums["md5"] == stored.md5 == hashlib.md5(data).hexdigest()
        assert read(where, stored.audio_path) == data
        if where == "local":
            assert (stored.version, stored.metadata) == ("", {})
        else:
            assert stored.version
            assert stored.metadata["audio_id"] == str(pk)
            assert stored.metadata["original_filename"] == file.name
            assert (stored.metadata["file_size"], stored.metadata["has_thumbnail"]) == (str(len(data)), "true")
            assert get_storage(where).stat(stored.audio_path).content_type == stored.content_type


@pytest.mark.parametrize("extension", PICTURES)
def test_each_format_of_picture(where: str, extension: str, audio: AudioUpload, owner: Any, shelf: Path) -> None:
    picture = put(shelf, f"cover.{extension.upper()}", PICTURES[extension]())
    stored = store_thumbnail(picture, audio_id=audio.pk, actor=owner)
    assert stored.thumbnail_path == f"audio/{audio.pk}/thumbnail.{STORED_AS[extension]}"
    assert stored.thumbnail_uri.startswith(SCHEMES[where]) and stored.thumbnail_uri.endswith(stored.thumbnail_path)
    assert (stored.audio_id, stored.storage_provider) == (audio.pk, where)
    assert stored.content_type == MIME_TYPES[extension]
    data = read(where, stored.thumbnail_path)
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert stored.checksums["md5"] == hashlib.md5(data).hexdigest()
    assert stored.width > 0 and stored.height > 0
    audio.refresh_from_db()
    assert audio.thumbnail_path == stored.thumbnail_path
    assert actions(audio)[-1] == "thumbnail_set"
    if where != "local":
        assert stored.version and stored.metadata["audio_id"] == str(audio.pk)
        assert get_storage(where).stat(stored.thumbnail_path).content_type == MIME_TYPES[extension]
    assert picture.exists() and not stored.cleaned_up


def test_another_picture_takes_the_place_of_the_one_before(
    where: str, audio: AudioUpload, owner: Any, shelf: Path
) -> None:
    first = store_thumbnail(put(shelf, "a.png", make_png()), audio_id=audio.pk, actor=owner)
    second = store_thumbnail(put(shelf, "b.jpg", make_jpeg()), audio_id=audio.pk, actor=owner)
    third = store_thumbnail(put(shelf, "c.jpg", make_jpeg(width=20)), audio_id=audio.pk, actor=owner)
    assert first.thumbnail_path != second.thumbnail_path == third.thumbnail_path
    assert names_in(where) == {audio.storage_path, third.thumbnail_path}
    assert hashlib.sha256(read(where, third.thumbnail_path)).hexdigest() == third.sha256 != second.sha256


def test_of_many_pictures_at_once_one_stays_and_nobody_is_refused(audio: AudioUpload, owner: Any, shelf: Path) -> None:
    """Promise 33. The row names an object that is there, and that is one of theirs."""
    paths = [put(shelf, f"{number}.png", make_png(width=20 + number)) for number in range(4)]
    stored = at_once(*[lambda path=path: store_thumbnail(path, audio_id=audio.pk, actor=owner) for path in paths])
    assert all(isinstance(result, StoredThumbnail) for result in stored), stored
    audio.refresh_from_db()
    data = read("local", audio.thumbnail_path)
    assert hashlib.sha256(data).hexdigest() in {result.sha256 for result in stored}


@pytest.mark.parametrize("case", ["unknown", "receiving", "another's", "purged"])
def test_a_picture_without_its_audio_is_refused_and_leaves_nothing(
    case: str, audio: AudioUpload, owner: Any, workspace: Workspace, shelf: Path
) -> None:
    """Promise 38. It is not told which of these it is."""
    picture, pk = put(shelf, "cover.png", make_png()), audio.pk
    if case == "unknown":
        pk = uuid.uuid4()
    elif case == "receiving":
        pk = receiving(workspace, expired=False).pk
    elif case == "another's":
        owner = UserFactory()
    else:
        delete_upload(audio, actor=None)
        purge_upload(audio, actor=None)
    before = names_in("local")
    with pytest.raises(NotFound):
        store_thumbnail(picture, audio_id=pk, actor=owner, cleanup=True)
    assert names_in("local") == before
    assert picture.exists()


def test_a_picture_for_a_file_in_the_trash_is_refused(audio: AudioUpload, owner: Any, shelf: Path) -> None:
    picture = put(shelf, "cover.png", make_png())
    delete_upload(audio, actor=None)
    with pytest.raises(TransitionRefused):
        store_thumbnail(picture, audio_id=audio.pk, actor=owner, cleanup=True)
    assert names_in("local") == {audio.storage_path}
    assert picture.exists()


def test_who_may_only_read_sets_no_picture(audio: AudioUpload, workspace: Workspace, shelf: Path) -> None:
    reader = MembershipFactory(workspace=workspace, role=Membership.Role.VIEWER).user
    with pytest.raises(PermissionDenied):
        store_thumbnail(put(shelf, "cover.png", make_png()), audio_id=audio.pk, actor=reader)
    assert names_in("local") == {audio.storage_path}


def test_a_file_that_is_purged_while_its_picture_is_stored_leaves_nothing(
    audio: AudioUpload, owner: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 7. The picture goes as well."""
    save = LocalStorage.save

    def purge_meanwhile(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        stored = save(self, name, *args, **options)
        row = AudioUpload.objects.get(pk=audio.pk)
        delete_upload(row, actor=None)
        purge_upload(row, actor=None)
        return stored

    monkeypatch.setattr(LocalStorage, "save", purge_meanwhile)
    with pytest.raises(NotFound):
        store_thumbnail(put(shelf, "cover.png", make_png()), audio_id=audio.pk, actor=owner)
    assert names_in("local") == set()


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("cover.gif", make_png, UnsupportedFormat),
        ("cover", make_png, UnsupportedFormat),
        ("cover.jpg", make_png, ContentMismatch),
        ("cover.webp", make_jpeg, ContentMismatch),
        ("cover.png", make_webp, ContentMismatch),
        ("cover.png", lambda: b"text" * 50, UnsupportedImage),
        ("cover.png", lambda: make_png()[:60], ImageUnreadable),
        ("cover.png", bytes, UnsupportedImage),
    ],
)
def test_what_is_no_picture_of_its_name_is_refused(
    name: str, data: Callable[[], bytes], error: type[Exception], audio: AudioUpload, owner: Any, shelf: Path
) -> None:
    """Promise 41. By both doors, and nothing is stored."""
    picture, song = put(shelf, name, data()), put(shelf, "other.mp3", audio_bytes("mp3", seed=1))
    with pytest.raises(error):
        store_thumbnail(picture, audio_id=audio.pk, actor=owner, cleanup=True)
    with pytest.raises(error):
        store_audio_file(song, workspace=audio.workspace, owner=owner, thumbnail=picture, cleanup=True)
    assert names_in("local") == {audio.storage_path}
    assert AudioUpload.objects.count() == 1
    assert picture.exists() and song.exists()


def test_clean_up_removes_the_picture_after_success(audio: AudioUpload, owner: Any, shelf: Path) -> None:
    picture = put(shelf, "cover.png", make_png())
    assert store_thumbnail(picture, audio_id=audio.pk, actor=owner, cleanup=True).cleaned_up
    assert not picture.exists()


@pytest.mark.parametrize("kind", [PermissionError, OSError])
def test_a_clean_up_that_fails_is_told_and_logged_and_not_raised(
    kind: type[OSError], audio: AudioUpload, owner: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, unlink = put(shelf, "cover.png", make_png()), Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == picture:
            raise kind(13, "not today")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with capture_logs() as lines:
        stored = store_thumbnail(picture, audio_id=audio.pk, actor=owner, cleanup=True)
    monkeypatch.undo()
    assert not stored.cleaned_up
    assert picture.exists()
    (line,) = [line for line in lines if line["event"] == "file_not_cleaned_up"]
    assert (line["log_level"], line["error"]) == ("warning", "not today")
    audio.refresh_from_db()
    assert audio.thumbnail_path == stored.thumbnail_path


@pytest.mark.parametrize(("error", "attempts"), [(TransientStorageError, 3), (PermanentStorageError, 1)])
def test_a_fault_that_stays_leaves_the_callers_picture(
    error: type[Exception],
    attempts: int,
    audio: AudioUpload,
    owner: Any,
    shelf: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 14."""
    picture, calls = put(shelf, "cover.png", make_png()), [0]

    def fail(self: LocalStorage, name: str, *args: Any, **options: Any) -> str:
        calls[0] += 1
        raise error

    monkeypatch.setattr(LocalStorage, "save", fail)
    with pytest.raises(error):
        store_thumbnail(picture, audio_id=audio.pk, actor=owner, retry=AT_ONCE, cleanup=True)
    assert (calls, picture.exists()) == ([attempts], True)
    audio.refresh_from_db()
    assert audio.thumbnail_path == ""


def test_a_storage_that_does_not_describe_what_it_just_stored_undoes_nothing(
    workspace: Workspace, owner: Any, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    song = put(shelf, "song.mp3", audio_bytes("mp3"))
    stat, calls = LocalStorage.stat, [0]

    def fail_later(self: LocalStorage, name: str) -> Any:
        calls[0] += 1
        if calls[0] > 1:
            raise TransientStorageError
        return stat(self, name)

    monkeypatch.setattr(LocalStorage, "stat", fail_later)
    stored = store_audio_file(song, workspace=workspace, owner=owner)
    assert (stored.version, stored.metadata) == ("", {})
    assert stored.checksums == {"sha256": stored.sha256, "md5": stored.md5}
    assert calls == [2]

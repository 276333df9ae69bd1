"""How often an object is fetched, and what becomes of the copy: one download serves all that is done with a file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from objectstore import default_alias, get_storage
from objectstore.base import AudioStorage, ObjectStat
from objectstore.errors import ObjectArchived, TransientStorageError
from objectstore.retry import RetryPolicy, current_policy
from quotas.models import Workspace
from tests.audio import make_jpeg, make_mp3, make_wav
from tests.object_servers import ObjectServer
from tests.object_servers.fixtures import configure
from tests.uploads.life import arrive, complete, steps
from tests.uploads.test_check_storage import check_storage, kinds
from uploads.errors import ObjectDamaged, ObjectLost
from uploads.models import AudioUpload, Status
from uploads.objects import ledger
from uploads.objects.marks import ensure_ours, mark_name
from uploads.processing.artwork import attach_artwork
from uploads.processing.description import describe
from uploads.processing.runner import process_upload
from uploads.processing.validation import validate
from uploads.processing.working_copy import one_working_copy, working_copy
from uploads.upkeep import inventory
from uploads.upkeep.inventory import Inventory
from uploads.upkeep.verification import verify_upload

pytestmark = pytest.mark.django_db(transaction=True)
MP3 = make_mp3(seconds=3, artwork=make_jpeg())


@pytest.fixture
def bucket(s3_server: ObjectServer, settings: Any) -> AudioStorage:
    configure(settings, s3_server)
    settings.AUDIO_STORAGE = "s3"
    # Else the first upload of each test asks for the mark too.
    return ensure_ours(default_alias())


class Altered:
    """An answer of the storage whose first byte is another one on its way."""

    def __init__(self, body: Any) -> None:
        self.body = body
        self.begun = False

    def read(self, size: int) -> bytes:
        data: bytes = self.body.read(size)
        if not self.begun:
            self.begun = True
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    def close(self) -> None:
        self.body.close()


@pytest.fixture
def fetched(bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that were fetched, once for each request."""
    names: list[str] = []
    real = type(bucket).fetch  # type: ignore[attr-defined]

    def fetch(self: AudioStorage, stat: ObjectStat, start: int, length: int) -> Any:
        names.append(stat.name)
        return real(self, stat, start, length)

    monkeypatch.setattr(type(bucket), "fetch", fetch)
    return names


@pytest.fixture(params=["with checksums", "without checksums"])
def corrupt(
    request: pytest.FixtureRequest, bucket: AudioStorage, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], None]:
    """So many of the next answers are corrupted on their way, from a storage that can tell so, and one that cannot."""
    if request.param == "without checksums":
        stat = type(bucket).stat
        monkeypatch.setattr(type(bucket), "stat", lambda *args: replace(stat(*args), checksums={}))
    real = type(bucket).fetch  # type: ignore[attr-defined]
    left = [0]

    def fetch(*args: Any) -> Any:
        body = real(*args)
        if not left[0]:
            return body
        left[0] -= 1
        return Altered(body)

    monkeypatch.setattr(type(bucket), "fetch", fetch)
    return lambda times: left.__setitem__(0, times)


def copies(settings: Any) -> list[str]:
    return [path.name for path in Path(settings.TEMP_AUDIO_DIR).glob("*")]


def test_all_steps_of_a_file_share_one_download(workspace: Workspace, fetched: list[str], settings: Any) -> None:
    upload = complete(workspace, MP3, filename="one.mp3")
    assert len(steps(upload)) == 3 and upload.thumbnail_path
    assert fetched == [upload.storage_path]
    assert copies(settings) == []


def test_all_steps_of_an_attempt_share_one_look(workspace: Workspace, audio_root: Path) -> None:
    upload = arrive(workspace, MP3, filename="one.mp3")
    with one_working_copy(upload):
        validate(upload)
        stored = audio_root / upload.storage_path
        stored.unlink()
        stored.write_bytes(b"no audio any more")
        assert describe(upload).columns["codec"] in ("mp3", "mp3float")
        assert attach_artwork(upload).details == {"artwork": "tags"}


def test_a_duplicate_reads_what_it_brought_and_its_twin_once_each(workspace: Workspace, fetched: list[str]) -> None:
    """Promise 11. What it describes then has the same bytes: they need not come again."""
    first = complete(workspace)
    fetched.clear()
    second = complete(workspace)
    assert second.duplicate_of == first
    assert sorted(fetched) == sorted([first.storage_path, f"audio/{second.pk}/audio.wav"])


@pytest.mark.parametrize("error", [KeyError("x"), ObjectDamaged(), TransientStorageError()])
def test_the_copy_goes_however_a_step_ends(
    workspace: Workspace, fetched: list[str], settings: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Promise 16."""
    seen: list[int] = []

    def fail(upload: AudioUpload) -> None:
        with working_copy(upload) as path:
            seen.append(path.stat().st_size)
            raise error

    monkeypatch.setattr("uploads.processing.description.describe", fail)
    upload = arrive(workspace)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (steps(upload), seen) == (["uploads.processing.validation.validate"], [upload.file_size])
    assert (len(fetched), copies(settings)) == (1, [])


def test_a_step_alone_has_a_copy_of_its_own(workspace: Workspace, fetched: list[str], settings: Any) -> None:
    upload = arrive(workspace)
    assert describe(upload).columns["codec"] == "pcm_s16le"
    assert (len(fetched), copies(settings)) == (1, [])
    with one_working_copy(arrive(workspace)), working_copy(upload) as path:
        assert path.read_bytes() == make_wav()
    assert copies(settings) == []


def test_on_a_disk_the_copy_is_the_object_itself(workspace: Workspace, audio_root: Path, settings: Any) -> None:
    """A twin's, once the file's own is gone."""
    first, second = complete(workspace), arrive(workspace)
    with one_working_copy(second):
        with working_copy(second) as path:
            assert path == audio_root / second.storage_path
        get_storage("local").delete(second.storage_path)
        second.storage_path = first.storage_path
        with working_copy(second) as path:
            assert path == audio_root / first.storage_path
    assert path.exists() and copies(settings) == []


def test_an_object_that_is_gone_is_told_in_every_step(workspace: Workspace, bucket: AudioStorage) -> None:
    upload = arrive(workspace)
    bucket.delete(upload.storage_path)
    for step in (validate, describe):
        with pytest.raises(ObjectLost):
            step(upload)


def test_a_download_that_was_corrupted_is_made_again(
    workspace: Workspace, fetched: list[str], corrupt: Callable[[int], None], settings: Any
) -> None:
    """Promise 14. What is damaged each time is damaged."""
    upload = arrive(workspace)
    corrupt(1)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, len(fetched)) == ("completed", 2)

    corrupt(1)
    verify_upload(upload)
    corrupt(2)
    with pytest.raises(ObjectDamaged):
        verify_upload(upload)

    bad = arrive(workspace, make_wav(seed=1))
    corrupt(2)
    process_upload(str(bad.pk))
    bad.refresh_from_db()
    assert (bad.status, bad.error_code, copies(settings)) == ("failed", "object_damaged", [])


@pytest.mark.parametrize("corrupt", ["with checksums"], indirect=True)
def test_hashes_that_nobody_told_are_not_those_of_a_corrupted_download(
    workspace: Workspace, fetched: list[str], corrupt: Callable[[int], None]
) -> None:
    """Promise 1."""
    upload = arrive(workspace)
    known = (upload.checksum_sha256, upload.checksum_md5)
    AudioUpload.objects.filter(pk=upload.pk).update(checksum_sha256="", checksum_md5="")
    corrupt(1)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert (upload.status, upload.checksum_sha256, upload.checksum_md5) == ("completed", *known)
    assert len(fetched) == 2


def test_a_storage_out_of_reach_says_nothing_about_a_file_or_its_twin(
    workspace: Workspace, bucket: AudioStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 14. The file waits, and what cannot be compared is not shared."""
    first, second = complete(workspace), arrive(workspace)
    real = type(bucket).open_range

    def away(self: AudioStorage, name: str, *args: Any) -> Any:
        if name == first.storage_path:
            raise TransientStorageError
        return real(self, name, *args)

    monkeypatch.setattr(type(bucket), "open_range", away)
    with pytest.raises(TransientStorageError):
        verify_upload(first)
    process_upload(str(second.pk))
    second.refresh_from_db()
    assert (second.status, second.duplicate_of) == ("completed", None)

    third = arrive(workspace, make_wav(seed=3))
    monkeypatch.setattr(type(bucket), "stat", away)
    first.storage_path = third.storage_path
    process_upload(str(third.pk))
    third.refresh_from_db()
    assert (third.status, third.error_code) == ("uploaded", "storage_unavailable")


@pytest.mark.usefixtures("without_decoding")
def test_a_check_of_a_bucket_lists_it_instead_of_asking_for_each_file(
    workspace: Workspace, bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. The check asks for the mark, and for the objects that the list does not show as they should be."""
    uploads = [complete(workspace, make_wav(seed=seed), thumbnail=make_jpeg()) for seed in range(3)]
    asked: list[str] = []
    real = type(bucket).stat

    def stat(self: AudioStorage, name: str) -> ObjectStat:
        asked.append(name)
        return real(self, name)

    monkeypatch.setattr(type(bucket), "stat", stat)
    mark = mark_name(1)
    assert (check_storage()["findings"], asked) == ([], [mark])
    bucket.delete(uploads[0].storage_path)
    bucket.delete(uploads[1].storage_path)
    bucket.save(uploads[1].storage_path, ContentFile(b"short"))
    asked.clear()
    assert kinds(check_storage()) == ["missing", "wrong_size"]
    assert asked == [*sorted(upload.storage_path for upload in uploads[:2]), mark]


def test_what_lies_in_an_archive_is_not_called_unreadable(
    workspace: Workspace, bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 15. Nor verified."""
    upload = complete(workspace)
    AudioUpload.objects.update(status=Status.ARCHIVED)

    def archived(*args: Any) -> None:
        raise ObjectArchived

    monkeypatch.setattr(type(bucket), "open_range", archived)
    assert list(Inventory(deep=True).look_at_files()) == []
    upload.refresh_from_db()
    assert upload.verified_at is None


@pytest.mark.usefixtures("without_decoding")
def test_a_provider_that_stalls_is_not_waited_for_under_the_lock_of_an_object(
    workspace: Workspace, bucket: AudioStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10. Rows are compared under it; what is stored was looked at before."""
    twin, broken = (complete(workspace), complete(workspace, make_wav(seed=1)))
    AudioUpload.objects.filter(pk=broken.pk).update(
        checksum_sha256=twin.checksum_sha256, checksum_md5=twin.checksum_md5, file_size=twin.file_size
    )
    bucket.delete(broken.storage_path)
    locked: list[str] = []
    lock, real = ledger.lock, inventory.stat_or_none

    def stat(alias: str, name: str) -> ObjectStat | None:
        assert not locked, "the storage was asked under the lock"
        return real(alias, name)

    def lock_and_say_so(pks: Any) -> Any:
        locked.append("object")
        return lock(pks)

    monkeypatch.setattr(ledger, "lock", lock_and_say_so)
    monkeypatch.setattr(inventory, "stat_or_none", stat)
    (finding,) = Inventory(fix=True).look_at_files()
    assert finding.repaired and locked


def test_a_look_at_a_picture_under_its_rows_lock_is_tried_once(
    workspace: Workspace, bucket: AudioStorage, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = RetryPolicy(max_attempts=5, initial_delay=0.0, max_delay=0.0)
    monkeypatch.setattr("objectstore.retry.PRESETS", {settings.STORAGE_RETRY: patient})
    upload = complete(workspace, thumbnail=make_jpeg())
    bucket.delete(upload.thumbnail_path)
    attempts: list[int] = []
    real = type(bucket).stat

    def stat(self: AudioStorage, name: str) -> ObjectStat:
        attempts.append(current_policy().max_attempts)
        return real(self, name)

    monkeypatch.setattr(type(bucket), "stat", stat)
    (finding,) = Inventory(workspace=workspace).look_at_files()
    assert finding.kind == "missing_thumbnail"
    assert attempts == [5, 5, 1]

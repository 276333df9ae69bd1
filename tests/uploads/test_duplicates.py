"""Files of one workspace with the same content share one stored object, and each counts in full."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from objectstore import get_storage
from objectstore.local import LocalStorage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_wav
from tests.factories import UserFactory, client_for, operator
from tests.quotas.threads import at_once
from tests.uploads.life import (
    arrive,
    assert_books_balance,
    complete,
    counted,
    new_workspace,
    stored_names,
    sweep_after_grace,
    unneeded_names,
)
from uploads.lifecycle import trash
from uploads.lifecycle.trash import delete_upload, finish_purge, purge_upload, undelete_upload
from uploads.lifecycle.work import retry_upload
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("without_decoding")]

SIZE = len(make_wav())


def throw_away(upload: AudioUpload) -> None:
    upload.refresh_from_db()
    delete_upload(upload, actor=None)
    purge_upload(upload, actor=None)


def content_of(upload: AudioUpload) -> bytes:
    upload.refresh_from_db()
    with get_storage(upload.storage_provider).open_range(upload.storage_path) as file:
        return file.read()


@pytest.mark.parametrize("layout", ["by-id", "by-user-date"])
def test_duplicates_share_one_object_until_the_last_is_purged(
    workspace: Workspace, settings: Any, audio_root: Path, layout: str
) -> None:
    """Promise 57. What became redundant goes after its grace period, and not before."""
    settings.AUDIO_STORAGE_LAYOUT = layout
    first, second, third = (complete(workspace, thumbnail=make_jpeg(width=8 + index)) for index in range(3))

    assert first.duplicate_of is None
    assert second.duplicate_of == third.duplicate_of == first
    assert first.storage_path == second.storage_path == third.storage_path
    assert first.storage_url == second.storage_url
    assert counted(workspace) == (3 * SIZE, 3, 0, 0)
    assert len({upload.thumbnail_path for upload in (first, second, third)}) == 3
    assert len(stored_names()) == 6
    assert sweep_orphaned_objects()["removed"] == 0
    assert sweep_after_grace(audio_root)["removed"] == 2
    assert len(stored_names()) == 4
    event = UploadEvent.objects.get(upload_id=third.pk, action="processing")
    assert event.details == {"duplicate_of": str(first.pk)}

    throw_away(first)
    assert_books_balance(workspace)
    assert content_of(second) == content_of(third) == make_wav()
    second.refresh_from_db()
    assert second.duplicate_of is None

    throw_away(third)
    assert content_of(second) == make_wav()
    throw_away(second)
    assert stored_names() == set()
    assert counted(workspace) == (0, 0, 0, 0)
    assert not AudioUpload.objects.exists()


def test_a_duplicate_is_answered_like_any_other_upload(workspace: Workspace) -> None:
    client = client_for(operator())

    def send() -> Any:
        return client.post(
            f"/api/v1/uploads/?workspace={workspace.pk}",
            make_wav(),
            content_type="application/octet-stream",
            HTTP_CONTENT_DISPOSITION='attachment; filename="x.wav"',
        )

    rows = []
    for _ in range(2):
        answer = send()
        assert answer.status_code == 201
        process_upload(answer.json()["id"])
        rows.append(client.get(f"/api/v1/uploads/{answer.json()['id']}/").json())
    assert rows[0]["id"] != rows[1]["id"] == rows[1]["id"]
    assert (rows[0]["duplicate_of"], rows[1]["duplicate_of"]) == (None, rows[0]["id"])
    for shown in rows:
        content = client.get(f"/api/v1/uploads/{shown['id']}/content/")
        assert hashlib.sha256(content.getvalue()).hexdigest() == shown["checksum_sha256"]


def test_nothing_is_shared_across_workspaces(workspace: Workspace) -> None:
    other = new_workspace()
    mine, theirs = complete(workspace), complete(other)
    assert theirs.duplicate_of is None
    assert stored_names() == {mine.storage_path, theirs.storage_path}
    throw_away(mine)
    assert content_of(theirs) == make_wav()


def test_other_content_is_no_duplicate(workspace: Workspace) -> None:
    complete(workspace)
    assert complete(workspace, make_wav(seed=1)).duplicate_of is None
    assert_books_balance(workspace)


@pytest.mark.parametrize("state", ["deleted", "failed"])
def test_only_what_is_at_hand_is_shared(workspace: Workspace, state: str) -> None:
    first = complete(workspace)
    if state == "deleted":
        delete_upload(first, actor=None)
    else:
        AudioUpload.objects.update(status=Status.FAILED)
    second = complete(workspace)
    assert second.duplicate_of is None and second.storage_path != first.storage_path
    assert_books_balance(workspace)


def test_a_duplicate_can_be_processed_again_on_the_shared_object(workspace: Workspace) -> None:
    first, second = complete(workspace), complete(workspace)
    AudioUpload.objects.filter(pk=second.pk).update(status=Status.FAILED)
    second.refresh_from_db()
    retry_upload(second, actor=None)
    process_upload(str(second.pk))
    second.refresh_from_db()
    assert (second.status, second.storage_path) == (Status.COMPLETED, first.storage_path)
    assert_books_balance(workspace)


def test_two_of_the_same_content_taken_out_of_the_trash_keep_what_they_have(workspace: Workspace) -> None:
    first = complete(workspace)
    delete_upload(first, actor=None)
    second = complete(workspace)
    undelete_upload(first, actor=None)
    third = complete(workspace)
    assert third.duplicate_of == first
    throw_away(first)
    assert content_of(second) == content_of(third) == make_wav()
    assert_books_balance(workspace)


# Nothing is given up for a twin that is not whole


@pytest.mark.parametrize("damage", ["gone", "another byte", "shorter"])
def test_a_good_copy_is_kept_when_the_twins_object_is_damaged(
    workspace: Workspace, audio_root: Path, damage: str
) -> None:
    """Promise 1, Promise 57. Uploading a file again is how people mend one that was lost."""
    first = complete(workspace)
    path = audio_root / first.storage_path
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(make_wav()[:-1] + (b"\xff" if damage == "another byte" else b""))
    second = complete(workspace)
    assert second.duplicate_of is None
    assert content_of(second) == make_wav()
    third = complete(workspace)
    assert third.duplicate_of == second
    assert content_of(third) == make_wav()


def test_an_original_that_is_a_tombstone_is_not_referred_to(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = complete(workspace), complete(workspace)
    delete_upload(first, actor=None)
    with monkeypatch.context() as patched:
        patched.setattr(trash, "finish_purge", lambda upload: False)
        purge_upload(first, actor=None)
    third = complete(workspace)
    assert third.duplicate_of == second
    assert finish_purge(AudioUpload.objects.get(pk=first.pk))
    assert content_of(third) == content_of(second) == make_wav()
    assert_books_balance(workspace)


# Purges against new twins


def test_a_twin_purged_while_it_is_compared_leaves_the_newcomer_its_own_object(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 8. The purge was first: the new file keeps the bytes that it brought."""
    first, second = complete(workspace), arrive(workspace)
    when_opened(first.storage_path, lambda: throw_away(first), monkeypatch)
    process_upload(str(second.pk))
    second.refresh_from_db()
    assert (second.status, second.duplicate_of) == (Status.COMPLETED, None)
    assert content_of(second) == make_wav()
    assert_books_balance(workspace)


def when_opened(name: str, happens: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, when this object has been opened for reading."""
    real, left = LocalStorage.open_range, [happens]

    def open_range(self: LocalStorage, asked: str, *args: Any) -> Any:
        file = real(self, asked, *args)
        if asked == name and left:
            left.pop()()
        return file

    monkeypatch.setattr(LocalStorage, "open_range", open_range)


@pytest.mark.race
def test_purge_and_a_new_twin_at_once_never_leave_a_row_without_its_object(workspace: Workspace) -> None:
    """Promise 8. Whichever of the two is faster."""
    for _ in range(15):
        first, second, third = complete(workspace), arrive(workspace), arrive(workspace)
        outcomes = at_once(
            lambda first=first: throw_away(first),
            lambda second=second: process_upload(str(second.pk)),
            lambda third=third: process_upload(str(third.pk)),
        )
        assert outcomes == [None, True, True]
        assert content_of(second) == content_of(third) == make_wav()
        assert_books_balance(workspace)
        throw_away(second)
        throw_away(third)
        assert stored_names() == unneeded_names("local")


@pytest.mark.race
def test_the_last_two_purged_at_once_take_the_object_along(workspace: Workspace) -> None:
    """Promise 8. Of two purges at once, one is the last."""
    for _ in range(10):
        uploads = [complete(workspace) for _ in range(3)]
        for upload in uploads:
            delete_upload(upload, actor=None)
        outcomes = at_once(*[lambda upload=upload: purge_upload(upload, actor=None) for upload in uploads])
        assert outcomes == [None] * 3
        assert stored_names() == unneeded_names("local")
        assert not AudioUpload.objects.exists()


@pytest.mark.race
def test_the_same_content_twenty_times_in_parallel_leaves_one_object(workspace: Workspace, audio_root: Path) -> None:
    """Promise 11. Twenty rows, answers alike, one object, and nothing that points nowhere."""
    owner = UserFactory()

    def send() -> AudioUpload:
        upload = arrive(workspace, owner=owner)
        process_upload(str(upload.pk))
        return upload

    answers = at_once(*[send] * 20)

    assert all(isinstance(answer, AudioUpload) for answer in answers), answers
    assert {(answer.status, answer.file_size, answer.checksum_sha256) for answer in answers} == {
        ("uploaded", SIZE, hashlib.sha256(make_wav()).hexdigest())
    }
    rows = AudioUpload.objects.all()
    assert {upload.status for upload in rows} == {Status.COMPLETED}
    assert len(rows) == len({upload.pk for upload in rows}) == 20
    (name,) = stored_names() - unneeded_names("local")
    assert {upload.storage_path for upload in rows} == {name}
    (original,) = rows.filter(duplicate_of=None)
    assert set(rows.exclude(pk=original.pk).values_list("duplicate_of", flat=True)) == {original.pk}
    assert counted(workspace) == (20 * SIZE, 20, 0, 0)
    assert_books_balance(workspace)


def test_however_many_duplicates_there_are_one_object_is_read_and_as_many_queries_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 57. A thousand files that share an object cost the next one no more than two."""
    first = complete(workspace)
    complete(workspace)

    def of_another() -> tuple[int, int]:
        opened: list[str] = []
        real = LocalStorage.open_range

        def open_range(self: LocalStorage, name: str, *args: Any) -> Any:
            opened.append(name)
            return real(self, name, *args)

        upload = arrive(workspace)
        with monkeypatch.context() as patched, CaptureQueriesContext(connection) as queries:
            patched.setattr(LocalStorage, "open_range", open_range)
            process_upload(str(upload.pk))
        upload.refresh_from_db()
        assert upload.duplicate_of == first
        assert opened == [first.storage_path]
        return len(opened), len(queries)

    few = of_another()
    copies = [AudioUpload.objects.get(pk=first.pk) for _ in range(1000)]
    for copy in copies:
        copy.pk = uuid.uuid4()
        copy.duplicate_of = first
        copy.thumbnail_object = None
    AudioUpload.objects.bulk_create(copies)
    assert of_another() == few

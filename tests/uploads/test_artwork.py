"""The picture in a file's tags: it lies beside the audio, never fails a file, and never replaces somebody's own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from media.inspection import EncodedImage, reencode_image
from objectstore import get_storage
from quotas.models import Workspace
from tests.audio import make_jpeg, make_mp3, make_png_bomb
from tests.plugging import steps_of
from tests.uploads.life import arrive, complete, stored_names
from uploads.intake import thumbnails
from uploads.models import AudioUpload, UploadEvent
from uploads.processing import artwork
from uploads.processing.runner import process_upload
from uploads.processing.steps import StepResult

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("picture", "code"),
    [(b"not a picture", "unsupported_image"), (make_png_bomb(), "image_too_large"), (make_jpeg()[:300], None)],
    ids=["no picture", "a bomb", "cut short"],
)
def test_artwork_that_cannot_be_used_does_not_fail_the_file(
    workspace: Workspace, declare: Callable[..., None], picture: bytes, code: str | None
) -> None:
    """Promise 44. The audio is whole; the diary says what was wrong with its picture."""
    declare(processing_steps=steps_of("uploads.processing.artwork.attach_artwork"))
    upload = complete(workspace, make_mp3(artwork=picture), filename="x.mp3")
    assert upload.thumbnail_path == ""
    details = UploadEvent.objects.get(upload_id=upload.pk, action="step_done").details
    assert details["artwork"] == "unusable"
    assert details["error_code"] == (code or "image_unreadable")
    assert stored_names() == {upload.storage_path}


def test_the_picture_of_the_tags_lies_beside_the_audio(workspace: Workspace, declare: Callable[..., None]) -> None:
    declare(processing_steps=steps_of("uploads.processing.artwork.attach_artwork"))
    upload = complete(workspace, make_mp3(artwork=make_jpeg()), filename="x.mp3")
    assert upload.thumbnail_path == f"audio/{upload.pk}/thumbnail.jpg"
    assert stored_names() == {upload.storage_path, upload.thumbnail_path}


def test_a_picture_given_by_the_uploader_is_kept(workspace: Workspace, declare: Callable[..., None]) -> None:
    declare(processing_steps=steps_of("uploads.processing.artwork.attach_artwork"))
    given = make_jpeg(width=20, height=10)
    upload = arrive(workspace, make_mp3(artwork=make_jpeg()), filename="x.mp3", thumbnail=given)
    before = read(upload.thumbnail_path)
    process_upload(str(upload.pk))
    assert read(upload.thumbnail_path) == before


def attach_while_one_is_set(upload: AudioUpload) -> StepResult:
    """A step: the row in the database has a thumbnail that ``upload`` does not show."""
    thumbnails.save_thumbnail(fresh(upload), reencode_image(make_jpeg(width=20, height=10)))
    return artwork.attach_artwork(upload)


def test_a_picture_that_is_set_while_the_tags_are_read_is_kept(
    workspace: Workspace, declare: Callable[..., None]
) -> None:
    declare(processing_steps=steps_of(f"{__name__}.attach_while_one_is_set"))
    upload = arrive(workspace, make_mp3(artwork=make_jpeg()), filename="x.mp3")
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == "completed"
    assert read(upload.thumbnail_path) == reencode_image(make_jpeg(width=20, height=10)).data


def test_a_picture_that_is_set_at_the_very_moment_does_not_fail_the_file(
    workspace: Workspace, declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(processing_steps=steps_of("uploads.processing.artwork.attach_artwork"))
    upload = arrive(workspace, make_mp3(artwork=make_jpeg()), filename="x.mp3")
    theirs = reencode_image(make_jpeg(width=20, height=10))
    save, storage = thumbnails.save_thumbnail, type(get_storage("local"))
    delete = storage.delete

    def both_at_once(mine: AudioUpload, image: EncodedImage) -> None:
        with just_after_the_delete(monkeypatch, storage, delete, lambda: save(fresh(upload), theirs)):
            save(mine, image)

    monkeypatch.setattr(artwork, "save_thumbnail", both_at_once)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == "completed", upload.error_message
    assert read(upload.thumbnail_path) == theirs.data


@contextmanager
def just_after_the_delete(
    monkeypatch: pytest.MonkeyPatch, storage: type, delete: Callable[..., None], act: Callable[[], None]
) -> Iterator[None]:
    def delete_then_act(self: Any, name: str, **seen: Any) -> None:
        delete(self, name, **seen)
        monkeypatch.setattr(storage, "delete", delete)
        act()

    monkeypatch.setattr(storage, "delete", delete_then_act)
    yield


def fresh(upload: AudioUpload) -> AudioUpload:
    return AudioUpload.objects.get(pk=upload.pk)


def read(name: str) -> bytes:
    with get_storage("local").open_range(name) as file:
        return file.read()

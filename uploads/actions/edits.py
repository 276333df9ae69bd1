from django.contrib.auth.models import User
from django.db import transaction

from audiotricks.errors import NotFound
from media.inspection import EncodedImage
from quotas.rights import Right
from uploads.actions.base import FileAction
from uploads.intake.thumbnails import remove_thumbnail, set_thumbnail
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status
from uploads.models.states import UNLISTED


class Rename(FileAction):
    name = "rename"
    right = Right.CHANGE_FILES
    states = frozenset(Status) - frozenset(UNLISTED)

    def run(self, upload: AudioUpload, *, actor: User | None, name: str) -> None:
        """The object keeps its name. Raises NotFound."""
        if name == upload.original_filename:
            return
        with transaction.atomic():
            before, upload.original_filename = upload.original_filename, name
            if not AudioUpload.objects.filter(pk=upload.pk).update(original_filename=name):
                raise NotFound
            record_event(upload, "renamed", actor=actor, details={"from": before, "to": name})


class SetThumbnail(FileAction):
    name = "set_thumbnail"
    right = Right.CHANGE_FILES
    states = frozenset(Status) - frozenset(UNLISTED)

    def run(self, upload: AudioUpload, *, actor: User | None, image: EncodedImage) -> None:
        set_thumbnail(upload, image, actor=actor)


class RemoveThumbnail(FileAction):
    name = "remove_thumbnail"
    right = Right.CHANGE_FILES
    states = frozenset(Status) - frozenset(UNLISTED)

    def run(self, upload: AudioUpload, *, actor: User | None) -> None:
        if not upload.thumbnail_path:
            raise NotFound
        remove_thumbnail(upload)
        record_event(upload, "thumbnail_removed", actor=actor)


RENAME = Rename()
SET_THUMBNAIL = SetThumbnail()
REMOVE_THUMBNAIL = RemoveThumbnail()

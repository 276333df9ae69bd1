"""The thumbnail of an upload: set, replaced, removed."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import transaction

from audiotricks.errors import NotFound
from media.inspection import EncodedImage
from objectstore.errors import ObjectExists
from objectstore.names import audio_name, parse_name, thumbnail_name
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status
from uploads.objects.marks import ensure_ours
from uploads.objects.placing import thumbnail_metadata

SET_ATTEMPTS = 5


def set_thumbnail(upload: AudioUpload, image: EncodedImage, *, actor: User | None) -> None:
    """Give a file this picture, and write that into its history. Of two who do so at once, the last one's stays.

    Raises NotFound for a file that is gone, StorageNotOurs, and what the storage raises.
    """
    on_named = partial(record_event, upload, "thumbnail_set", actor=actor)
    for _attempt in range(SET_ATTEMPTS - 1):
        # Another one may be put there between our removing and our saving.
        with suppress(ObjectExists):
            save_thumbnail(upload, image, on_named=on_named)
            return
        look_again(upload)
    save_thumbnail(upload, image, on_named=on_named)


def save_thumbnail(upload: AudioUpload, image: EncodedImage, *, on_named: Callable[[], object] = lambda: None) -> None:
    """Store ``image`` beside the file and name it in the row, in place of the one before.

    An object is never overwritten, so the old one is taken out of the row and removed first; killed in between, the
    file has no thumbnail, and what lies there is removed by the next one or by the orphan sweep. ``on_named`` is called
    in the transaction that names it. A file that is moved to another storage meanwhile gets it there. Raises
    StorageNotOurs before it changes anything.
    """
    while True:
        alias = upload.storage_provider
        storage = ensure_ours(alias)
        name = thumbnail_name(own_audio_name(upload), image.extension)
        remove_thumbnail(upload)
        storage.delete(name)
        storage.save(
            name,
            ContentFile(image.data),
            content_type=image.mime_type,
            metadata=lambda: thumbnail_metadata(upload.pk, extension=image.extension, size_bytes=len(image.data)),
        )
        with transaction.atomic():
            here = AudioUpload.objects.filter(pk=upload.pk, storage_provider=alias).exclude(status=Status.PURGED)
            if here.update(thumbnail_path=name):
                upload.thumbnail_path = name
                on_named()
                return
        storage.delete(name)
        look_again(upload)


def look_again(upload: AudioUpload) -> None:
    """Raises NotFound for a file that is gone."""
    try:
        upload.refresh_from_db()
    except AudioUpload.DoesNotExist:
        raise NotFound from None
    if upload.status == Status.PURGED:
        raise NotFound


def own_audio_name(upload: AudioUpload) -> str:
    """The name of this row's own object: not ``storage_path`` where that is a twin's."""
    parsed = parse_name(upload.storage_path)
    if parsed is not None and parsed.upload_id == upload.pk:
        return upload.storage_path
    return audio_name(
        upload.pk,
        extension=upload.file_type,
        owner_id=upload.owner_id or 0,
        filename=upload.original_filename,
        created_at=upload.created_at,
    )


def remove_thumbnail(upload: AudioUpload) -> None:
    """Take the thumbnail out of the row, then out of the storage. Raises StorageNotOurs before it changes anything."""
    if not upload.thumbnail_path:
        return
    storage = ensure_ours(upload.storage_provider)
    name, upload.thumbnail_path = upload.thumbnail_path, ""
    AudioUpload.objects.filter(pk=upload.pk).update(thumbnail_path="")
    storage.delete(name)

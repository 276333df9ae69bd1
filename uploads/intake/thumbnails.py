"""The thumbnail of an upload: set, replaced, removed."""

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import transaction

from audiotricks.database import release_connection
from audiotricks.errors import NotFound
from media.inspection import EncodedImage
from objectstore.errors import ObjectExists
from objectstore.hashing import digest_of
from objectstore.names import audio_name, parse_name, thumbnail_name
from objectstore.retry import RetryPolicy
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status, StoredObject
from uploads.objects import ledger
from uploads.objects.marks import ensure_ours
from uploads.objects.metadata import thumbnail_metadata

#: Those who set a picture of one file at once remove what the others have begun to write.
PATIENCE = RetryPolicy(max_attempts=8, initial_delay=0.02, max_delay=1.0)


def set_thumbnail(upload: AudioUpload, image: EncodedImage, *, actor: User | None) -> None:
    """Give a file this picture, and write that into its history. Of two who do so at once, the last one's stays.

    Raises NotFound for a file that is gone, StorageNotOurs, and what the storage raises.
    """
    on_named = partial(record_event, upload, "thumbnail_set", actor=actor)
    for attempt in range(PATIENCE.max_attempts - 1):
        # Another one may be put there between our removing and our saving.
        with suppress(ObjectExists):
            save_thumbnail(upload, image, on_named=on_named)
            return
        release_connection()
        time.sleep(PATIENCE.delay(attempt))
        look_again(upload)
    save_thumbnail(upload, image, on_named=on_named)


def save_thumbnail(upload: AudioUpload, image: EncodedImage, *, on_named: Callable[[], object] = lambda: None) -> None:
    """Store ``image`` beside the file and name it in the row, in place of the one before, which goes at once.

    An object is never overwritten: killed in between, the file has no thumbnail, and what lies there goes after its
    grace period, or with the next one. ``on_named`` is called in the transaction that names it. A file that is moved to
    another storage meanwhile gets it there. Raises ObjectExists where another one is being stored, and StorageNotOurs
    before it changes anything.
    """
    while True:
        alias = upload.storage_provider
        storage = ensure_ours(alias)
        name = thumbnail_name(own_audio_name(upload), image.extension)
        remove_thumbnail(upload)
        ledger.vacate(alias, name)
        stored = ledger.register(alias, name, kind=StoredObject.Kind.THUMBNAIL, size_bytes=len(image.data))
        storage.save(
            name,
            ContentFile(image.data),
            content_type=image.mime_type,
            metadata=lambda: thumbnail_metadata(upload.pk, extension=image.extension, size_bytes=len(image.data)),
        )
        digests = digest_of([image.data])
        ledger.mark_stored(stored, size_bytes=digests.size, sha256=digests.sha256, md5=digests.md5)
        with transaction.atomic():
            held = ledger.lock([stored.pk]).get(stored.pk)
            free = AudioUpload.objects.filter(pk=upload.pk, storage_provider=alias, thumbnail_object=None)
            columns = ledger.owning(AudioUpload, "thumbnail_object", stored)
            # Another process that puts a picture there may have begun to remove it.
            is_there = held is not None and held.state == StoredObject.State.STORED
            if is_there and free.exclude(status=Status.PURGED).update(**columns):
                ledger.share(stored)
                upload.thumbnail_object, upload.thumbnail_path = stored, name
                on_named()
                return
        ledger.give_up(stored)
        look_again(upload)
        if upload.storage_provider == alias:
            raise ObjectExists


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
    ensure_ours(upload.storage_provider)
    with transaction.atomic():
        held = ledger.hold_objects(upload)
        AudioUpload.objects.filter(pk=upload.pk).update(thumbnail_object=None, thumbnail_path="")
        discarded = ledger.discard([held.thumbnail_object_id])
    upload.thumbnail_object, upload.thumbnail_path = None, ""
    for stored in discarded:
        ledger.remove(stored)

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

#: Parallel writers of one file's thumbnail remove each other's beginnings.
PATIENCE = RetryPolicy(max_attempts=8, initial_delay=0.02, max_delay=1.0)


def set_thumbnail(upload: AudioUpload, image: EncodedImage, *, actor: User | None) -> None:
    """With its event; of parallel calls, the last one wins. Raises NotFound, StorageNotOurs and other
    storage errors.
    """
    on_named = partial(record_event, upload, "thumbnail_set", actor=actor)
    for attempt in range(PATIENCE.max_attempts - 1):
        # Another call may store one between our removal and our save.
        with suppress(ObjectExists):
            save_thumbnail(upload, image, on_named=on_named)
            return
        release_connection()
        time.sleep(PATIENCE.delay(attempt))
        look_again(upload)
    save_thumbnail(upload, image, on_named=on_named)


def save_thumbnail(upload: AudioUpload, image: EncodedImage, *, on_named: Callable[[], object] = lambda: None) -> None:
    """Store ``image`` and name it in the row; an earlier one is removed first, since objects are never overwritten. A
    kill leaves no thumbnail, and an object that is removed later. ``on_named`` is called in the transaction. Follows
    a file that moves meanwhile. Raises ObjectExists if another one is being stored; StorageNotOurs before any
    change.
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
            # Another process that sets a thumbnail may be removing it.
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
    """Raises NotFound."""
    try:
        upload.refresh_from_db()
    except AudioUpload.DoesNotExist:
        raise NotFound from None
    if upload.status == Status.PURGED:
        raise NotFound


def own_audio_name(upload: AudioUpload) -> str:
    """Not the shared one of a duplicate."""
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
    """Raises StorageNotOurs before any change."""
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

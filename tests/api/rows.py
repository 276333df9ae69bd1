"""Rows as the life of a file leaves them, with their object and their place in the quota, without the way there."""

import uuid
from datetime import timedelta
from typing import Any

from django.core.files.base import ContentFile
from django.db import transaction
from django.utils import timezone

from objectstore import default_alias, get_storage
from objectstore.hashing import digest_of
from objectstore.names import audio_name, thumbnail_name
from quotas.models import Workspace
from quotas.reservations import count_in, ensure_quota
from tests.factories import give_object
from uploads.models import AudioUpload, Status, StoredObject, UploadSession
from uploads.models.states import UNLISTED

CONTENT = bytes(range(256)) * 8


def store_upload(
    workspace: Workspace, *, status: Status = Status.COMPLETED, content: bytes = CONTENT, **columns: Any
) -> AudioUpload:
    """A row in this state whose object holds ``content``; counted, if its state is counted."""
    pk = uuid.uuid4()
    now = timezone.now()
    digests = digest_of([content])
    name = audio_name(pk, extension="mp3", owner_id=0, filename="tone.mp3", created_at=now)
    get_storage(default_alias()).save(name, ContentFile(content), content_type="audio/mpeg")
    row = {
        "original_filename": "tone.mp3",
        "file_size": len(content),
        "file_type": "mp3",
        "mime_type": "audio/mpeg",
        "storage_provider": default_alias(),
        "storage_path": name,
        "checksum_sha256": digests.sha256,
        "checksum_md5": digests.md5,
        "uploaded_at": now,
        "deleted_at": now if status == Status.DELETED else None,
    }
    with transaction.atomic():
        upload = AudioUpload(id=pk, workspace=workspace, status=status, **(row | columns))
        give_object(upload)
        upload.save(force_insert=True)
        ensure_quota(workspace)
        if status not in UNLISTED:
            count_in(workspace.pk, size_bytes=upload.file_size)
    return upload


def store_thumbnail(upload: AudioUpload, picture: bytes) -> None:
    name = thumbnail_name(upload.storage_path, "jpg")
    get_storage(default_alias()).save(name, ContentFile(picture), content_type="image/jpeg")
    upload.thumbnail_object = StoredObject.objects.create(
        storage_provider=default_alias(),
        storage_path=name,
        kind=StoredObject.Kind.THUMBNAIL,
        state=StoredObject.State.STORED,
        size_bytes=len(picture),
    )
    upload.thumbnail_path = name
    upload.save(update_fields=["thumbnail_path", "thumbnail_object"])


def store_session(upload: AudioUpload, **columns: Any) -> UploadSession:
    """A direct upload that this row was, or is, as its state says."""
    values = {"kind": "direct", "method": "parts", "part_bytes": 8, "expires_at": timezone.now() + timedelta(hours=1)}
    values |= {
        "state": "open" if upload.status == Status.RECEIVING else "completed",
        "workspace_id": upload.workspace_id,
        "owner_id": upload.owner_id,
        "storage_provider": upload.storage_provider,
        "storage_path": upload.storage_path,
        "size_bytes": upload.file_size,
    }
    return UploadSession.objects.create(upload=upload, **(values | columns))


def many_uploads(workspace: Workspace, count: int, **columns: Any) -> list[AudioUpload]:
    """Rows of uploads and of their objects, without bytes."""
    now, names = timezone.now(), [f"audio/{number}" for number in range(count)]
    StoredObject.objects.bulk_create(
        (
            StoredObject(
                storage_provider=default_alias(),
                storage_path=name,
                kind=StoredObject.Kind.AUDIO,
                state=StoredObject.State.STORED,
                size_bytes=1,
            )
            for name in names
        ),
        ignore_conflicts=True,
    )
    objects = {stored.storage_path: stored for stored in StoredObject.objects.filter(storage_path__in=names)}
    return AudioUpload.objects.bulk_create(
        AudioUpload(
            workspace=workspace,
            **{
                "original_filename": f"tone {number}.mp3",
                "file_size": 1,
                "file_type": "mp3",
                "mime_type": "audio/mpeg",
                "storage_provider": default_alias(),
                "storage_path": name,
                "stored_object": objects[name],
                "uploaded_at": now,
                "status": Status.COMPLETED,
                **columns,
            },
        )
        for number, name in enumerate(names)
    )

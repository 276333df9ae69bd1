"""Files at each point of their life, made by the product's own doors, and what must add up at each of them."""

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from audiotricks.celery import app
from objectstore import default_alias, get_storage
from quotas.models import QuotaReservation, StorageQuota, Workspace
from quotas.reservations import reserve_storage
from tests.audio import make_wav
from tests.factories import StorageQuotaFactory, UserFactory, WorkspaceFactory, give_object
from tests.plugging import declare_only, steps_of
from tests.running.programs import environment
from uploads.intake.ingest import ingest_audio
from uploads.models import AudioUpload, Status, StoredObject, UploadEvent, UploadSession
from uploads.objects.marks import FOLDER, look_at_mark
from uploads.objects.orphans import sweep_orphaned_objects
from uploads.processing.runner import process_upload

#: The name of an object whose row nobody made.
ORPHAN = "audio/6f1d7a4e-2f53-4a55-9f0a-0d8f3f3f7d11/audio.wav"


class Bytes:
    """Bytes in memory, as a source of :func:`ingest_audio`."""

    def __init__(self, data: bytes, filename: str = "tone.wav", thumbnail: bytes | None = None) -> None:
        self.filename = filename
        self.size = len(data)
        self.thumbnail = thumbnail
        self.data = data

    def chunks(self) -> Iterator[bytes]:
        yield self.data


def ago(**span: float) -> datetime:
    return timezone.now() - timedelta(**span)


def validating_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step is enough where a test is about rows and objects."""
    declare_only(monkeypatch, processing_steps=steps_of("uploads.processing.validation.validate"))


def new_workspace(**quota: Any) -> Workspace:
    workspace = WorkspaceFactory()
    StorageQuotaFactory(workspace=workspace, **quota)
    return workspace


def arrive(workspace: Workspace, data: bytes | None = None, *, owner: Any = None, **source: Any) -> AudioUpload:
    """A file that has just arrived: ``uploaded``."""
    return ingest_audio(
        Bytes(make_wav() if data is None else data, **source),
        workspace=workspace,
        owner=owner or UserFactory(),
        door="test",
    )


def complete(workspace: Workspace, data: bytes | None = None, **arrival: Any) -> AudioUpload:
    """A file that went through every configured step."""
    upload = arrive(workspace, data, **arrival)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    assert upload.status == Status.COMPLETED, upload.error_message
    return upload


def row(workspace: Workspace, status: Status, **columns: Any) -> AudioUpload:
    """A row without an object, in any state."""
    arrived = None if status == Status.RECEIVING else timezone.now()
    values = {
        "original_filename": "row.wav",
        "file_size": 10,
        "file_type": "wav",
        "mime_type": "audio/wav",
        "storage_provider": default_alias(),
        "uploaded_at": arrived,
        **columns,
    }
    upload = AudioUpload(workspace=workspace, status=status, **values)
    upload.storage_path = columns.get("storage_path") or f"audio/{upload.pk}/audio.wav"
    if status == Status.PURGED:
        StoredObject.objects.get_or_create(
            storage_provider=upload.storage_provider,
            storage_path=upload.storage_path,
            defaults={
                "kind": StoredObject.Kind.AUDIO,
                "state": StoredObject.State.REMOVING,
                "size_bytes": upload.file_size,
                "unneeded_since": timezone.now(),
            },
        )
    else:
        give_object(upload)
    upload.save(force_insert=True)
    return upload


def unneeded_object(name: str, **columns: Any) -> StoredObject:
    """A row of the ledger that has no owner, since now unless the columns say otherwise."""
    values = {
        "storage_provider": default_alias(),
        "kind": StoredObject.Kind.AUDIO,
        "state": StoredObject.State.STORED,
        "size_bytes": 1,
        "unneeded_since": timezone.now(),
    }
    return StoredObject.objects.create(storage_path=name, **(values | columns))


def end_grace_periods(**span: float) -> None:
    """Let every grace period have begun two days ago, or so long."""
    StoredObject.objects.unneeded().update(unneeded_since=ago(**(span or {"days": 2})))


def receiving(workspace: Workspace, *, expired: bool, size: int = 500) -> AudioUpload:
    """A row that waits for its bytes, with its reservation."""
    upload = row(workspace, Status.RECEIVING, file_size=size)
    reservation = reserve_storage(workspace, size_bytes=size)
    AudioUpload.objects.filter(pk=upload.pk).update(reservation=reservation)
    if expired:
        QuotaReservation.objects.filter(pk=reservation.pk).update(expires_at=ago(seconds=1))
    upload.refresh_from_db()
    return upload


def actions(upload: AudioUpload) -> list[str]:
    return list(UploadEvent.objects.filter(upload_id=upload.pk).values_list("action", flat=True))


def steps(upload: AudioUpload) -> list[str]:
    events = UploadEvent.objects.filter(upload_id=upload.pk, action="step_done")
    return list(events.values_list("details__step", flat=True))


def names_in(alias: str) -> set[str]:
    """The names of all objects but the mark of the storage."""
    return {stat.name for stat in get_storage(alias).list() if not stat.name.startswith(FOLDER)}


def stored_names() -> set[str]:
    return names_in(default_alias())


def put_files(folder: Path, *names: str, seed: int = 0, seconds: float = 0.5) -> list[Path]:
    """Distinct short WAV files."""
    paths = [folder / name for name in names]
    for number, path in enumerate(paths, start=seed):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_wav(seed=number, seconds=seconds))
    return paths


def put_orphan(audio_root: Path, name: str = ORPHAN, *, age: timedelta = timedelta(days=2)) -> str:
    """An object that no row needs, in a storage that is known to be ours."""
    look_at_mark(default_alias())
    path = audio_root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"orphan")
    moment = time.time() - age.total_seconds()
    os.utime(path, (moment, moment))
    return name


def age_all(audio_root: Path) -> None:
    """Make every object two days old."""
    moment = time.time() - 2 * 86_400
    for path in audio_root.rglob("*"):
        os.utime(path, (moment, moment))


def counted(workspace: Workspace) -> tuple[int, int, int, int]:
    """Bytes and files in use, bytes and files reserved."""
    quota = StorageQuota.objects.get(workspace=workspace)
    return (quota.current_storage_bytes, quota.current_file_count, quota.reserved_bytes, quota.reserved_files)


def actual(workspace: Workspace) -> tuple[int, int, int, int]:
    """The same, added up from the rows, as the design says it: arrived, and neither deleted nor purged."""
    files = AudioUpload.objects.filter(workspace=workspace).exclude(status__in=("receiving", "deleted", "purged"))
    reserved = QuotaReservation.objects.filter(workspace=workspace)
    stored = files.aggregate(size=Coalesce(Sum("file_size"), 0), files=Count("pk"))
    held = reserved.aggregate(size=Coalesce(Sum("bytes"), 0), files=Coalesce(Sum("files"), 0))
    return (stored["size"], stored["files"], held["size"], held["files"])


def unneeded_names(alias: str) -> set[str]:
    """What lies in its grace period there."""
    rows = StoredObject.objects.unneeded().filter(storage_provider=alias, state=StoredObject.State.STORED)
    return set(rows.values_list("storage_path", flat=True))


def assert_ledger_agrees() -> None:
    """Each row's columns repeat its object's, and exactly the objects without an owner are in their grace period."""
    for upload in AudioUpload.objects.select_related("stored_object", "thumbnail_object"):
        for field, columns in AudioUpload.OBJECT_COLUMNS.items():
            stored = getattr(upload, field)
            if stored is None:
                assert field == "thumbnail_object" or upload.status == Status.PURGED, upload.pk
                continue
            for column, attribute in columns.items():
                assert getattr(upload, column) == getattr(stored, attribute), (upload.pk, upload.status, column)
    owned = set(StoredObject.objects.owned().values_list("pk", flat=True))
    assert owned == set(StoredObject.objects.filter(unneeded_since=None).values_list("pk", flat=True))


def sweep_after_grace(audio_root: Path) -> dict[str, int]:
    """Let every object and its grace period be two days old, and sweep."""
    age_all(audio_root)
    end_grace_periods()
    return sweep_orphaned_objects()


def assert_books_balance(*workspaces: Workspace, orphans: bool = False) -> None:
    """Counters are the rows, each row's object is there and whole, and (without ``orphans``) nothing else is."""
    for workspace in workspaces:
        assert counted(workspace) == actual(workspace)
    storage = get_storage(default_alias())
    objects = {stat.name: stat.size for stat in storage.list() if not stat.name.startswith(FOLDER)}
    needed = set()
    for upload in AudioUpload.objects.exclude(status__in=(Status.RECEIVING, Status.PURGED)):
        assert objects.get(upload.storage_path) == upload.file_size, f"{upload.pk} {upload.status} lost its object"
        needed.add(upload.storage_path)
        if upload.thumbnail_path:
            assert upload.thumbnail_path in objects
            needed.add(upload.thumbnail_path)
    assert_ledger_agrees()
    if not orphans:
        assert set(objects) == needed | unneeded_names(default_alias())
    receiving = set(AudioUpload.objects.filter(status=Status.RECEIVING).values_list("reservation", flat=True))
    partials = UploadSession.objects.open().filter(is_partial=True, final=None).values_list("reservation", flat=True)
    assert set(QuotaReservation.objects.values_list("pk", flat=True)) == receiving | set(partials)


def environment_of_this_test(audio_root: Path, **given: str) -> dict[str, str]:
    """For a program of ours that works on this test's database and objects."""
    server = urlsplit(os.environ["DATABASE_URL"])
    return environment(
        DATABASE_URL=server._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
        SECRET_KEY=os.environ["SECRET_KEY"],
        AUDIO_STORAGE_PATH=str(audio_root),
        VAR_DIR=os.environ["VAR_DIR"],
        **given,
    )


def use_broker(url: str) -> None:
    """Let this process send to another broker than before."""
    embedded = url.startswith("filesystem")
    app.conf.broker_url = url
    app.conf.broker_transport_options = (
        settings.CELERY_BROKER_TRANSPORT_OPTIONS if embedded else {"socket_connect_timeout": 2, "max_retries": 0}
    )
    app.amqp._producer_pool = None
    app._pool = None

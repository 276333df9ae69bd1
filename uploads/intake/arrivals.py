"""The row of an arriving file: before its object, and ``uploaded`` after it.

A crash leaves a reservation and a ``receiving`` row, which a sweep takes back, and an object with a grace period.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.celery import send_on_commit
from audiotricks.clock import Now
from audiotricks.database import is_unavailable, put_off, release_connection
from audiotricks.errors import Conflict
from media.formats import AudioFormat
from objectstore import default_alias, direct_uploads_of
from objectstore.capabilities import DirectUpload
from objectstore.errors import ObjectExists, StorageError
from objectstore.names import audio_name
from quotas.models import QuotaReservation, Workspace
from quotas.reservations import check_room, ensure_quota, release_reservation, reserve_storage, settle_reservation
from quotas.rights import Right, require_right
from uploads.intake.cleaning import clean_up_session
from uploads.lifecycle.transitions import move
from uploads.lifecycle.work import PROCESS_TASK
from uploads.models import AudioUpload, Status, StoredObject, UploadSession
from uploads.objects import ledger
from uploads.objects.conditions import asking, storages_left_alone
from uploads.objects.marks import ensure_ours

log = structlog.get_logger(__name__)


#: Where users send files themselves. Elsewhere whoever runs the machine says whose the files are.
ENTRY_POINTS_OF_USERS = frozenset({"api", "chunks", "direct", "form", "tus"})


class UploadTakenBack(Conflict):
    """The upload stalled, and a sweep took it back."""

    code = "upload_expired"
    title = _("The upload took too long and its reservation ran out: send the file again")


class AudioIdTaken(Conflict):
    code = "audio_id_taken"
    title = _("A file with this id exists already")


def begin_receiving(
    filename: str,
    file_format: AudioFormat,
    *,
    size_bytes: int,
    workspace: Workspace,
    owner: User,
    pk: uuid.UUID | None = None,
    metadata: Mapping[str, Any] | None = None,
    seconds: int | None = None,
    reserve: Callable[[], QuotaReservation] | None = None,
) -> AudioUpload:
    """Reserve ``size_bytes`` for ``seconds`` (default RESERVATION_SECONDS) and make the hidden row with its final path.
    ``filename`` is from :func:`uploads.intake.ingest.check_declared`. Raises QuotaExceeded, FileTooLarge,
    AudioIdTaken, StorageNotOurs.
    """
    alias = default_alias()
    ensure_ours(alias)
    upload = AudioUpload(
        id=pk or uuid.uuid4(),
        workspace=workspace,
        owner=owner,
        original_filename=filename,
        file_size=size_bytes,
        file_type=file_format.extension,
        mime_type=file_format.mime_type,
        metadata=dict(metadata or {}),
    )
    name = audio_name(
        upload.pk,
        extension=file_format.extension,
        owner_id=owner.pk,
        filename=filename,
        created_at=upload.created_at,
    )
    try:
        with transaction.atomic():
            if pk is not None:
                ledger.forget_unwritten(alias, name)
            stored = ledger.register(alias, name, kind=StoredObject.Kind.AUDIO, size_bytes=size_bytes, owned=True)
            for column, value in ledger.owning(AudioUpload, "stored_object", stored).items():
                setattr(upload, column, value)
            # Last, since everybody waits for the quota's row.
            upload.reservation = (
                reserve() if reserve else reserve_storage(workspace, size_bytes=size_bytes, seconds=seconds)
            )
            upload.save(force_insert=True)
    except (IntegrityError, ObjectExists) as error:
        if pk is not None:
            raise AudioIdTaken(format_lazy(_("A file with the id {id} exists already."), id=pk)) from error
        raise
    release_connection()
    return upload


def finish_receiving(
    upload: AudioUpload,
    *,
    size_bytes: int,
    sha256: str,
    md5: str,
    storage_class: str,
    door: str,
    actor: User,
    on_stored: Callable[[AudioUpload], None] | None = None,
) -> None:
    """Make a row whose object is stored ``uploaded``, and have it processed. Validation fills in empty hashes.

    Raises UploadTakenBack; NotFound or PermissionDenied if ``actor`` lost the right; QuotaExceeded or FileTooLarge if
    limits were lowered.
    """
    stored = upload.stored_object
    with transaction.atomic():
        _ask_again(upload, actor=actor, door=door, size_bytes=size_bytes)
        if upload.reservation is None or not settle_reservation(upload.reservation, size_bytes=size_bytes):
            raise UploadTakenBack
        if stored is None or not ledger.mark_stored(
            stored, size_bytes=size_bytes, sha256=sha256, md5=md5, storage_class=storage_class
        ):
            raise UploadTakenBack
        move(
            upload,
            Status.UPLOADED,
            "uploaded",
            only_from=frozenset({Status.RECEIVING}),
            actor=actor,
            right=Right.ADD_FILES,
            details={"door": door, "bytes": size_bytes, "sha256": sha256},
            reservation=None,
            claimable_at=Now(),
            file_size=size_bytes,
            **ledger.owning(AudioUpload, "stored_object", stored),
        )
        if on_stored is not None:
            on_stored(upload)
        send_on_commit(PROCESS_TASK, upload.pk)


def _ask_again(upload: AudioUpload, *, actor: User, door: str, size_bytes: int) -> None:
    """Role and quota, at the end as at the beginning (promise 23)."""
    if door in ENTRY_POINTS_OF_USERS:
        # A new instance: an upload may run for hours, and permissions are cached on the user.
        require_right(User.objects.get(pk=actor.pk), Right.ADD_FILES, upload.workspace_id)
    if upload.reservation is not None:
        quota = ensure_quota(upload.workspace)
        check_room(quota, size_bytes=size_bytes, other_bytes=-upload.reservation.bytes, other_files=-1)


def abandon_receiving(
    upload: AudioUpload,
    *,
    object_stored: bool = True,
    direct: DirectUpload | None = None,
    unless_extended_beyond: datetime | None = None,
    error_code: str = "upload_expired",
) -> bool:
    """Remove reservation, row and object of a ``receiving`` upload; return whether it did.

    Without ``object_stored``, what lies under the object's name is not ours, and stays. It also ends what a client is
    sending to the storage itself: ``direct``, or the row's session, which is kept as ``ended`` with ``error_code``. A
    sweep gives ``unless_extended_beyond``: it spares an upload whose reservation lasts longer, and since the writer may
    still be alive, the object of another one keeps its grace period.

    If the database cannot confirm the row (a lost commit), tries again later; sweeps remove the rest.
    """
    take_back = partial(
        _take_back,
        upload,
        object_stored=object_stored,
        direct=direct,
        unless_extended_beyond=unless_extended_beyond,
        error_code=error_code,
    )
    try:
        return take_back()
    except Exception as error:
        # The first error is the one to report; sweeps remove the rest.
        log.exception("upload_not_cleaned_up", upload_id=str(upload.pk))
        if is_unavailable(error):
            put_off(take_back, seconds=settings.RESERVATION_SECONDS)
        return False


def _take_back(
    upload: AudioUpload,
    *,
    object_stored: bool,
    direct: DirectUpload | None,
    unless_extended_beyond: datetime | None,
    error_code: str,
) -> bool:
    rows = AudioUpload.objects.filter(pk=upload.pk)
    discarded: list[StoredObject] = []
    with transaction.atomic():
        # From the database: after a rollback, ``upload`` has values that were never committed.
        stored = rows.values_list("reservation", "stored_object", "thumbnail_object").first()
        reservation_id, *owned = stored or (None,)
        if reservation_id:
            if unless_extended_beyond is not None and _lives_on(reservation_id, unless_extended_beyond):
                return False
            release_reservation(reservation_id)
        objects = ledger.lock([*owned, upload.stored_object_id])
        # Before the row goes, without which no session is open.
        session = end_row(UploadSession.objects.filter(upload=upload.pk), error_code)
        removed, _ = rows.filter(status=Status.RECEIVING).delete()
        # Else it has arrived, or a sweep was faster.
        gone = bool(removed) or not rows.exists()
        if unless_extended_beyond is not None:
            ledger.release(objects)
        elif gone:
            # An object that has arrived may have other owners by now.
            unwritten = {pk for pk, row in objects.items() if row.state == StoredObject.State.WRITING}
            discarded = ledger.discard(objects if removed else unwritten)
            if not object_stored:
                ledger.forget(row for row in discarded if row.pk in unwritten)
                discarded = [row for row in discarded if row.pk not in unwritten]
        transaction.set_rollback(not gone)
    if gone:
        _clean_up(upload, discarded, direct, session if removed else None)
    return bool(removed)


def end_row(sessions: QuerySet[UploadSession], error_code: str) -> UploadSession | None:
    """Mark the one open session among these as ended, and return it as it was; it is kept for a while, so that its
    client can be told.
    """
    session = sessions.filter(state=UploadSession.State.OPEN).select_for_update().first()
    if session is not None:
        UploadSession.objects.filter(pk=session.pk).update(
            state=UploadSession.State.ENDED,
            error_code=error_code,
            upload=None,
            reservation=None,
            writer=None,
            claimable_at=None,
            expires_at=Now() + timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS),
        )
    return session


def _clean_up(
    upload: AudioUpload,
    discarded: Iterable[StoredObject],
    direct: DirectUpload | None,
    session: UploadSession | None,
) -> None:
    if upload.storage_provider in storages_left_alone():
        log.warning("object_left_to_the_sweeps", upload_id=str(upload.pk), error="the storage is left alone")
        return
    release_connection()
    try:
        with asking(upload.storage_provider):
            storage = ensure_ours(upload.storage_provider)
            if session is not None:
                clean_up_session(storage, session)
            elif direct is not None:
                direct_uploads_of(storage).abort(upload.storage_path, direct)
            for stored in discarded:
                ledger.remove(stored)
            if direct is None and session is None:
                # Of a process that was killed; some servers list unfinished parts by their exact name only.
                storage.parts.remove_unfinished(upload.storage_path)
    except StorageError as error:
        # Without a traceback, in which the provider may quote the client's URL.
        log.warning("object_left_to_the_sweeps", upload_id=str(upload.pk), error=str(error))
    except Exception:
        log.exception("upload_not_cleaned_up", upload_id=str(upload.pk))


def _lives_on(reservation_id: uuid.UUID, moment: datetime) -> bool:
    reservation = QuotaReservation.objects.select_for_update().filter(pk=reservation_id).first()
    return reservation is not None and reservation.expires_at >= moment

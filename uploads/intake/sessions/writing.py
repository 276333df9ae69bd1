"""The one writer of a session: its lease, its saves, and the wait for a writer that stalls.

The lease ends 8 seconds after the last bytes of the writer's client. It is no longer anywhere, since a lease that ends
more than twice its length ahead counts as one of a wrong clock.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from audiotricks.clock import database_now
from audiotricks.database import release_connection
from audiotricks.errors import NotFound
from audiotricks.leases import Lease, is_free
from quotas.errors import ReservationGone
from quotas.models import QuotaReservation
from quotas.reservations import extend_reservation, shrink_reservation
from uploads.intake.sessions.errors import OffsetMismatch, SessionEnded, SessionLocked
from uploads.models import UploadPart, UploadSession

log = structlog.get_logger(__name__)

WRITER_SECONDS = 8
LOOK_SECONDS = 0.5
#: Providers drop unfinished parts after seven days.
LONGEST_LIFE = timedelta(days=7) - timedelta(hours=1)
#: Expiry moves in steps of this length, so that a save is one UPDATE nearly always.
EXPIRY_STEP = timedelta(seconds=60)


def session_row(pk: UUID) -> UploadSession:
    """The session as it is stored now, with what belongs to it. Raises NotFound."""
    related = ("workspace", "reservation", "upload__workspace", "upload__reservation", "upload__stored_object")
    session = UploadSession.objects.select_related(*related).filter(pk=pk).first()
    if session is None:
        raise NotFound
    return session


class Writer:
    """Whoever holds the lease of an open session. Raises SessionLocked or SessionEnded once it is lost."""

    def __init__(self, session: UploadSession) -> None:
        self.session = session
        self._rows = UploadSession.objects.filter(pk=session.pk)
        self._held_by_me = {"state": UploadSession.State.OPEN, "writer": uuid4()}
        self._lease = Lease(session, "claimable_at", seconds=WRITER_SECONDS, holder=self._held_by_me)

    def take(self, only_if: Q | None = None) -> bool:
        is_open = Q(state=UploadSession.State.OPEN)
        return self._lease.take(is_open & (only_if or Q()), writer=self._held_by_me["writer"])

    def kept(self) -> AbstractContextManager[None]:
        return self._lease.kept()

    def is_mine(self) -> bool:
        found = self._rows.filter(**self._held_by_me).exists()
        release_connection()
        return found

    def extend(self) -> None:
        if not self._lease.extend():
            raise self.lost()
        release_connection()

    def save(self, *, received_bytes: int, parts: Iterable[UploadPart] = (), **columns: object) -> None:
        """Publish what is durable in the storage. The session expires later from now on."""
        expires_at = later_expiry(self.session)
        columns["received_bytes"] = received_bytes
        if expires_at is None and not parts:
            self._write(**columns)
        else:
            with transaction.atomic():
                if expires_at is not None:
                    columns["expires_at"] = expires_at
                    keep_reservation(self.session, expires_at)
                self._write(**columns)
                UploadPart.objects.bulk_create(parts)
        for column, value in columns.items():
            setattr(self.session, column, value)
        release_connection()

    def reserve_what_came(self) -> None:
        """After a broken request, a session without a declared size reserves no more than has arrived.

        Nothing changes if another one writes; one that begins meanwhile waits for the reservation's row.
        """
        reservation = self.session.held_reservation
        if reservation is None:
            return
        mine_or_nobodys = Q(writer=self._held_by_me["writer"]) | Q(writer=None)
        undeclared = self._rows.filter(mine_or_nobodys, state=UploadSession.State.OPEN, size_bytes=None)
        try:
            with transaction.atomic():
                QuotaReservation.objects.select_for_update().filter(pk=reservation.pk).first()
                arrived = undeclared.values_list("received_bytes", flat=True).first()
                if arrived is not None:
                    shrink_reservation(reservation, size_bytes=arrived)
        except DatabaseError as error:
            # It ends with the session, and the first error is the one to tell.
            log.warning("reservation_not_lowered", session=str(self.session.pk), error=str(error))
        finally:
            release_connection()

    def lost(self) -> SessionLocked | SessionEnded:
        """The error that tells why nothing may be written any more."""
        found = self._rows.first()
        release_connection()
        if found is None or found.state == UploadSession.State.ENDED:
            return SessionEnded(reason=found.error_code if found else "")
        return SessionLocked()

    def give_back(self) -> None:
        try:
            self._lease.give_back()
        except DatabaseError as error:
            # It ends by itself, and the first error is the one to tell.
            log.warning("lease_not_given_back", session=str(self.session.pk), error=str(error))
        finally:
            release_connection()

    def _write(self, **columns: object) -> None:
        if not self._lease.extend(**columns):
            raise self.lost()


@contextmanager
def writing(session: UploadSession, *, offset: int | None = None) -> Iterator[Writer]:
    """Be the writer of the session, which must be open and at this offset.

    Takes over from a writer that stalls. Raises OffsetMismatch, SessionEnded, and SessionLocked while another one is
    active.
    """
    writer = begin_writing(session, offset)
    try:
        yield writer
    finally:
        writer.give_back()


def begin_writing(session: UploadSession, offset: int | None) -> Writer:
    at_offset = Q() if offset is None else Q(received_bytes=offset)
    while True:
        writer = Writer(session)
        if writer.take(at_offset):
            release_connection()
            return writer
        found = UploadSession.objects.get(pk=session.pk)
        if found.state == UploadSession.State.ENDED:
            raise SessionEnded(reason=found.error_code)
        if is_being_written(found):
            await_writer(found)
        elif offset is not None and found.received_bytes != offset:
            raise OffsetMismatch(offset=found.received_bytes)
        elif not found.is_open:
            raise SessionLocked


def is_being_written(session: UploadSession) -> bool:
    free = is_free("claimable_at", seconds=WRITER_SECONDS)
    return UploadSession.objects.open().filter(pk=session.pk).exclude(free).exists()


def await_writer(session: UploadSession) -> None:
    """Wait until the lease of a writer that stalls is over, and fence it: it can save nothing afterwards.

    Raises SessionLocked as soon as the writer shows a sign of life.
    """
    rows = UploadSession.objects.open().filter(pk=session.pk)
    seen = session.claimable_at
    while is_being_written(session):
        if rows.values_list("claimable_at", flat=True).first() != seen:
            raise SessionLocked
        release_connection()
        time.sleep(LOOK_SECONDS)
    fence_ended_writer(session)


def fence_ended_writer(session: UploadSession) -> None:
    """A writer whose lease is over can save nothing from now on. Read the offset afterwards."""
    ended = UploadSession.objects.open().filter(is_free("claimable_at", seconds=WRITER_SECONDS), pk=session.pk)
    ended.exclude(claimable_at=None).update(writer=None, claimable_at=None)


def later_expiry(session: UploadSession) -> datetime | None:
    """When a session that made progress expires; None while that is hardly later than before."""
    lifetime = timedelta(seconds=settings.UPLOAD_SESSION_SECONDS)
    last = session.created_at + LONGEST_LIFE
    if min(timezone.now() + lifetime, last) - session.expires_at < EXPIRY_STEP:
        return None
    wanted = min(database_now() + lifetime, last)
    return wanted if wanted > session.expires_at else None


def reserve_more(session: UploadSession, size_bytes: int) -> datetime:
    """Have room for so many bytes in total, and return when session and reservation expire now. Raises QuotaExceeded,
    FileTooLarge, SessionEnded.
    """
    reservation = session.held_reservation
    if reservation is None:
        raise SessionEnded(reason=session.error_code)
    now = database_now()
    lifetime = timedelta(seconds=settings.UPLOAD_SESSION_SECONDS)
    expires_at = max(session.expires_at, min(now + lifetime, session.created_at + LONGEST_LIFE))
    try:
        extend_reservation(reservation, size_bytes=size_bytes, seconds=int((expires_at - now).total_seconds()))
    except ReservationGone as error:
        raise SessionEnded(reason="upload_expired") from error
    return reservation.expires_at


def keep_reservation(session: UploadSession, expires_at: datetime) -> None:
    reservation = session.held_reservation
    if reservation is not None:
        QuotaReservation.objects.filter(pk=reservation.pk).update(expires_at=expires_at)

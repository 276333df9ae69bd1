"""What clients left behind: uploads that only wait for their completion, and those that nobody continues."""

from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

import structlog
from django.db.models import Q, QuerySet

from audiotricks.clock import elapsed_clock
from audiotricks.database import delete_in_batches, let_others_write
from audiotricks.errors import DomainError
from audiotricks.leases import is_free
from uploads.intake.sessions.complete import clean_up_ended, complete, end_session
from uploads.intake.sessions.writing import WRITER_SECONDS
from uploads.models import UploadSession
from uploads.objects.conditions import storages_left_alone

log = structlog.get_logger(__name__)

BATCH_SIZE = 500
#: A run of the sweep ends then; the next one goes on.
SECONDS = 240.0


def complete_arrived(*, until: float) -> int:
    """Complete uploads whose client left after the last byte; returns how many."""
    waiting = UploadSession.objects.arrived().filter(
        is_free("claimable_at", seconds=WRITER_SECONDS), owner__isnull=False
    )

    def finish(session: UploadSession) -> bool:
        assert session.owner is not None
        try:
            complete(session, actor=session.owner)
        except DomainError as error:
            log.info("upload_not_completed", session=str(session.pk), error=error.code)
            return False
        return True

    return _each(waiting, finish, until=until)


def clean_up_sessions(*, until: float) -> int:
    """Remove the bytes of ended uploads that their storage did not remove before; returns of how many."""
    uncleaned = UploadSession.objects.uncleaned().exclude(storage_provider__in=storages_left_alone())
    return _each(uncleaned, clean_up_ended, until=until)


def sweep_sessions(now: datetime, *, until: float) -> dict[str, int]:
    """End partial uploads that expired by ``now``, and forget old sessions.

    Stops at ``until``, a time of :func:`audiotricks.clock.elapsed_clock`.
    """
    unused = Q(final=None, expires_at__lt=now) | Q(final__state=UploadSession.State.ENDED)
    expired = UploadSession.objects.open().filter(unused, is_partial=True)
    ended = _each(expired, _end, until=until)
    return {"partials_ended": ended, "sessions_forgotten": delete_in_batches(UploadSession.objects.forgettable(now))}


def _end(session: UploadSession) -> bool:
    try:
        end_session(session, "upload_expired")
    except DomainError as error:
        log.info("partial_not_ended", session=str(session.pk), error=error.code)
        return False
    return True


def _each(rows: QuerySet[UploadSession], act: Callable[[UploadSession], bool], *, until: float) -> int:
    return sum(act(session) for session in _in_turn(rows, until=until))


def _in_turn(rows: QuerySet[UploadSession], *, until: float) -> Iterator[UploadSession]:
    """Each row once, a batch at a time, until the time is over."""
    last = UUID(int=0)
    while batch := list(rows.select_related("owner").filter(pk__gt=last).order_by("pk")[:BATCH_SIZE]):
        for session in batch:
            if elapsed_clock() >= until:
                return
            yield session
            let_others_write()
        last = batch[-1].pk

"""Partial uploads that become one file, in order."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from objectstore import default_alias
from quotas.errors import ReservationGone
from quotas.models import QuotaReservation, Workspace
from quotas.reservations import merge_reservations
from uploads.intake.arrivals import begin_receiving
from uploads.intake.ingest import check_declared
from uploads.intake.sessions.complete import complete
from uploads.intake.sessions.errors import NotConcatenable
from uploads.intake.sessions.writing import session_row
from uploads.models import UploadSession
from uploads.objects.marks import ensure_ours

log = structlog.get_logger(__name__)


def concatenate(
    partials: Sequence[UploadSession],
    *,
    workspace: Workspace,
    owner: User,
    filename: str,
    sha256: str = "",
    client_metadata: Mapping[str, str] | None = None,
) -> tuple[UploadSession, bool]:
    """Join whole partial uploads of the owner into one file; returns its session, and whether it is a new one.

    The same list again gives the same session. The file takes over the reservations: a refusal leaves the partial
    uploads as they are. Raises NotConcatenable, EmptyFile, UnsupportedFormat, FilenameMissing, QuotaExceeded,
    FileTooLarge, and what :func:`uploads.intake.sessions.complete.complete` raises.
    """
    pks = [partial.pk for partial in partials]
    final = _joined_before(pks, owner)
    is_new = final is None
    if final is None:
        told = client_metadata or {}
        final = _join(pks, workspace=workspace, owner=owner, filename=filename, sha256=sha256, told=told)
    if final is None:
        # Somebody else joined them in between.
        final, is_new = _joined_before(pks, owner), False
    if final is None:
        raise NotConcatenable
    complete(final, actor=owner)
    return session_row(final.pk), is_new


def _joined_before(pks: Sequence[UUID], owner: User) -> UploadSession | None:
    """The session that exactly these were joined into, in this order."""
    first = UploadSession.objects.filter(pk__in=pks[:1], owner=owner.pk).select_related("final").first()
    if first is None or first.final is None:
        return None
    joined = list(first.final.partials.order_by("final_place").values_list("pk", flat=True))
    return first.final if joined == list(pks) else None


def _join(
    pks: Sequence[UUID], *, workspace: Workspace, owner: User, filename: str, sha256: str, told: Mapping[str, str]
) -> UploadSession | None:
    alias = default_alias()
    found = {
        session.pk: session
        for session in UploadSession.objects.filter(
            pk__in=pks,
            owner=owner.pk,
            workspace=workspace,
            storage_provider=alias,
            is_partial=True,
            state=UploadSession.State.OPEN,
            final=None,
            received_bytes=F("size_bytes"),
        ).select_related("reservation")
    }
    if not pks or len(found) != len(pks):
        return None
    partials = [found[pk] for pk in pks]
    size_bytes = sum(partial.received_bytes for partial in partials)
    filename, file_format = check_declared(filename, size_bytes)
    ensure_ours(alias)
    try:
        with transaction.atomic():
            upload = begin_receiving(
                filename,
                file_format,
                size_bytes=size_bytes,
                workspace=workspace,
                owner=owner,
                reserve=lambda: _merged(partials),
            )
            assert upload.reservation is not None
            # The storage begins when it is completed: of a process that is killed here nothing lies there.
            final = UploadSession.objects.create(
                kind=partials[0].kind,
                workspace=workspace,
                owner=owner,
                upload=upload,
                storage_provider=upload.storage_provider,
                storage_path=upload.storage_path,
                part_bytes=partials[0].part_bytes,
                size_bytes=size_bytes,
                received_bytes=size_bytes,
                sha256=sha256,
                client_metadata=[*told.items()],
                expires_at=upload.reservation.expires_at,
            )
            for place, partial in enumerate(partials):
                free = UploadSession.objects.open().filter(pk=partial.pk, final=None, received_bytes=F("size_bytes"))
                if not free.update(final=final, final_place=place, reservation=None):
                    raise ReservationGone
    except ReservationGone:
        return None
    log.info("uploads_joined", session=str(final.pk), partials=len(partials), bytes=size_bytes)
    return final


def _merged(partials: Sequence[UploadSession]) -> QuotaReservation:
    reservations = [partial.reservation for partial in partials if partial.reservation is not None]
    if len(reservations) != len(partials):
        raise ReservationGone
    return merge_reservations(reservations, seconds=settings.UPLOAD_SESSION_SECONDS)

"""Reservations and the use of workspaces.

A reservation precedes the first byte and goes exactly once, by a DELETE that counts. The quota row is locked as late as
possible, since all uploads of a workspace wait for it.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import DateTimeField, DurationField, QuerySet, Value
from django.db.models.expressions import Combinable
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.functional import lazy
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from accounts.audit import Kind, acting_user, record
from audiotricks.clock import Now, database_now
from quotas import counters
from quotas.errors import FileTooLarge, QuotaExceeded, ReservationGone
from quotas.models import LARGEST, LimitUse, QuotaReservation, StorageQuota, Workspace, latest_month, month_of
from quotas.rights import Right, basis_of

log = structlog.get_logger(__name__)
COUNTERS = ("current_storage_bytes", "current_file_count", "reserved_bytes", "reserved_files")
size_words = lazy(filesizeformat, str)
REFUSALS = {
    "max_file_size": _("One file may have {maximum} at most; this one has {asked}."),
    "max_storage_bytes": _(
        "The workspace may hold {maximum}: {used} used, {reserved} reserved for uploads under way, {asked} asked for. "
        "Delete files, or ask an administrator for more room."
    ),
    "max_file_count": _(
        "The workspace may hold {maximum} files: {used} there, {reserved} on their way. "
        "Delete files, or ask an administrator for more room."
    ),
    "max_monthly_uploads": _(
        "{maximum} files may arrive in a month: {used} have arrived, {reserved} are on their way. "
        "The next month begins anew."
    ),
    "max_monthly_upload_bytes": _(
        "{maximum} may arrive in a month: {used} have arrived, {reserved} are reserved for uploads under way, {asked} "
        "asked for. The next month begins anew."
    ),
}


def reserve_storage(
    workspace: Workspace,
    *,
    size_bytes: int,
    files: int = 1,
    seconds: int | None = None,
    now: datetime | None = None,
) -> QuotaReservation:
    """Reserve ``size_bytes`` for ``files`` for ``seconds`` (default RESERVATION_SECONDS) by the database's clock, or
    ``now``.

    Raises FileTooLarge or QuotaExceeded, and then reserves nothing. The quota row stays locked until the outermost
    transaction ends.
    """
    if size_bytes < 0 or files < 0:
        raise ValueError(f"cannot reserve {size_bytes} bytes for {files} files")
    moment = now or database_now()
    reservation = QuotaReservation(
        workspace=workspace, bytes=size_bytes, files=files, month=month_of(moment), created_at=moment
    )
    with transaction.atomic():
        reservation.expires_at = _take(
            counters.reserve,
            workspace.pk,
            size_bytes=size_bytes,
            files=files,
            file_bytes=size_bytes,
            now=moment,
            id=reservation.pk,
            expires_from=now,
            lifetime=_lifetime(seconds),
        )
    return reservation


def extend_reservation(
    reservation: QuotaReservation,
    *,
    size_bytes: int | None = None,
    seconds: int | None = None,
    now: datetime | None = None,
) -> None:
    """To ``size_bytes`` in total, for ``seconds`` from now. Raises ReservationGone and the errors of
    :func:`reserve_storage`, without a change.
    """
    with transaction.atomic():
        held = QuotaReservation.objects.select_for_update().filter(pk=reservation.pk).first()
        if held is None:
            raise ReservationGone
        total = held.bytes if size_bytes is None else max(held.bytes, size_bytes)
        if total > held.bytes:
            growth = total - held.bytes
            moment = now or database_now()
            _take(counters.take, held.workspace_id, size_bytes=growth, files=0, file_bytes=total, now=moment)
        QuotaReservation.objects.filter(pk=held.pk).update(bytes=total, expires_at=_expiry(now, seconds))
        reservation.refresh_from_db(fields=["bytes", "expires_at"])


def shrink_reservation(reservation: QuotaReservation, *, size_bytes: int) -> None:
    """To ``size_bytes`` in total, if it has more. One that is gone stays gone."""
    with transaction.atomic():
        held = QuotaReservation.objects.select_for_update().filter(pk=reservation.pk).first()
        if held is None or held.bytes <= size_bytes:
            return
        QuotaReservation.objects.filter(pk=held.pk).update(bytes=size_bytes)
        surplus = held.bytes - size_bytes
        _lower(
            counters.GIVE_BACK,
            if_it_suffices=counters.RESERVED_SUFFICES,
            workspace=held.workspace_id,
            bytes=surplus,
            files=0,
        )


def settle_reservation(reservation: QuotaReservation | uuid.UUID, *, size_bytes: int) -> bool:
    """Turn the reservation into use, in the transaction that makes the file count.

    False, without counting, if it is gone. Charged to the month of the reservation, or to none if that is past. Raises
    ValueError for more bytes than reserved: roll back.
    """
    _need_transaction()
    taken = counters.run_returning(counters.DELETE_RESERVATION, id=_id(reservation))
    if taken is None:
        return False
    workspace_id, reserved, files, month = taken
    if not isinstance(reserved, int) or not 0 <= size_bytes <= reserved:
        raise ValueError(f"{size_bytes} bytes arrived where {reserved} were reserved")
    _lower(
        counters.SETTLE,
        if_it_suffices=counters.RESERVED_SUFFICES,
        workspace=workspace_id,
        bytes=reserved,
        files=files,
        month=month,
        arrived=size_bytes,
    )
    return True


def release_reservation(reservation: QuotaReservation | uuid.UUID) -> bool:
    """False if it is gone. A row that refers to it must drop the reference in the same transaction."""
    return _release(counters.DELETE_RESERVATION, id=_id(reservation))


def merge_reservations(reservations: Iterable[QuotaReservation], *, seconds: int) -> QuotaReservation:
    """Replace reservations of one workspace by one of their sum, for one file, that lasts ``seconds``.

    In one transaction, in which rows that refer to them must drop the reference. Nobody gets the space in between.
    Raises ReservationGone, or what :func:`reserve_storage` raises; the reservations then stay.
    """
    asked = {reservation.pk for reservation in reservations}
    with transaction.atomic():
        held = list(QuotaReservation.objects.select_for_update().filter(pk__in=asked).order_by("pk"))
        if len(held) != len(asked) or any(not release_reservation(row) for row in held):
            raise ReservationGone
        total = sum(reservation.bytes for reservation in held)
        return reserve_storage(held[0].workspace, size_bytes=total, seconds=seconds)


def release_expired(reservations: QuerySet[QuotaReservation], *, now: datetime) -> int:
    """Each in its own transaction; return how many. One that is extended meanwhile stays."""
    expired = list(reservations.filter(expires_at__lte=now).values_list("pk", flat=True))
    return sum(_release(counters.DELETE_EXPIRED_RESERVATION, id=pk, now=now) for pk in expired)


def count_out(workspace_id: uuid.UUID, *, size_bytes: int, files: int = 1) -> None:
    """For files that go to the trash, in that transaction."""
    _need_transaction()
    _lower(
        counters.COUNT_OUT, if_it_suffices=counters.USED_SUFFICES, workspace=workspace_id, bytes=size_bytes, files=files
    )


def count_in(workspace_id: uuid.UUID, *, size_bytes: int, files: int = 1) -> None:
    """For files from the trash, in that transaction, against all limits but those of one file and of the month. Raises
    QuotaExceeded.
    """
    _need_transaction()
    now = timezone.now()
    values: dict[str, Any] = {"workspace": workspace_id, "bytes": size_bytes, "files": files, "now": now}
    if counters.run(counters.COUNT_IN, **values):
        return
    limits = lock_quota(workspace_id).limits(month=month_of(database_now()))
    asked = {"max_storage_bytes": size_bytes, "max_file_count": files}
    _refuse([(use, asked[use.name]) for use in limits if use.name in asked])
    _change(counters.COUNT_IN, **values)


def current_month() -> date:
    """By the database's clock."""
    return month_of(database_now())


def check_room(
    quota: StorageQuota, *, size_bytes: int, other_bytes: int = 0, other_files: int = 0, month: date | None = None
) -> None:
    """Raise what reserving one more file would, after ``other_files`` of ``other_bytes``. ``month`` is
    :func:`current_month`, for many checks.
    """
    limits = quota.limits(month=month or current_month())
    before = _asked(size_bytes=other_bytes, files=other_files, file_bytes=0)
    asked = _asked(size_bytes=size_bytes, files=1, file_bytes=size_bytes)
    _refuse([(replace(use, reserved=use.reserved + before[use.name]), asked[use.name]) for use in limits])


def change_quota(workspace: Workspace, *, changes: Mapping[str, Any]) -> StorageQuota:
    quota = ensure_quota(workspace)
    changed = {name: [getattr(quota, name), value] for name, value in changes.items() if getattr(quota, name) != value}
    for name, value in changes.items():
        setattr(quota, name, value)
    quota.updated_at = timezone.now()
    actor = acting_user()
    right = Right.SET_LIMITS if any(name.startswith("max_") for name in changes) else Right.SET_RETENTION
    with transaction.atomic():
        quota.save(update_fields=[*changes, "updated_at"])
        if changed:
            basis = basis_of(actor, right, workspace.pk) if actor else ""
            record(Kind.QUOTA_CHANGED, subject=workspace, right=basis, details={"changes": changed})
    return quota


def ensure_quota(workspace: Workspace) -> StorageQuota:
    """Created with the defaults if missing."""
    return _ensured(workspace.pk)


def fill_quotas(workspaces: Iterable[Workspace]) -> None:
    """Add unsaved default quotas for display, to rows of ``select_related("quota")``."""
    for workspace in workspaces:
        # Nothing is counted in it, so any clock will do.
        if not hasattr(workspace, "quota"):
            workspace.quota = StorageQuota(workspace=workspace, **_default_limits())


def lock_quota(workspace_id: uuid.UUID) -> StorageQuota:
    """Until the commit; created if missing. On SQLite the whole database is locked."""
    quota = StorageQuota.objects.select_for_update().filter(workspace_id=workspace_id).first()
    if quota is None:
        _ensured(workspace_id)
        quota = StorageQuota.objects.select_for_update().get(workspace_id=workspace_id)
    return quota


def _ensured(workspace_id: uuid.UUID) -> StorageQuota:
    quota = StorageQuota.objects.filter(workspace_id=workspace_id).first()
    if quota is None:
        defaults = {**_default_limits(), "month": month_of(database_now())}
        quota, _ = StorageQuota.objects.get_or_create(workspace_id=workspace_id, defaults=defaults)
    return quota


def _default_limits() -> dict[str, int | None]:
    return {
        "max_storage_bytes": settings.DEFAULT_MAX_STORAGE_BYTES,
        "max_file_count": settings.DEFAULT_MAX_FILE_COUNT,
        "max_file_size": settings.DEFAULT_MAX_FILE_SIZE,
        "max_monthly_uploads": settings.DEFAULT_MAX_MONTHLY_UPLOADS,
        "max_monthly_upload_bytes": settings.DEFAULT_MAX_MONTHLY_UPLOAD_BYTES,
    }


def _take(
    attempt: Callable[..., Any],
    workspace_id: uuid.UUID,
    *,
    size_bytes: int,
    files: int,
    file_bytes: int,
    now: datetime,
    **values: Any,
) -> Any:
    """Only a refusal locks and reads the row, to say why."""
    month = month_of(now)
    # Counters of a later month are from a clock that was ahead.
    latest = latest_month(month, now)
    values |= {"workspace": workspace_id, "bytes": size_bytes, "files": files, "file_bytes": file_bytes}
    values |= {"month": month, "latest_month": latest, "now": now}
    if file_bytes <= LARGEST and (taken := attempt(**values)):
        return taken
    limits = lock_quota(workspace_id).limits(month=month, latest=latest)
    asked = _asked(size_bytes=size_bytes, files=files, file_bytes=file_bytes)
    _refuse([(use, asked[use.name]) for use in limits])
    # The row was missing, or space was released meanwhile; under the lock it suffices.
    if not (taken := attempt(**values)):
        raise StorageQuota.DoesNotExist(f"the quota of workspace {workspace_id} refuses what its limits allow")
    return taken


def _asked(*, size_bytes: int, files: int, file_bytes: int) -> dict[str, int]:
    return {
        "max_file_size": file_bytes,
        "max_storage_bytes": size_bytes,
        "max_file_count": files,
        "max_monthly_uploads": files,
        "max_monthly_upload_bytes": size_bytes,
    }


def _refuse(uses: Iterable[tuple[LimitUse, int]]) -> None:
    for use, asked in uses:
        if use.allows(asked):
            continue
        maximum = LARGEST if use.maximum is None else use.maximum
        numbers = {"maximum": maximum, "used": use.used, "reserved": use.reserved, "asked": asked}
        words = {name: size_words(number) if use.counts_bytes else number for name, number in numbers.items()}
        error = FileTooLarge if use.name == "max_file_size" else QuotaExceeded
        left = max(0, maximum - use.used - use.reserved)
        raise error(format_lazy(REFUSALS[use.name], **words), limit=use.name, **numbers, left=left)


def _release(statement: str, **values: Any) -> bool:
    with transaction.atomic():
        taken = counters.run_returning(statement, **values)
        if taken is None:
            return False
        workspace_id, reserved, files, _ = taken
        _lower(
            counters.GIVE_BACK,
            if_it_suffices=counters.RESERVED_SUFFICES,
            workspace=workspace_id,
            bytes=reserved,
            files=files,
        )
    return True


def _lower(statement: str, *, if_it_suffices: str, **values: Any) -> None:
    """A counter that would become negative stops at 0 and is logged, since a delete must not wait for a repair."""
    values["now"] = timezone.now()
    if counters.run(statement + if_it_suffices, **values):
        return
    found = StorageQuota.objects.select_for_update().filter(workspace_id=values["workspace"]).values(*COUNTERS).first()
    _change(statement, **values)
    log.warning(
        "counter_below_zero",
        workspace_id=str(values["workspace"]),
        held=found,
        taken={"bytes": values["bytes"], "files": values["files"]},
    )


def _change(statement: str, **values: Any) -> None:
    """A counter without its row would be lost."""
    values.setdefault("now", timezone.now())
    if counters.run(statement, **values) != 1:
        raise StorageQuota.DoesNotExist(f"workspace {values['workspace']} has no quota to count in")


def _need_transaction() -> None:
    """The caller changes the counted rows in the same transaction."""
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("counting needs the transaction that changes what is counted")


def _expiry(now: datetime | None, seconds: int | None) -> Combinable:
    """By the database's clock unless a moment is given, since sweeps compare with it."""
    begin = Now() if now is None else Value(now, output_field=DateTimeField())
    return begin + Value(_lifetime(seconds), output_field=DurationField())


def _lifetime(seconds: int | None) -> timedelta:
    return timedelta(seconds=settings.RESERVATION_SECONDS if seconds is None else seconds)


def _id(reservation: QuotaReservation | uuid.UUID) -> uuid.UUID:
    return reservation.pk if isinstance(reservation, QuotaReservation) else reservation

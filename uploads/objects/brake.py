"""Stops a sweep that would remove more than RETENTION_MAX_FRACTION of a storage or workspace, and more than
RETENTION_MIN_COUNT, until staff answer a :class:`HeldRemoval`. Their answer covers only what was due then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max, QuerySet
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from audiotricks.errors import Conflict
from uploads.models import AudioUpload, HeldRemoval, Status, StoredObject
from uploads.models.states import WITHOUT_OBJECT

if TYPE_CHECKING:
    from uuid import UUID

    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

State = HeldRemoval.State
Sweep = HeldRemoval.Sweep
#: An unused permission expires after this time.
ALLOWED_FOR = timedelta(days=7)


class AlreadyAnswered(Conflict):
    code = "already_answered"
    title = _("What would be removed has changed since it was shown, or somebody answered already: look again")


@dataclass(frozen=True, slots=True)
class Subject:
    sweep: HeldRemoval.Sweep
    storage: str = ""
    workspace_id: "UUID | None" = None

    def held(self) -> QuerySet[HeldRemoval]:
        rows = HeldRemoval.objects.filter(sweep=self.sweep, storage_provider=self.storage, workspace=self.workspace_id)
        return rows.exclude(state=State.FINISHED)

    def allowed_until(self) -> datetime | None:
        """The end of an unused permission, or None."""
        return self.held().filter(state=State.ALLOWED).values_list("covers_until", flat=True).first()


def released(subject: Subject, due: QuerySet[Any], *, moment: str) -> QuerySet[Any]:
    """The rows of ``due`` that this run may remove. ``moment`` is the column by which they are due. The same rows are
    asked about once.
    """
    held = subject.held().first()
    if held is None:
        return due if _is_moderate(subject, due.count()) else _ask(subject, due, moment)
    covered = due.filter(**{f"{moment}__lte": held.covers_until})
    later = due.filter(**{f"{moment}__gt": held.covers_until})
    count = covered.count()
    if not count or (held.state == State.ALLOWED and _is_stale(held)):
        subject.held().filter(pk=held.pk, state=held.state).update(state=State.FINISHED)
        return released(subject, due, moment=moment)
    if held.state == State.ASKED:
        total = due.count()
        if not _is_moderate(subject, total):
            return _ask(subject, due, moment)
        subject.held().filter(pk=held.pk, state=State.ASKED).update(state=State.FINISHED)
        return due
    if count > held.count or not _is_moderate(subject, later.count()):
        # More than was shown: some came later, or were on hold then.
        return covered if held.state == State.ALLOWED and count <= held.count else _ask(subject, due, moment)
    return due if held.state == State.ALLOWED else later


def answer(held: HeldRemoval, *, allowed: bool, actor: "User | None") -> None:
    """Raises AlreadyAnswered if ``held`` has changed since it was shown."""
    to = State.ALLOWED if allowed else State.DECLINED
    asked = HeldRemoval.objects.filter(pk=held.pk, count=held.count, covers_until=held.covers_until)
    # A refusal can become a permission later, and a permission a refusal until it is used.
    if not asked.exclude(state__in=(State.FINISHED, to)).update(state=to, answered_at=Now(), answered_by=actor):
        raise AlreadyAnswered
    held.refresh_from_db()
    log.warning("held_removal_answered", id=held.pk, sweep=held.sweep, answer=to.value, count=held.count)


def waiting_for_staff() -> QuerySet[HeldRemoval]:
    return HeldRemoval.objects.filter(state=State.ASKED)


def _is_moderate(subject: Subject, count: int) -> bool:
    if count <= settings.RETENTION_MIN_COUNT:
        return True
    return count <= settings.RETENTION_MAX_FRACTION * total_of(subject)


def total_of(subject: Subject) -> int:
    """For orphans, every object in the storage."""
    if subject.sweep == Sweep.ORPHANS:
        return StoredObject.objects.filter(storage_provider=subject.storage).count()
    files = AudioUpload.objects.exclude(status__in=WITHOUT_OBJECT)
    if subject.workspace_id is not None:
        files = files.filter(workspace=subject.workspace_id)
    if subject.storage:
        files = files.filter(storage_provider=subject.storage)
    if subject.sweep == Sweep.EXPIRY:
        files = files.exclude(status=Status.DELETED)
    return files.order_by().count()


def _ask(subject: Subject, due: QuerySet[Any], moment: str) -> QuerySet[Any]:
    """An answer for fewer rows than are due now no longer counts."""
    shown = {
        "count": due.count(),
        "total": total_of(subject),
        "covers_until": due.aggregate(latest=Max(moment))["latest"],
    }
    if not shown["count"]:
        return due.none()
    held = subject.held().first()
    if held is None:
        try:
            with transaction.atomic():
                HeldRemoval.objects.create(
                    sweep=subject.sweep,
                    storage_provider=subject.storage,
                    workspace_id=subject.workspace_id,
                    asked_at=Now(),
                    **shown,
                )
        except IntegrityError:
            # Another run asks in parallel.
            return due.none()
    elif any(getattr(held, name) != value for name, value in shown.items()) or held.state != State.ASKED:
        subject.held().filter(pk=held.pk).update(
            state=State.ASKED, asked_at=Now(), answered_at=None, answered_by=None, **shown
        )
    log.error(
        "removal_held",
        sweep=subject.sweep.value,
        storage=subject.storage,
        workspace=str(subject.workspace_id or ""),
        would_remove=shown["count"],
        of=shown["total"],
    )
    return due.none()


def _is_stale(held: HeldRemoval) -> bool:
    return HeldRemoval.objects.filter(pk=held.pk, answered_at__lt=Now() - ALLOWED_FOR).exists()

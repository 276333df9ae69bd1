"""The only function that changes states of uploads: one guarded ``UPDATE ... WHERE status = old`` whose count decides,
with time and event. Lock order: reservation, quota, object, upload, event.
"""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from audiotricks.clock import Now
from audiotricks.errors import Conflict, NotFound
from quotas.rights import Right
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, Status
from uploads.models.states import DISCARDED, FIRST_TIME_KEPT

TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.RECEIVING: frozenset({Status.UPLOADED}),
    Status.UPLOADED: frozenset({Status.VALIDATING, Status.FAILED, Status.DELETED}),
    Status.VALIDATING: frozenset({Status.PROCESSING, Status.UPLOADED, Status.FAILED, Status.DELETED}),
    Status.PROCESSING: frozenset({Status.COMPLETED, Status.UPLOADED, Status.FAILED, Status.DELETED}),
    Status.FAILED: frozenset({Status.UPLOADED, Status.DELETED}),
    Status.COMPLETED: frozenset({Status.ARCHIVING, Status.DELETED}),
    Status.ARCHIVING: frozenset({Status.ARCHIVED, Status.COMPLETED}),
    Status.ARCHIVED: frozenset({Status.RESTORING, Status.DELETED}),
    Status.RESTORING: frozenset({Status.COMPLETED, Status.ARCHIVED}),
    Status.DELETED: frozenset({Status.COMPLETED, Status.ARCHIVED, Status.FAILED, Status.UPLOADED, Status.PURGED}),
    Status.PURGED: frozenset(),
}


#: The column with the time at which a state was entered.
ENTERED_AT: Mapping[Status, str] = {
    Status.UPLOADED: "uploaded_at",
    Status.VALIDATING: "validation_started_at",
    Status.PROCESSING: "processing_started_at",
    Status.COMPLETED: "processing_completed_at",
    Status.FAILED: "failed_at",
    Status.ARCHIVING: "archiving_started_at",
    Status.ARCHIVED: "archived_at",
    Status.RESTORING: "restoring_started_at",
    Status.DELETED: "deleted_at",
    Status.PURGED: "purged_at",
}


class TransitionRefused(Conflict):
    """Members: ``state``, and the ``allowed`` next ones."""

    code = "state_conflict"
    title = _("The file's present state does not allow this")


class OnLegalHold(Conflict):
    code = "legal_hold"
    title = _("The file is on legal hold and can be neither deleted nor purged; staff can release it")


def move(
    upload: AudioUpload,
    to: Status,
    action: str,
    *,
    only_from: frozenset[Status] | None = None,
    only_if: Mapping[str, Any] | None = None,
    actor: User | None = None,
    right: Right = Right.CHANGE_FILES,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
    **columns: Any,
) -> None:
    """Store the state, its time, ``columns`` and the event; refresh ``upload``.

    Looks again if another process moved the row. ``only_from`` narrows the states; ``only_if`` are lookups on the row.
    Raises TransitionRefused, OnLegalHold, NotFound.
    """
    with transaction.atomic():
        while True:
            seen = Status(upload.status)
            if to not in TRANSITIONS[seen] or (only_from is not None and seen not in only_from):
                raise TransitionRefused(
                    format_lazy(
                        _("The file is in the state “{state}” and cannot go to “{wanted}”."),
                        state=seen.label,
                        wanted=to.label,
                    ),
                    state=seen.value,
                    allowed=sorted(state.value for state in TRANSITIONS[seen]),
                )
            rows = AudioUpload.objects.filter(pk=upload.pk, status=seen, **(only_if or {}))
            if to in DISCARDED:
                rows = rows.filter(legal_hold=False)
            if rows.update(status=to, **_entered(to), **columns):
                break
            try:
                upload.refresh_from_db()
            except AudioUpload.DoesNotExist:
                raise NotFound from None
            if upload.legal_hold and to in DISCARDED:
                raise OnLegalHold
            if only_if and upload.status == seen:
                raise TransitionRefused(_("The file changed meanwhile."), state=seen.value, allowed=[])
        record_event(
            upload,
            action,
            actor=actor,
            right=right,
            from_status=seen,
            to_status=to,
            reason=reason,
            details=details,
        )
        upload.refresh_from_db()


def _entered(status: Status) -> dict[str, Any]:
    """By the database's clock, as sweeps need."""
    column = ENTERED_AT[status]
    return {column: Coalesce(F(column), Now()) if status in FIRST_TIME_KEPT else Now()}

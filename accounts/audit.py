"""The audit log: each event is a row of ``audit_events`` and a log line, in the transaction of the change.

Actor and address come from the request (:class:`AuditMiddleware`), if any. Values are bounded and clean. Never pass
secrets.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.db import DatabaseError, models, transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import AuditEvent
from audiotricks.addresses import address_block, normal_address
from audiotricks.clock import Now
from audiotricks.running.logs import escape

Kind = AuditEvent.Kind

LONGEST_NAME, LONGEST_PROGRAM, LONGEST_DETAIL = 150, 200, 500
#: Refusals (failed sign-ins, expired tokens) that become rows within a minute; the others are log lines alone.
MOST_OF_AN_ADDRESS = 5
MOST_OF_ALL = 60

log = structlog.get_logger("accounts.audit")
request_now: ContextVar[HttpRequest | None] = ContextVar("request_now", default=None)


def acting_user() -> User | None:
    user = getattr(request_now.get(), "user", None)
    return user if user is not None and user.is_authenticated else None


def record(
    kind: AuditEvent.Kind,
    *,
    subject: models.Model | None = None,
    actor: User | None = None,
    right: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """``actor`` defaults to the request's user."""
    event = _event(kind, subject=subject, actor=actor or acting_user(), right=right, details=details or {})
    event.save(force_insert=True)
    _log(event)


def record_refusal(kind: AuditEvent.Kind, *, name: str = "", subject: models.Model | None = None) -> None:
    """Record a refused attempt; in a minute at most MOST_OF_AN_ADDRESS of an address (IPv6: /64) and MOST_OF_ALL become
    rows. Never fails.
    """
    event = _event(kind, subject=subject, actor=None, right="", details={})
    if name:
        event.subject_kind, event.subject_name = "name", _short(name, LONGEST_NAME)
    _log(event)
    try:
        with transaction.atomic():
            newest = AuditEvent.objects.filter(kind=kind).order_by("-id").values_list("created_at", "address")
            minute = timezone.now() - timedelta(minutes=1)
            recent = [address_block(address or "") for at, address in newest[:MOST_OF_ALL] if at > minute]
            same = recent.count(address_block(event.address or ""))
            if len(recent) < MOST_OF_ALL and same < MOST_OF_AN_ADDRESS:
                if len(recent) + 1 == MOST_OF_ALL or same + 1 == MOST_OF_AN_ADDRESS:
                    event.details = {"more_only_in_the_log": True}
                event.save(force_insert=True)
    except DatabaseError:
        log.exception("audit_event_not_written", kind=kind)


def _event(
    kind: AuditEvent.Kind, *, subject: models.Model | None, actor: User | None, right: str, details: Mapping[str, Any]
) -> AuditEvent:
    request = request_now.get()
    address = normal_address(request.META.get("REMOTE_ADDR", "")) if request else ""
    program = request.headers.get("User-Agent", "") if request else ""
    return AuditEvent(
        created_at=Now(),
        kind=kind,
        actor_id=actor.pk if actor else None,
        actor_name=_short(actor.get_username(), LONGEST_NAME) if actor else "",
        subject_kind=(subject._meta.model_name or "") if subject else "",
        subject_id=str(subject.pk) if subject else "",
        subject_name=_short(str(subject), 200) if subject else "",
        address=address or None,
        user_agent=_short(program, LONGEST_PROGRAM),
        right=right,
        details={name: _bounded(value) for name, value in details.items()},
    )


def _log(event: AuditEvent) -> None:
    log.info(
        "audit",
        kind=str(event.kind),
        actor=event.actor_name,
        subject_kind=event.subject_kind,
        subject_id=event.subject_id,
        subject=event.subject_name,
        address=event.address,
        right=event.right,
        details=event.details,
    )


def _short(text: str, longest: int) -> str:
    return escape(text.replace("\0", "")[:longest])[:longest]


def _bounded(value: Any) -> Any:
    if isinstance(value, str):
        return _short(value, LONGEST_DETAIL)
    if isinstance(value, dict):
        return {_short(str(name), LONGEST_NAME): _bounded(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(item) for item in value[:100]]
    return value

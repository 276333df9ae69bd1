"""``Idempotency-Key``: a repeated POST gets the first response, and makes nothing twice.

draft-ietf-httpapi-idempotency-key-header. A request takes a lease on its user's key before the work, and stores its
response in the transaction of the work. The lease of a dead process ends after IDEMPOTENCY_CLAIM_SECONDS, a response
after IDEMPOTENCY_KEEP_HOURS.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from audiotricks.clock import Now
from audiotricks.database import when_available
from audiotricks.errors import Conflict, DomainError
from audiotricks.leases import Lease, lease_end
from audiotricks.models import MAX_KEY_LENGTH, IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_HEADERS = ("Location", "Content-Location")
ATTEMPTS = 10
#: A longer response is stored without its body: the client has its Location.
LONGEST_ANSWER_BYTES = 64 * 1024
RETRY_AFTER_SECONDS = 5


class IdempotencyKeyInvalid(DomainError):
    code = "idempotency_key_invalid"
    status = 400
    title = format_lazy(_("An Idempotency-Key has 1 to {maximum} printable ASCII characters"), maximum=MAX_KEY_LENGTH)


class IdempotencyNotSupported(DomainError):
    code = "idempotency_not_supported"
    status = 400
    title = _("Idempotency-Key is not taken here, since the answer holds a secret that is not stored")


class IdempotencyInProgress(Conflict):
    """Member: ``retry_after`` in seconds."""

    code = "idempotency_in_progress"
    title = _("A request with this Idempotency-Key is still being worked on")


class IdempotencyMismatch(DomainError):
    code = "idempotency_mismatch"
    status = 422
    title = _("This Idempotency-Key was used for another request")


class IdempotencyLeaseLost(Conflict):
    code = "idempotency_claim_lost"
    title = _("The request took so long that its Idempotency-Key was given to another one")


@dataclass(frozen=True)
class StoredAnswer:
    status: int
    body: Any
    headers: dict[str, str]


class KeyLease:
    """If ``replayable``, the key has a response."""

    def __init__(self, row: IdempotencyKey) -> None:
        self.row = row
        self.completed = False
        holder = {"claim_id": row.claim_id, "state": IdempotencyKey.State.RUNNING}
        self.held = IdempotencyKey.objects.filter(pk=row.pk, **holder)
        self.kept = Lease(row, "expires_at", seconds=settings.IDEMPOTENCY_CLAIM_SECONDS, holder=holder).kept

    @property
    def replayable(self) -> bool:
        return self.row.state == IdempotencyKey.State.DONE

    def answer_for(self, fingerprint: str) -> StoredAnswer:
        """Raises IdempotencyMismatch for another request."""
        if self.row.fingerprint != fingerprint:
            raise IdempotencyMismatch()
        # A CHECK ensures that a finished row has a status.
        return StoredAnswer(cast(int, self.row.response_status), self.row.response_body, self.row.response_headers)

    def complete(self, fingerprint: str, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Store the 2xx response in the transaction of the work, without a ``body`` of more than LONGEST_ANSWER_BYTES.
        Raises IdempotencyLeaseLost, which must roll back.
        """
        text = json.dumps(body, cls=JSONEncoder)
        if not self.held.update(
            state=IdempotencyKey.State.DONE,
            fingerprint=fingerprint,
            response_status=status,
            response_body=json.loads(text) if len(text) <= LONGEST_ANSWER_BYTES else None,
            response_headers={name: value for name, value in (headers or {}).items() if name in KEPT_HEADERS},
            expires_at=lease_end(timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS).total_seconds()),
        ):
            raise IdempotencyLeaseLost()
        self.completed = True

    def abandon(self) -> None:
        """Release the key; while the database is down, as soon as it is back. Safe to call twice."""
        when_available(self.held.delete, seconds=settings.IDEMPOTENCY_CLAIM_SECONDS)


def answer_once(
    request: Request, work: Callable[[Callable[[Response], None]], Response], *, mark: Callable[[], str] | None = None
) -> Response:
    """The response of ``work``, or the stored one of the same request under an Idempotency-Key. Not in a transaction.

    ``work`` passes its 2xx response to its argument, in its transaction; otherwise the key can be used again. ``mark``
    is the fingerprint of a body other than JSON. Raises the errors of :func:`key_of` and :func:`take_key`.
    """
    key = key_of(request)
    if key is None:
        return work(lambda response: None)
    path = request.get_full_path()
    mark_of = mark or (lambda: fingerprint(request.user, "POST", path, request.data, {}))
    held = take_key(request.user, key, "POST", path)
    if held.replayable:
        stored = held.answer_for(mark_of())
        return Response(stored.body, status=stored.status, headers={**stored.headers, REPLAYED_HEADER: "true"})
    try:
        with held.kept():
            response = work(lambda made: held.complete(mark_of(), made.status_code, made.data, made.headers))
    except BaseException:
        held.abandon()
        raise
    if not held.completed:
        held.abandon()
    return response


def key_of(request: Request) -> str | None:
    """None without the header; quotes are no part of the key. Raises IdempotencyKeyInvalid."""
    given = request.headers.get(HEADER)
    if given is None:
        return None
    key: str = given.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not (0 < len(key) <= MAX_KEY_LENGTH and key.isascii() and key.isprintable()):
        raise IdempotencyKeyInvalid()
    return key


def fingerprint(
    user: Any, method: str, path: str, fields: Mapping[str, Any] | Any, files: Mapping[str, tuple[str, str]]
) -> str:
    """SHA-256 (hexadecimal) of a request, without framing and order of fields. ``path`` has the query; ``files`` maps
    fields to file names and SHA-256s.
    """
    request = {"user": str(user.pk), "method": method, "path": path, "fields": fields, "files": files}
    text = json.dumps(request, cls=JSONEncoder, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def take_key(user: Any, key: str, method: str, path: str) -> KeyLease:
    """In a transaction of its own. Raises IdempotencyInProgress while another request holds the key,
    IdempotencyMismatch if it belongs to another method or path.
    """
    for _attempt in range(ATTEMPTS):
        if row := _insert(user, key, method, path) or _take_over(user, key, method, path):
            return KeyLease(row)
        if row := IdempotencyKey.objects.filter(user=user, key=key).first():
            if row.state == IdempotencyKey.State.RUNNING:
                raise IdempotencyInProgress(retry_after=RETRY_AFTER_SECONDS)
            if (row.method, row.path) != (method, path):
                raise IdempotencyMismatch()
            return KeyLease(row)
    # Other requests with this key fail as fast as they begin.
    raise IdempotencyInProgress(retry_after=RETRY_AFTER_SECONDS)


def _insert(user: Any, key: str, method: str, path: str) -> IdempotencyKey | None:
    row = IdempotencyKey(
        user=user,
        key=key,
        method=method,
        path=path,
        claimed_at=Now(),
        expires_at=lease_end(settings.IDEMPOTENCY_CLAIM_SECONDS),
    )
    try:
        with transaction.atomic(durable=True):
            row.save(force_insert=True)
    except IntegrityError:
        return None
    return row


def _take_over(user: Any, key: str, method: str, path: str) -> IdempotencyKey | None:
    """By one UPDATE, which succeeds for one of parallel requests."""
    claim_id = uuid.uuid4()
    with transaction.atomic(durable=True):
        taken = IdempotencyKey.objects.filter(user=user, key=key, expires_at__lte=Now()).update(
            method=method,
            path=path,
            state=IdempotencyKey.State.RUNNING,
            claim_id=claim_id,
            fingerprint="",
            response_status=None,
            response_body=None,
            response_headers={},
            claimed_at=Now(),
            expires_at=lease_end(settings.IDEMPOTENCY_CLAIM_SECONDS),
        )
    return IdempotencyKey.objects.filter(user=user, key=key, claim_id=claim_id).first() if taken else None


class IdempotentPostMixin:
    """Supports Idempotency-Key on the POST of a JSON view, whose base class it precedes.

    The handler runs in the transaction that stores its response, except ``actions_with_own_transaction``, which call
    :func:`answer_once`, and ``actions_that_only_ask``, which ignore the key.
    """

    takes_idempotency_key = True
    actions_with_own_transaction: frozenset[str] = frozenset()
    actions_that_only_ask: frozenset[str] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        ours = self.actions_with_own_transaction | self.actions_that_only_ask
        if request.method == "POST" and HEADER in request.headers and getattr(self, "action", None) not in ours:
            handler: Callable[..., Response] = getattr(self, "post")  # noqa: B009 - made by the view or its router
            # On the instance, which lives for one request, to wrap the view's own ``post``.
            self.post = lambda request, *args, **kwargs: answer_once(
                request, lambda keep: in_one_transaction(keep, lambda: handler(request, *args, **kwargs))
            )


def in_one_transaction(keep: Callable[[Response], None], handler: Callable[[], Response]) -> Response:
    with transaction.atomic():
        response = handler()
        if 200 <= response.status_code < 300:
            keep(response)
    return response

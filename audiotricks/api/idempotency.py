"""``Idempotency-Key``: a POST that is sent again gets its first answer again, and nothing is made twice.

After draft-ietf-httpapi-idempotency-key-header. A key belongs to one user. A claim is a row of ``idempotency_keys``,
committed before the work begins; the answer is stored in the transaction that makes what was asked for, so that both
exist or neither does. A claim whose process died expires after IDEMPOTENCY_CLAIM_SECONDS, a stored answer after
IDEMPOTENCY_KEEP_HOURS. Every time is the database's, so that a web server with a wrong clock takes over nothing.
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
from audiotricks.models import MAX_KEY_LENGTH, IdempotencyKey

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
KEPT_HEADERS = ("Location", "Content-Location")
ATTEMPTS = 10
#: A longer answer is stored without its body: the client has its Location.
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
    """Member: ``retry_after``, in seconds."""

    code = "idempotency_in_progress"
    title = _("A request with this Idempotency-Key is still being worked on")


class IdempotencyMismatch(DomainError):
    code = "idempotency_mismatch"
    status = 422
    title = _("This Idempotency-Key was used for another request")


class IdempotencyClaimLost(Conflict):
    code = "idempotency_claim_lost"
    title = _("The request took so long that its Idempotency-Key was given to another one")


@dataclass(frozen=True)
class StoredAnswer:
    status: int
    body: Any
    headers: dict[str, str]


class Claim:
    """One request's hold on a key: either to do the work, or (``replayable``) to hand out the answer that is stored."""

    def __init__(self, row: IdempotencyKey) -> None:
        self.row = row

    @property
    def replayable(self) -> bool:
        return self.row.state == IdempotencyKey.State.DONE

    def answer_for(self, fingerprint: str) -> StoredAnswer | None:
        """The stored answer; None when the work is still to be done. Raises IdempotencyMismatch for another request."""
        if not self.replayable:
            return None
        if self.row.fingerprint != fingerprint:
            raise IdempotencyMismatch()
        # A CHECK sees to it that a row that is done has a status.
        return StoredAnswer(cast(int, self.row.response_status), self.row.response_body, self.row.response_headers)

    def complete(
        self, fingerprint: str, status: int, body: Any, headers: Mapping[str, str] | None = None
    ) -> StoredAnswer:
        """Store the answer (a 2xx). Call it inside the transaction that makes what was asked for.

        ``body`` is anything that the API can render; one of more than LONGEST_ANSWER_BYTES is not kept. Raises
        IdempotencyClaimLost when another request holds the key by now; the transaction must not commit then.
        """
        text = json.dumps(body, cls=JSONEncoder)
        answer = StoredAnswer(
            status,
            json.loads(text) if len(text) <= LONGEST_ANSWER_BYTES else None,
            {name: value for name, value in (headers or {}).items() if name in KEPT_HEADERS},
        )
        self._update(
            state=IdempotencyKey.State.DONE,
            fingerprint=fingerprint,
            response_status=answer.status,
            response_body=answer.body,
            response_headers=answer.headers,
            expires_at=Now() + timedelta(hours=settings.IDEMPOTENCY_KEEP_HOURS),
        )
        return answer

    def extend(self) -> None:
        """Hold the key for another IDEMPOTENCY_CLAIM_SECONDS from now. Raises IdempotencyClaimLost."""
        self._update(expires_at=Now() + timedelta(seconds=settings.IDEMPOTENCY_CLAIM_SECONDS))

    def abandon(self) -> None:
        """Give the key back, since nothing was made; the next request with it begins anew. Safe to call twice.

        While the database is away, the key is given back when it answers again.
        """
        when_available(self._held().delete, seconds=settings.IDEMPOTENCY_CLAIM_SECONDS)

    def _held(self) -> Any:
        return IdempotencyKey.objects.filter(
            pk=self.row.pk, claim_id=self.row.claim_id, state=IdempotencyKey.State.RUNNING
        )

    def _update(self, **values: Any) -> None:
        if not self._held().update(**values):
            raise IdempotencyClaimLost()


def key_of(request: Request) -> str | None:
    """The request's key, or None when it brings none. Raises IdempotencyKeyInvalid.

    The draft writes a key as a quoted string; the quotes may be left out, and are no part of the key.
    """
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
    """SHA-256, in hexadecimal, of what makes a request the same one: neither its framing nor the order of its fields.

    ``path`` is with its query. ``files`` maps a field to the file's name and the SHA-256 of its content.
    """
    request = {"user": str(user.pk), "method": method, "path": path, "fields": fields, "files": files}
    text = json.dumps(request, cls=JSONEncoder, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def claim(user: Any, key: str, method: str, path: str) -> Claim:
    """Take the key for this request, in a transaction of its own; call it outside of any other.

    Raises IdempotencyInProgress while another request holds it, and IdempotencyMismatch when its stored answer is to
    another method or path.
    """
    for _attempt in range(ATTEMPTS):
        if row := _insert(user, key, method, path) or _take_over(user, key, method, path):
            return Claim(row)
        if row := IdempotencyKey.objects.filter(user=user, key=key).first():
            if row.state == IdempotencyKey.State.RUNNING:
                raise IdempotencyInProgress(retry_after=RETRY_AFTER_SECONDS)
            if (row.method, row.path) != (method, path):
                raise IdempotencyMismatch()
            return Claim(row)
    # The row came and went at every look: other requests with this key fail as fast as they begin.
    raise IdempotencyInProgress(retry_after=RETRY_AFTER_SECONDS)


def _insert(user: Any, key: str, method: str, path: str) -> IdempotencyKey | None:
    row = IdempotencyKey(user=user, key=key, method=method, path=path, claimed_at=Now(), expires_at=_claim_end())
    try:
        with transaction.atomic(durable=True):
            row.save(force_insert=True)
    except IntegrityError:
        return None
    return row


def _take_over(user: Any, key: str, method: str, path: str) -> IdempotencyKey | None:
    """The expired row of this key, made this request's by one UPDATE; of several requests only one gets it."""
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
            expires_at=_claim_end(),
        )
    return IdempotencyKey.objects.filter(user=user, key=key, claim_id=claim_id).first() if taken else None


def _claim_end() -> Any:
    return Now() + timedelta(seconds=settings.IDEMPOTENCY_CLAIM_SECONDS)


class IdempotentPostMixin:
    """Takes Idempotency-Key on the POST of an ordinary JSON view; stands before the view's own base class.

    With a key, the handler runs inside one transaction together with the storing of its answer. Only 2xx answers are
    stored; after any other outcome the key may be used again. An action of a viewset whose body must be streamed is
    named in ``actions_with_own_claim`` and uses :func:`claim` itself. One that changes nothing is named in
    ``actions_that_only_ask``: its answer is computed anew, and a key is not looked at.
    """

    takes_idempotency_key = True
    actions_with_own_claim: frozenset[str] = frozenset()
    actions_that_only_ask: frozenset[str] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        if request.method != "POST" or getattr(self, "action", None) in (
            self.actions_with_own_claim | self.actions_that_only_ask
        ):
            return
        if key := key_of(request):
            handler: Callable[..., Response] = getattr(self, "post")  # noqa: B009 - made by the view or its router
            # On the instance, which lives for this request: the view's own `post`, wherever it comes from, is wrapped.
            self.post = lambda *args, **kwargs: self._post_once(key, handler, *args, **kwargs)

    def _post_once(
        self, key: str, handler: Callable[..., Response], request: Request, *args: Any, **kwargs: Any
    ) -> Response:
        path = request.get_full_path()
        mark = fingerprint(request.user, "POST", path, request.data, {})
        held = claim(request.user, key, "POST", path)
        if stored := held.answer_for(mark):
            return replay(stored)
        try:
            with transaction.atomic():
                response = handler(request, *args, **kwargs)
                if 200 <= response.status_code < 300:
                    held.complete(mark, response.status_code, response.data, response.headers)
                    return response
        except BaseException:
            held.abandon()
            raise
        held.abandon()
        return response


def replay(stored: StoredAnswer) -> Response:
    """The first answer again, marked with ``Idempotency-Replayed: true``."""
    return Response(stored.body, status=stored.status, headers={**stored.headers, REPLAYED_HEADER: "true"})

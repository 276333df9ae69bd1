"""Limits guesses of passwords and tokens. Each attempt is counted first, by address (``THROTTLE_SIGN_IN``) and by
account.

After FREE_TRIES at an account, waits double up to LONGEST_WAIT. A browser that signed in before has its own counter, so
that strangers cannot lock out the owner.
"""

import math
import unicodedata
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, cast

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.crypto import get_random_string
from rest_framework.exceptions import Throttled
from rest_framework.settings import api_settings
from rest_framework.throttling import SimpleRateThrottle

from accounts.models import SignInCounter
from audiotricks.addresses import address_block, client_address

FREE_TRIES = 5
LONGEST_WAIT = timedelta(minutes=5)
#: After this time without an attempt, an account starts anew.
FORGIVEN_AFTER = timedelta(hours=1)
KNOWN_BROWSER = "known_browser"
KNOWN_FOR = timedelta(days=180)

#: The end of a block, from the number of tries and the time of the first one.
Block = Callable[[int, datetime, datetime], datetime | None]


class SignInThrottle(SimpleRateThrottle):
    """Only parses the rate ``sign-in``."""

    scope = "sign-in"

    def get_rate(self) -> str | None:
        return cast("str | None", api_settings.DEFAULT_THROTTLE_RATES[self.scope])


def check_address(request: Any, *, kind: str = "address") -> None:
    """Count an attempt of this address (IPv6: its /64). Raises Throttled (429)."""
    rate: Any = SignInThrottle()
    if rate.num_requests is None:
        return
    most, window = rate.num_requests, timedelta(seconds=rate.duration or 60)

    def block(tries: int, began: datetime, now: datetime) -> datetime | None:
        return began + window if tries >= most else None

    wait = charge(f"{kind}:{address_block(client_address(request))}", block=block, window=window)
    if wait:
        raise Throttled(wait)


def check_account(request: Any, name: str) -> str:
    """Count an attempt at this name, existing or not; return the key for :func:`forgive` after success. Raises
    Throttled (429).
    """
    key = f"account:{_digest(_folded(name))}"
    if browser := _known_browser(request, name):
        key += f":{_digest(browser)}"
    wait = charge(key, block=_growing, window=FORGIVEN_AFTER, sliding=True)
    if wait:
        raise Throttled(wait)
    return key


def forgive(key: str) -> None:
    SignInCounter.objects.filter(key=key).delete()


def charge(key: str, *, block: Block, window: timedelta, sliding: bool = False) -> int:
    """Count an attempt under the row's lock; return the seconds to wait, or 0. A waiting one is not counted."""
    now = timezone.now()
    with transaction.atomic():
        row, _made = SignInCounter.objects.select_for_update().get_or_create(key=key, defaults={"began_at": now})
        if row.blocked_until is not None and row.blocked_until > now:
            return max(1, math.ceil((row.blocked_until - now).total_seconds()))
        if row.began_at + window <= now:
            row.tries, row.began_at = 0, now
        row.tries += 1
        if sliding:
            row.began_at = now
        row.blocked_until = block(row.tries, row.began_at, now)
        row.save()
    return 0


def remember_browser(request: HttpRequest, response: HttpResponseBase, name: str) -> None:
    """Set the signed cookie of a former sign-in."""
    response.set_signed_cookie(
        KNOWN_BROWSER,
        f"{_digest(_folded(name))}:{get_random_string(16)}",
        salt=KNOWN_BROWSER,
        max_age=KNOWN_FOR,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def _growing(tries: int, began: datetime, now: datetime) -> datetime | None:
    if tries < FREE_TRIES:
        return None
    return now + min(LONGEST_WAIT, timedelta(seconds=2 ** min(tries - FREE_TRIES, 16)))


def _known_browser(request: Any, name: str) -> str:
    request = getattr(request, "_request", request)
    try:
        value: str = request.get_signed_cookie(KNOWN_BROWSER, default="", salt=KNOWN_BROWSER, max_age=KNOWN_FOR)
    except signing.BadSignature:
        return ""
    return value if value.startswith(f"{_digest(_folded(name))}:") else ""


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _digest(text: str) -> str:
    return sha256(text.encode(errors="replace")).hexdigest()[:32]

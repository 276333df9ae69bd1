import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

import structlog
import tenacity
from django.conf import settings

from .errors import TransientStorageError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Delays are in seconds; ``max_attempts`` includes the first attempt."""

    max_attempts: int
    initial_delay: float
    max_delay: float
    exponential_base: float = 2.0

    def delay(self, attempt: int) -> float:
        """The randomised wait after the failed ``attempt`` (the first is 0)."""
        return min(self.initial_delay * self.exponential_base**attempt, self.max_delay) * random.uniform(0.5, 1.5)  # noqa: S311


CONSERVATIVE = RetryPolicy(max_attempts=3, initial_delay=1.0, max_delay=30.0)
AGGRESSIVE = RetryPolicy(max_attempts=6, initial_delay=0.25, max_delay=5.0)
PATIENT = RetryPolicy(max_attempts=8, initial_delay=2.0, max_delay=120.0)
#: For calls that must not wait: under a lock, in a health check.
ONCE = RetryPolicy(max_attempts=1, initial_delay=0.0, max_delay=0.0)
#: For undoing a failed write: quickly, but on a second connection, since the first may have broken.
TIDYING = RetryPolicy(max_attempts=2, initial_delay=0.0, max_delay=0.0)
PRESETS = {"conservative": CONSERVATIVE, "aggressive": AGGRESSIVE, "patient": PATIENT}

#: The errors that are retried.
PASSING = (TransientStorageError, ConnectionError, TimeoutError)

_chosen: ContextVar[RetryPolicy | None] = ContextVar("retry_policy", default=None)


@contextmanager
def retry_policy(policy: RetryPolicy | None) -> Iterator[None]:
    """Use ``policy`` in the block; None changes nothing."""
    token = _chosen.set(policy or _chosen.get())
    try:
        yield
    finally:
        _chosen.reset(token)


def current_policy() -> RetryPolicy:
    return _chosen.get() or PRESETS[settings.STORAGE_RETRY]


def call_with_retry(
    function: Callable[..., Result],
    *args: Any,
    policy: RetryPolicy | None = None,
    sleep: Callable[[float], None] = time.sleep,
    **kwargs: Any,
) -> Result:
    """Call a repeatable ``function`` until it returns, by ``policy`` or the current one.

    Retries TransientStorageError, ConnectionError and TimeoutError, unless an inner call has; raises the last error. A
    wait that the storage asks for is kept up to ``max_delay``.
    """
    policy = policy or current_policy()

    def log_failure(state: tenacity.RetryCallState) -> None:
        log.warning(
            "storage_attempt_failed",
            function=name_of(function),
            attempt=state.attempt_number,
            max_attempts=policy.max_attempts,
            error=words_of(state.outcome.exception()) if state.outcome else None,
        )

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        return max(policy.delay(state.attempt_number - 1), min(asked, policy.max_delay))

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.max_attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(may_pass),
        sleep=sleep,
        after=log_failure,
        reraise=True,
    )
    try:
        return retrying(function, *args, **kwargs)
    except PASSING as error:
        vars(error)["was_retried"] = True
        raise


def seconds_to_wait(retry_after: str) -> float | None:
    """From ``Retry-After`` (RFC 9110, 10.2.3); None if unreadable."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def may_pass(error: BaseException) -> bool:
    return isinstance(error, PASSING) and not getattr(error, "was_retried", False)


def name_of(function: Callable[..., Any]) -> str:
    """Without arguments, which may be secrets."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", type(function).__name__)


def words_of(error: BaseException | None) -> str:
    """Our own text; of other errors only the class and the system's message."""
    if isinstance(error, TransientStorageError):
        return repr(error)
    return f"{type(error).__name__}({getattr(error, 'strerror', None) or ''})"

"""Trying again what a storage says may work in a moment."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import tenacity
from django.conf import settings

from .errors import TransientStorageError

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently; delays are in seconds, ``max_attempts`` counts the first one."""

    max_attempts: int
    initial_delay: float
    max_delay: float
    exponential_base: float = 2.0

    def delay(self, attempt: int) -> float:
        """Return how long to wait after the failed ``attempt`` (the first is 0), spread so that clients do not meet."""
        return min(self.initial_delay * self.exponential_base**attempt, self.max_delay) * random.uniform(0.5, 1.5)  # noqa: S311


CONSERVATIVE = RetryPolicy(max_attempts=3, initial_delay=1.0, max_delay=30.0)
AGGRESSIVE = RetryPolicy(max_attempts=6, initial_delay=0.25, max_delay=5.0)
PATIENT = RetryPolicy(max_attempts=8, initial_delay=2.0, max_delay=120.0)
PRESETS = {"conservative": CONSERVATIVE, "aggressive": AGGRESSIVE, "patient": PATIENT}


def call_with_retry(
    function: Callable[..., Result],
    *args: Any,
    policy: RetryPolicy | None = None,
    sleep: Callable[[float], None] = time.sleep,
    **kwargs: Any,
) -> Result:
    """Call ``function(*args, **kwargs)`` until it answers; without a ``policy``, by the one of ``STORAGE_RETRY``.

    Only TransientStorageError, ConnectionError and TimeoutError are tried again; the last one of them, or any other
    error at once, comes out as it is. ``function`` must be able to start anew: a stream that was begun cannot.
    """
    policy = policy or PRESETS[settings.STORAGE_RETRY]

    def log_failure(state: tenacity.RetryCallState) -> None:
        log.warning(
            "storage_attempt_failed",
            function=getattr(function, "__qualname__", repr(function)),
            attempt=state.attempt_number,
            max_attempts=policy.max_attempts,
            error=repr(state.outcome.exception()) if state.outcome else None,
        )

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.max_attempts),
        wait=lambda state: policy.delay(state.attempt_number - 1),
        retry=tenacity.retry_if_exception_type((TransientStorageError, ConnectionError, TimeoutError)),
        sleep=sleep,
        after=log_failure,
        reraise=True,
    )
    return retrying(function, *args, **kwargs)

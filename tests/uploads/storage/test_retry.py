"""What may work in a moment is tried again; nothing else is."""

from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from uploads.storage.errors import (
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageFull,
    TransientStorageError,
)
from uploads.storage.retry import AGGRESSIVE, CONSERVATIVE, PATIENT, PRESETS, RetryPolicy, call_with_retry

POLICY = RetryPolicy(max_attempts=4, initial_delay=1.0, max_delay=3.0, exponential_base=2.0)


def failing(times: int, error: Exception) -> Callable[..., Any]:
    """A function that fails so many times, and then answers with what it was given."""
    left = [times]

    def function(*args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return args, kwargs

    return function


@pytest.mark.parametrize("error", [TransientStorageError(), ConnectionResetError("reset"), TimeoutError("slow")])
def test_a_passing_failure_is_tried_again_with_growing_and_bounded_delays(error: Exception) -> None:
    slept: list[float] = []
    with capture_logs() as lines:
        answer = call_with_retry(failing(3, error), 1, policy=POLICY, sleep=slept.append, two=2)
    assert answer == ((1,), {"two": 2})
    assert len(slept) == 3
    for delay, middle in zip(slept, (1.0, 2.0, 3.0), strict=True):
        assert 0.5 * middle <= delay <= 1.5 * middle
    assert [(line["event"], line["attempt"], line["max_attempts"]) for line in lines] == [
        ("storage_attempt_failed", attempt, 4) for attempt in (1, 2, 3)
    ]


def test_after_the_last_attempt_the_failure_itself_comes_out() -> None:
    error = TransientStorageError("still away")
    slept: list[float] = []
    with capture_logs() as lines, pytest.raises(TransientStorageError) as raised:
        call_with_retry(failing(4, error), policy=POLICY, sleep=slept.append)
    assert raised.value is error
    assert len(slept) == 3
    assert [line["attempt"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "error",
    [
        PermanentStorageError(),
        StorageFull(),
        ObjectNotFound(),
        ObjectExists(),
        ValueError("wrong"),
        FileNotFoundError(),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    slept: list[float] = []
    with pytest.raises(type(error)) as raised:
        call_with_retry(failing(1, error), policy=POLICY, sleep=slept.append)
    assert raised.value is error
    assert slept == []


def test_delays_are_spread_over_half_to_one_and_a_half() -> None:
    delays = [POLICY.delay(1) for _ in range(1000)]
    assert 1.0 <= min(delays) < 1.1
    assert 2.9 < max(delays) <= 3.0


@pytest.mark.parametrize("preset", PRESETS)
def test_the_setting_chooses_the_policy(settings: Any, preset: str) -> None:
    settings.STORAGE_RETRY = preset
    slept: list[float] = []
    with pytest.raises(TransientStorageError):
        call_with_retry(failing(100, TransientStorageError()), sleep=slept.append)
    assert len(slept) == PRESETS[preset].max_attempts - 1


def test_the_presets_are_what_their_names_say() -> None:
    assert (CONSERVATIVE.max_attempts, CONSERVATIVE.initial_delay, CONSERVATIVE.exponential_base) == (3, 1.0, 2.0)
    assert AGGRESSIVE.max_attempts > CONSERVATIVE.max_attempts
    assert AGGRESSIVE.initial_delay < CONSERVATIVE.initial_delay
    assert PATIENT.max_delay > CONSERVATIVE.max_delay
    assert PATIENT.max_attempts > CONSERVATIVE.max_attempts

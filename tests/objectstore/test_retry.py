"""What may work in a moment is tried again; nothing else is."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest
from django.core.files.base import ContentFile
from structlog.testing import capture_logs

from objectstore.errors import (
    BucketNotFound,
    CredentialsRefused,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    PermanentStorageError,
    StorageFull,
    TransientStorageError,
)
from objectstore.parts import PartReader, send_parts
from objectstore.retry import (
    AGGRESSIVE,
    CONSERVATIVE,
    ONCE,
    PATIENT,
    PRESETS,
    RetryPolicy,
    call_with_retry,
    current_policy,
    retry_policy,
    seconds_to_wait,
)

AT_ONCE = RetryPolicy(max_attempts=3, initial_delay=0.0, max_delay=0.0)
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
        ObjectArchived(),
        BucketNotFound(),
        CredentialsRefused(),
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


@pytest.mark.parametrize(
    ("preset", "middles"),
    [
        ("conservative", [1, 2]),
        ("aggressive", [0.25, 0.5, 1, 2, 4]),
        ("patient", [2, 4, 8, 16, 32, 64, 120]),
    ],
)
def test_each_preset_waits_as_documented(preset: str, middles: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Delay = min(initial x base^attempt, max) x random(0.5, 1.5)."""
    for factor in (0.5, 1.0, 1.5):
        monkeypatch.setattr("objectstore.retry.random.uniform", lambda low, high, factor=factor: factor)
        slept: list[float] = []
        with pytest.raises(TransientStorageError):
            call_with_retry(failing(100, TransientStorageError()), policy=PRESETS[preset], sleep=slept.append)
        assert slept == [factor * middle for middle in middles]


def test_the_conservative_preset_is_the_one_that_was_asked_for() -> None:
    assert RetryPolicy(max_attempts=3, initial_delay=1.0, max_delay=30.0, exponential_base=2.0) == CONSERVATIVE


def test_what_must_not_wait_is_tried_once() -> None:
    slept: list[float] = []
    with pytest.raises(TransientStorageError):
        call_with_retry(failing(1, TransientStorageError()), policy=ONCE, sleep=slept.append)
    assert slept == []


@pytest.mark.parametrize(("asked", "waited"), [(2.5, 2.5), (0.1, 1.0), (60.0, 3.0), (None, 1.0)])
def test_a_storage_that_asks_for_a_longer_wait_gets_it_within_the_bounds(
    asked: float | None, waited: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("objectstore.retry.random.uniform", lambda low, high: 1.0)
    error = TransientStorageError()
    error.retry_after = asked
    slept: list[float] = []
    call_with_retry(failing(1, error), policy=POLICY, sleep=slept.append)
    assert slept == [waited]


@pytest.mark.parametrize("error", [TransientStorageError, ConnectionResetError, TimeoutError])
def test_what_gave_up_further_in_is_not_tried_again_further_out(error: type[Exception]) -> None:
    """Promise 14. Three attempts, and not three times three."""
    calls = [0]

    def function() -> None:
        calls[0] += 1
        raise error

    def inner() -> None:
        call_with_retry(function, policy=AT_ONCE)

    with pytest.raises(error):
        call_with_retry(inner, policy=AT_ONCE)
    assert calls == [3]


def test_a_new_fault_after_one_that_gave_up_is_tried_again() -> None:
    """The mark is on the one error, not on what was called."""
    for _ in range(2):
        assert call_with_retry(failing(2, TransientStorageError()), policy=AT_ONCE) == ((), {})


def test_the_innermost_policy_rules_until_its_block_ends(settings: Any) -> None:
    settings.STORAGE_RETRY = "patient"
    assert current_policy() is PATIENT
    with retry_policy(AGGRESSIVE):
        with retry_policy(ONCE):
            assert current_policy() is ONCE
        with retry_policy(None):
            assert current_policy() is AGGRESSIVE
        with suppress(ValueError), retry_policy(CONSERVATIVE):
            raise ValueError
        assert current_policy() is AGGRESSIVE
    assert current_policy() is PATIENT


def test_the_policy_of_a_block_is_followed_by_what_is_called_in_it() -> None:
    calls = [0]

    def function() -> None:
        calls[0] += 1
        raise TransientStorageError

    with retry_policy(AT_ONCE), pytest.raises(TransientStorageError):
        call_with_retry(function)
    assert calls == [3]


def test_parts_that_are_sent_on_other_threads_follow_the_policy_of_their_upload() -> None:
    def send(number: int, part: bytearray) -> tuple[str, RetryPolicy]:
        return threading.current_thread().name, current_policy()

    with retry_policy(AT_ONCE), PartReader(ContentFile(b"x" * 40), 10, 2) as reader:
        sent = send_parts(reader, reader.next_part(), send, parallel=2)
    assert [policy for _thread, policy in sent] == [AT_ONCE] * 4
    assert threading.current_thread().name not in {thread for thread, _policy in sent}


def test_a_moment_to_wait_for_may_be_a_date() -> None:
    soon = seconds_to_wait(format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True))
    assert soon is not None
    assert 50 < soon <= 60
    assert seconds_to_wait(format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)) == 0
    assert {seconds_to_wait(word) for word in ("", "tomorrow", "-1", "²", "nan")} == {None}


SECRET = "https://bucket.example/audio?X-Amz-Signature=5ecre7"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionError(f"cannot reach {SECRET}"), "ConnectionError()"),
        (
            ConnectionResetError(104, "Connection reset by peer", SECRET),
            "ConnectionResetError(Connection reset by peer)",
        ),
        (TimeoutError(SECRET), "TimeoutError()"),
    ],
)
def test_the_log_names_function_attempt_and_error_and_no_secret(error: Exception, told: str) -> None:
    """Promise 49. Neither what the function was given nor the words of others' errors."""
    with capture_logs() as lines, pytest.raises(type(error)):
        call_with_retry(partial(failing(9, error), SECRET, url=SECRET), SECRET, policy=AT_ONCE)
    assert [line["attempt"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert line["log_level"] == "warning"
        assert line["function"] == "failing.<locals>.function"
        assert line["error"] == told
    assert "5ecre7" not in str(lines)

from datetime import UTC, datetime, timedelta

import pytest

from audiotricks import clock

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three clocks that agree: an hour has passed since the start."""
    monkeypatch.setattr(clock, "STARTED_AT", NOW - timedelta(hours=1))
    monkeypatch.setattr(clock, "STARTED_AT_ELAPSED", 100.0)
    monkeypatch.setattr(clock, "elapsed_clock", lambda: 3700.0)
    monkeypatch.setattr(clock, "wall_clock", lambda: NOW)
    monkeypatch.setattr(clock, "database_clock", lambda: NOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wall_clock", lambda: NOW + DAY),
        ("database_clock", lambda: NOW + DAY),
        ("elapsed_clock", lambda: 3700.0 + 86400),
    ],
)
def test_a_clock_that_is_a_day_ahead_moves_nothing(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    """Promise 37. Sweeps compare against the earliest clock."""
    monkeypatch.setattr(clock, name, value)
    assert clock.earliest_now() == NOW


@pytest.mark.parametrize("name", ["wall_clock", "database_clock"])
def test_a_clock_that_is_a_day_behind_makes_sweeps_late(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Promise 37."""
    monkeypatch.setattr(clock, name, lambda: NOW - DAY)
    assert clock.earliest_now() == NOW - DAY


@pytest.mark.django_db
def test_the_servers_clock_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert abs(clock.database_clock() - datetime.now(UTC)) < timedelta(minutes=1)
    assert abs(clock.earliest_now() - datetime.now(UTC)) < timedelta(minutes=1)

"""Later by every clock that sweeps look at (``audiotricks.clock``); those of storages stay where they are."""

from datetime import timedelta

import pytest

from audiotricks import clock


def go_ahead(monkeypatch: pytest.MonkeyPatch, **span: float) -> None:
    by = timedelta(**span)
    wall, database, elapsed = clock.wall_clock, clock.database_clock, clock.elapsed_clock
    monkeypatch.setattr(clock, "wall_clock", lambda: wall() + by)
    monkeypatch.setattr(clock, "database_clock", lambda: database() + by)
    monkeypatch.setattr(clock, "elapsed_clock", lambda: elapsed() + by.total_seconds())

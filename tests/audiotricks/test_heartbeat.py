from datetime import timedelta
from typing import Any

import pytest
from celery.signals import worker_ready, worker_shutdown
from django.db import OperationalError
from django.db.models.functions import Now

from audiotricks.models import WorkerHeartbeat
from audiotricks.running import heartbeat
from tests.servers import wait_until


class Worker:
    hostname = "celery@here"


WORKER = Worker()


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_seen_from_its_start_to_its_end(settings: Any) -> None:
    settings.WORKER_SEEN_SECONDS = 0.03
    worker_ready.send(sender=WORKER)
    try:
        first = wait_until(lambda: WorkerHeartbeat.objects.filter(name=WORKER.hostname).first(), what="a heartbeat")
        assert isinstance(first, WorkerHeartbeat)
        wait_until(
            lambda: WorkerHeartbeat.objects.filter(name=WORKER.hostname, seen_at__gt=first.seen_at).exists(),
            what="the next heartbeat",
        )
    finally:
        worker_shutdown.send(sender=WORKER)
    assert not WorkerHeartbeat.objects.exists()
    assert heartbeat.running == {}


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_does_not_end_the_heartbeat(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WORKER_SEEN_SECONDS = 0.03
    failures = []

    def failing_beat(name: str) -> None:
        if len(failures) < 3:
            failures.append(name)
            raise OperationalError("away")
        beat(name)

    beat = heartbeat.beat
    monkeypatch.setattr(heartbeat, "beat", failing_beat)
    worker_ready.send(sender=WORKER)
    try:
        wait_until(WorkerHeartbeat.objects.exists, what="a heartbeat after the failures")
    finally:
        worker_shutdown.send(sender=WORKER)
    assert len(failures) == 3


@pytest.mark.django_db
def test_workers_that_were_silent_for_a_day_are_forgotten() -> None:
    WorkerHeartbeat.objects.create(name="old", seen_at=Now() - timedelta(days=1, minutes=1))
    WorkerHeartbeat.objects.create(name="silent", seen_at=Now() - timedelta(hours=1))
    heartbeat.beat("new")
    assert set(WorkerHeartbeat.objects.values_list("name", flat=True)) == {"silent", "new"}


@pytest.mark.parametrize(("seen", "interval"), [(90, 20), (600, 20), (15, 5)])
def test_three_beats_fit_into_the_time_that_health_allows(settings: Any, seen: int, interval: float) -> None:
    settings.WORKER_SEEN_SECONDS = seen
    assert heartbeat.interval_seconds() == interval

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models.functions import Now
from django.test import Client

from audiotricks.models import WorkerHeartbeat
from audiotricks.plug import HealthCheck, declared
from audiotricks.running import health
from audiotricks.running.health import CheckFailed
from audiotricks.running.heartbeat import beat

REAL = dict(declared(lambda app: app.health_checks.items()))
HERE = "tests.audiotricks.test_health"
release = threading.Event()
started = threading.Semaphore(0)


def good() -> dict[str, Any]:
    return {"free_bytes": 5}


def explained() -> None:
    raise CheckFailed("Less than 10 MB are free.")


def broken() -> None:
    raise OperationalError("connection to postgresql://user:hidden@10.0.0.1/x failed")


def hanging() -> None:
    started.release()
    release.wait()


looks: list[Any] = []


def in_turn() -> Any:
    return looks.pop(0)()


@pytest.fixture
def hang() -> Iterator[None]:
    release.clear()
    yield
    release.set()
    health.forget()


def ask(declare: Callable[..., None], **checks: str) -> tuple[int, dict[str, Any]]:
    """The answer with functions of this module in the place of the real checks."""
    declare(health_checks={name: replace(REAL[name], function=f"{HERE}.{check}") for name, check in checks.items()})
    answer = Client().get("/health")
    return answer.status_code, answer.json()


def test_all_is_well_when_every_check_is(declare: Callable[..., None]) -> None:
    assert ask(declare, database="good", disk="good") == (
        200,
        {"status": "ok", "checks": {name: {"ok": True, "free_bytes": 5} for name in ("database", "disk")}},
    )


@pytest.mark.parametrize("name", ["broker", "worker"])
def test_without_broker_or_worker_it_is_degraded_but_serves(declare: Callable[..., None], name: str) -> None:
    status, answer = ask(declare, **{"database": "good", name: "explained"})
    assert (status, answer["status"]) == (200, "degraded")
    assert answer["checks"][name] == {"ok": False, "detail": "Less than 10 MB are free."}


@pytest.mark.parametrize("name", ["database", "storage", "disk"])
def test_without_database_storage_or_disk_it_is_failing(declare: Callable[..., None], name: str) -> None:
    status, answer = ask(declare, **{"worker": "explained", name: "broken"})
    assert (status, answer["status"]) == (503, "failing")


def test_what_broke_is_logged_and_not_shown(declare: Callable[..., None]) -> None:
    _, answer = ask(declare, database="broken")
    assert "hidden" not in str(answer) and "10.0.0.1" not in str(answer)


def test_a_check_that_hangs_takes_one_thread_for_all_requests_and_holds_up_no_answer(
    declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch, hang: None
) -> None:
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.05)
    for _ in range(3):
        status, answer = ask(declare, storage="hanging", database="good")
        assert (status, answer["checks"]["storage"]) == (503, {"ok": False, "detail": "No answer yet."})
        assert answer["checks"]["database"]["ok"]
    monkeypatch.setattr(health, "LONGEST_SECONDS", 0.0)
    _, answer = ask(declare, storage="hanging")
    assert answer["checks"]["storage"]["detail"] == "No answer within 0 seconds."
    assert started.acquire(blocking=False)
    assert not started.acquire(blocking=False)


def test_a_good_answer_stands_while_the_next_look_is_on_its_way_and_a_bad_one_is_looked_at_again(
    declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch, hang: None
) -> None:
    """Whatever hangs, the answer comes from what was noted, until the look has taken too long."""
    monkeypatch.setattr(health, "FRESH_SECONDS", 0.0)
    looks.clear()
    looks.extend([explained, good, hanging])
    assert ask(declare, disk="in_turn")[0] == 503
    assert ask(declare, disk="in_turn")[0] == 200
    assert ask(declare, disk="in_turn")[0] == 200
    assert started.acquire(timeout=20)
    assert ask(declare, disk="in_turn")[0] == 200
    monkeypatch.setattr(health, "LONGEST_SECONDS", 0.0)
    assert ask(declare, disk="in_turn")[0] == 503


def test_only_get_and_head_are_answered() -> None:
    assert Client().post("/health").status_code == 405
    assert Client().head("/health").content == b""


def test_the_broker_is_well_when_its_folder_can_be_written(settings: Any, tmp_path: Path) -> None:
    settings.CELERY_BROKER_URL = "filesystem://"
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(tmp_path)}
    health.check_broker()
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(tmp_path / "gone")}
    with pytest.raises(CheckFailed):
        health.check_broker()


def test_the_broker_is_well_while_redis_answers(settings: Any, redis_url: str) -> None:
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {}
    settings.CELERY_BROKER_URL = redis_url
    health.check_broker()
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"
    with pytest.raises(Exception, match="refused"):
        health.check_broker()


@pytest.mark.django_db
def test_a_worker_counts_while_it_was_seen_lately(settings: Any) -> None:
    settings.WORKER_SEEN_SECONDS = 60
    with pytest.raises(CheckFailed):
        health.check_worker()
    beat("worker@one")
    beat("worker@one")
    assert health.check_worker() == {"workers": 1}
    WorkerHeartbeat.objects.update(seen_at=Now() - timedelta(seconds=61))
    with pytest.raises(CheckFailed):
        health.check_worker()


@pytest.mark.django_db(transaction=True)
def test_the_database_is_asked_from_a_thread_of_the_check(declare: Callable[..., None]) -> None:
    declare(health_checks={"database": HealthCheck("audiotricks.running.health.check_database")})
    assert Client().get("/health").json() == {"status": "ok", "checks": {"database": {"ok": True}}}


@pytest.mark.django_db(transaction=True)
def test_a_database_that_keeps_writers_out_is_not_well(declare: Callable[..., None]) -> None:
    declare(health_checks={"database": HealthCheck("audiotricks.running.health.check_database")})
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE task_leases IN SHARE MODE")
        assert Client().get("/health").status_code == 503
    assert Client().get("/health").status_code == 200

"""A real worker, on Redis and on the filesystem: killed, poisoned, told things twice, and left without its broker."""

import ast
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path

import pytest
from django.db.models.functions import Now
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from kombu.exceptions import OperationalError
from redis import Redis

from audiotricks.celery import app, waiting_tasks
from audiotricks.models import SeededTask
from audiotricks.plug import periodic_tasks, processing_steps
from audiotricks.running.schedules import seed_periodic_tasks
from quotas.models import Workspace
from tests.audio import make_jpeg, make_mp3, make_wav
from tests.factories import client_for, operator
from tests.quotas.threads import at_once
from tests.running.programs import ROOT, Program, environment, ran, started
from tests.servers import free_port, running_redis, wait_until
from tests.uploads.life import actions, arrive, assert_books_balance, environment_of_this_test, steps, use_broker
from uploads.models import AudioUpload, Status, UploadEvent
from uploads.upkeep.sweeps import sweep_stale_work

pytestmark = pytest.mark.django_db(transaction=True)

REAL_STEPS = processing_steps()
BEFORE, HALT, AFTER, POISON = (f"tests.uploads.worker_steps.{name}" for name in ("before", "halt", "after", "poison"))


@pytest.fixture(params=["redis", "filesystem"])
def broker(request: pytest.FixtureRequest, redis_url: str, no_broker: None) -> Iterator[str]:
    """The address of an empty broker, which this process sends to."""
    url = redis_url.replace("/0", "/7") if request.param == "redis" else "filesystem://localhost"
    before = app.conf.broker_transport_options
    use_broker(url)
    with app.connection_for_write() as connection:
        connection.default_channel.queue_declare("celery")
        connection.default_channel.queue_purge("celery")
    yield url
    use_broker("memory://")
    app.conf.broker_transport_options = before


@dataclass
class Workers:
    """Starts workers, and reads what their steps noted."""

    env: dict[str, str]
    directory: Path

    def started(self, *, name: str = "worker") -> AbstractContextManager[Program]:
        command = [
            *(sys.executable, "-m", "celery", "-A", "audiotricks", "worker", "--pool", "prefork"),
            *("--concurrency", "2", "--without-gossip", "--without-mingle"),
        ]
        return started(command, self.env, self.directory / f"{name}.log")

    def notes(self, step: str) -> list[int]:
        file = self.directory / step
        return [int(line) for line in file.read_text().splitlines()] if file.exists() else []

    def go(self) -> None:
        (self.directory / "go").touch()


@pytest.fixture
def workers(broker: str, audio_root: Path, tmp_path: Path) -> Callable[..., Workers]:
    def made(*steps: str, **given: str) -> Workers:
        env = environment_of_this_test(
            audio_root,
            DJANGO_SETTINGS_MODULE="tests.uploads.worker_settings",
            CELERY_BROKER_URL=broker,
            TEST_STEPS=",".join(steps),
            TEST_NOTES=str(tmp_path),
            **given,
        )
        return Workers(env, tmp_path)

    return made


def status_of(upload: AudioUpload) -> str:
    return AudioUpload.objects.values_list("status", flat=True).get(pk=upload.pk)


def wait_for_status(upload: AudioUpload, status: Status, program: Program) -> None:
    wait_with(program, lambda: status_of(upload) == status, what=f"the file to be {status}")


def wait_with(program: Program, condition: Callable[[], object], *, what: str) -> None:
    """Wait while the program runs; what it said is told when that was in vain."""

    def holds() -> object:
        assert program.process.poll() is None, "it ended"
        return condition()

    try:
        wait_until(holds, seconds=60, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{program.output()}") from None


def taken_back() -> bool:
    """Once the dead worker's claim has run out."""
    return sweep_stale_work()["taken_back"] == 1


def test_a_worker_takes_a_file_to_completed(workspace: Workspace, workers: Callable[..., Workers]) -> None:
    with workers(*REAL_STEPS).started() as worker:
        worker.wait_for(" ready.")
        upload = arrive(workspace, make_mp3(artwork=make_jpeg()), filename="one.mp3")
        wait_for_status(upload, Status.COMPLETED, worker)
        upload.refresh_from_db()
        assert upload.codec == "mp3" and upload.thumbnail_path
        assert steps(upload) == REAL_STEPS
    assert_books_balance(workspace)


def test_a_task_that_is_sent_many_times_has_one_effect(workspace: Workspace, workers: Callable[..., Workers]) -> None:
    """Promise 33. The first one claims the file; the others find nothing to do."""
    upload = arrive(workspace)
    for _ in range(9):
        app.send_task("uploads.tasks.process_upload", args=[str(upload.pk)])
    assert waiting_tasks() == 10
    crew = workers(BEFORE, AFTER)
    with crew.started() as worker:
        wait_for_status(upload, Status.COMPLETED, worker)
        wait_until(lambda: waiting_tasks() == 0, what="an empty queue")
        last = arrive(workspace, make_wav(seed=1))
        wait_for_status(last, Status.COMPLETED, worker)
    assert len(crew.notes("before")) == len(crew.notes("after")) == 2
    assert actions(upload) == ["uploaded", "validating", "step_done", "step_done", "processing", "completed"]


def test_a_process_of_the_worker_that_is_killed_in_a_step_has_its_effect_once(
    workspace: Workspace, workers: Callable[..., Workers]
) -> None:
    """Promise 31. The sweep gives the file back; what was done stays done, what was not is done once."""
    crew = workers(BEFORE, HALT, AFTER)
    with crew.started() as worker:
        upload = arrive(workspace)
        (victim,) = wait_until(lambda: crew.notes("halt"), what="the step to begin")  # type: ignore[misc]
        assert status_of(upload) == Status.VALIDATING
        os.kill(victim, signal.SIGKILL)
        wait_until(taken_back, what="the claim to run out")
        crew.go()
        wait_for_status(upload, Status.COMPLETED, worker)
    assert len(crew.notes("before")) == len(crew.notes("after")) == 1
    assert len(set(crew.notes("halt"))) == 2
    assert_has_been_done_once(upload)


def test_a_worker_that_is_killed_as_a_whole_in_a_step_has_its_effect_once(
    workspace: Workspace, workers: Callable[..., Workers]
) -> None:
    """Promise 31. Whatever the broker makes of the message that the dead worker held, the next worker finishes."""
    crew = workers(BEFORE, HALT, AFTER)
    with crew.started() as worker:
        upload = arrive(workspace)
        wait_until(lambda: crew.notes("halt"), what="the step to begin")
        for process in worker.family():
            process.kill()
        worker.process.wait(timeout=20)
    crew.go()
    with crew.started(name="next") as other:
        other.wait_for(" ready.")
        wait_until(taken_back, what="the claim to run out")
        wait_for_status(upload, Status.COMPLETED, other)
    assert len(crew.notes("before")) == len(crew.notes("after")) == 1
    assert_has_been_done_once(upload)


def assert_has_been_done_once(upload: AudioUpload) -> None:
    assert steps(upload) == [BEFORE, HALT, AFTER]
    told = actions(upload)
    assert told.count("completed") == told.count("taken_back") == 1
    upload.refresh_from_db()
    assert (upload.retry_count, upload.error_code) == (1, "")
    assert_books_balance(upload.workspace)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_file_that_kills_its_worker_each_time_is_failed_and_the_others_are_processed(
    workspace: Workspace, workers: Callable[..., Workers]
) -> None:
    """Promise 32. It stops after its retries, with a reason; the worker lives on."""
    crew = workers(POISON)
    with crew.started() as worker:
        poisoned = arrive(workspace, filename="poison.wav")

        def failed() -> bool:
            if AudioUpload.objects.filter(status=Status.VALIDATING, claimable_at__lt=Now()).exists():
                sweep_stale_work()
            return status_of(poisoned) == Status.FAILED

        wait_until(failed, seconds=60, what="the file to be failed")
        other = arrive(workspace, make_wav(seed=1))
        wait_for_status(other, Status.COMPLETED, worker)
        wait_until(lambda: waiting_tasks() == 0, what="an empty queue")
    poisoned.refresh_from_db()
    assert len(crew.notes("poison")) == 1 + poisoned.max_retries
    assert (poisoned.error_code, poisoned.retry_count) == ("worker_lost", 3)
    assert poisoned.error_message == "The worker that processed the file was lost."
    assert_books_balance(workspace)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_a_step_that_takes_too_long_is_interrupted_and_its_file_pauses(
    workspace: Workspace, workers: Callable[..., Workers]
) -> None:
    # This process has a limit of an hour, and as one that knows the task it would send that along.
    app.loader.import_default_modules()
    with workers(HALT, TEST_SOFT_TIME_LIMIT="4").started() as worker:
        upload = arrive(workspace)
        wait_with(worker, lambda: "taken_back" in actions(upload), what="the time limit to be over")
    upload.refresh_from_db()
    assert (upload.status, upload.error_code) == ("uploaded", "processing_time_limit")
    assert upload.claimable_at > timezone.now()


# The broker


def test_while_the_broker_is_down_uploads_are_answered_and_later_the_backlog_drains(
    workspace: Workspace, audio_root: Path, tmp_path: Path
) -> None:
    """Promise 36. The worker finds the broker again, and the sweep sends what could not be sent."""
    port = free_port()
    client = client_for(operator())
    with ExitStack() as stack:
        with running_redis(port) as url:
            env = environment_of_this_test(
                audio_root,
                DJANGO_SETTINGS_MODULE="tests.uploads.worker_settings",
                CELERY_BROKER_URL=url,
                TEST_STEPS=BEFORE,
                TEST_NOTES=str(tmp_path),
            )
            stack.callback(use_broker, "memory://")
            use_broker(url)
            worker = stack.enter_context(Workers(env, tmp_path).started())
            wait_for_status(arrive(workspace), Status.COMPLETED, worker)
            # kombu ends the worker when the broker goes away in the middle of an acknowledgement.
            with Redis.from_url(url) as broker:
                wait_until(lambda: not broker.hlen("unacked"), seconds=10, what="the task to be acknowledged")
        uploads = []
        for seed in (1, 2, 3):
            began = time.monotonic()
            answer = client.post(
                f"/api/v1/uploads/?workspace={workspace.pk}",
                make_wav(seed=seed),
                content_type="application/octet-stream",
                HTTP_CONTENT_DISPOSITION='attachment; filename="x.wav"',
            )
            assert answer.status_code == 201
            assert time.monotonic() - began < 20, "a dead broker holds up the answer"
            uploads.append(AudioUpload.objects.get(pk=answer.json()["id"]))
        with pytest.raises(OperationalError):
            sweep_stale_work()
        assert {status_of(upload) for upload in uploads} == {"uploaded"}

        AudioUpload.objects.update(claimable_at=timezone.now() - timedelta(seconds=61))
        stack.enter_context(running_redis(port))
        assert sweep_stale_work()["sent_again"] == 3
        for upload in uploads:
            wait_for_status(upload, Status.COMPLETED, worker)


def test_tasks_that_wait_are_counted_and_no_queue_is_an_empty_one(broker: str) -> None:
    with app.connection_for_write() as connection:
        connection.default_channel.queue_delete("celery")
    assert waiting_tasks() == 0
    for _ in range(3):
        app.send_task("uploads.tasks.process_upload", args=["0"])
    assert waiting_tasks() == 3


def test_no_task_is_sent_with_a_delay_and_none_but_through_the_one_helper() -> None:
    """Promise 34. A broker gives a task that waits longer than its visibility time-out to a second worker."""
    senders = []
    for package in ("audiotricks", "quotas", "uploads"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                given = {keyword.arg for keyword in node.keywords}
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert not given & {"countdown", "eta"}, f"{path}:{node.lineno}"
                # The scheduler's own is the way by which beat sends.
                if path.name != "beat.py":
                    assert name not in ("apply_async", "add_periodic_task"), f"{path}:{node.lineno}"
                if name == "send_task":
                    senders.append(path.relative_to(ROOT).as_posix())
    assert senders == ["audiotricks/celery.py"]


def test_a_task_ends_long_before_the_broker_would_give_it_to_another() -> None:
    """Promise 34. The hard time limit lies inside the visibility time-out, whatever the limit is set to."""
    code = (
        "import json; from audiotricks.celery import app; c = app.conf; "
        "print(json.dumps([c.task_soft_time_limit, c.task_time_limit, c.broker_transport_options, "
        "c.task_acks_late, c.task_reject_on_worker_lost, c.worker_prefetch_multiplier]))"
    )
    for seconds in ("10", "3600", "86400"):
        env = environment(REDIS_URL="redis://127.0.0.1/0", PROCESSING_TIME_LIMIT_SECONDS=seconds, SECRET_KEY="x" * 60)
        shown = ran([sys.executable, "-c", code], env)
        soft, hard, transport, late, reject, prefetch = json.loads(shown.stdout)
        assert soft == int(seconds) < hard < transport["visibility_timeout"]
        assert (late, reject, prefetch) == (True, True, 1)


# Beat


def test_beats_that_start_at_once_seed_each_schedule_once() -> None:
    """Promise 35. Whoever is first to migrate makes the rows."""
    PeriodicTask.objects.all().delete()
    IntervalSchedule.objects.all().delete()
    SeededTask.objects.all().delete()
    outcomes = at_once(*[seed_periodic_tasks] * 6)
    names = [name for name, _ in periodic_tasks()]
    assert sorted(chain.from_iterable(outcomes)) == sorted(names)
    assert sorted(PeriodicTask.objects.values_list("name", flat=True)) == sorted(names)
    kinds = IntervalSchedule.objects.values_list("every", "period")
    assert len(kinds) == len(set(kinds))


def runs_done(worker: Program) -> int:
    lines = worker.output().splitlines()
    return sum("task_done" in line and "expire_uploads" in line for line in lines)


@pytest.mark.parametrize("broker", ["redis"], indirect=True)
def test_two_beats_have_one_effect(workspace: Workspace, workers: Callable[..., Workers], tmp_path: Path) -> None:
    """Promise 35. Each sends its tasks; what they do is done once."""
    seed_periodic_tasks()
    second, _ = IntervalSchedule.objects.get_or_create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.exclude(interval=None).update(interval=second, last_run_at=timezone.now())
    workspace.quota.retention_days, workspace.quota.auto_cleanup = 10, True
    workspace.quota.save()
    expired = arrive(workspace)
    waiting = arrive(workspace, make_wav(seed=1))
    AudioUpload.objects.filter(pk=expired.pk).update(
        status=Status.COMPLETED, uploaded_at=timezone.now() - timedelta(days=11)
    )
    AudioUpload.objects.filter(pk=waiting.pk).update(claimable_at=timezone.now() - timedelta(minutes=2))
    with app.connection_for_write() as connection:
        connection.default_channel.queue_purge("celery")
    crew = workers(BEFORE)
    beat = [sys.executable, "-m", "celery", "-A", "audiotricks", "beat"]
    with (
        crew.started() as worker,
        started(beat, crew.env, tmp_path / "beat-1.log") as one,
        started(beat, crew.env, tmp_path / "beat-2.log") as two,
    ):
        for program in (one, two):
            program.wait_for("uploads.tasks.expire_uploads")
        wait_for_status(waiting, Status.COMPLETED, worker)
        wait_with(worker, lambda: runs_done(worker) >= 2, what="the tasks of both beats")
    assert status_of(expired) == Status.DELETED
    assert UploadEvent.objects.filter(upload_id=expired.pk, action="deleted").count() == 1
    assert actions(waiting).count("completed") == 1
    assert len(crew.notes("before")) == 1
    assert_books_balance(workspace)

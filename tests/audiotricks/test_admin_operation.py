"""The schedule, workers and keys in the administration, its sidebar and its first page."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from audiotricks.models import EncryptionKey, IdempotencyKey, TaskRun, WorkerHeartbeat
from objectstore.local import LocalStorage
from tests.api.rows import many_uploads, store_upload
from tests.factories import UserFactory, WorkspaceFactory
from uploads.models import Status

ADDRESSES = "audiotricks.urls"

pytestmark = pytest.mark.django_db

TASKS = "/admin/django_celery_beat/periodictask/"
PURGE = "uploads.tasks.purge_trash"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def purge() -> PeriodicTask:
    return PeriodicTask.objects.get(task=PURGE)


def staff_with(*permissions: str) -> Client:
    user = UserFactory(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page_of(task: PeriodicTask) -> str:
    return f"{TASKS}{task.pk}/change/"


def form_of(row: PeriodicTask, **changes: Any) -> dict[str, Any]:
    form = {"name": row.name, "task": row.task, "enabled": "on", "interval": row.interval_id, "crontab": ""}
    return form | changes


def run_of(task: str, **columns: Any) -> TaskRun:
    now = timezone.now()
    return TaskRun.objects.create(pk=uuid4(), task=task, **{"started_at": now, "finished_at": now, **columns})


def test_a_periodic_task_shows_what_came_of_its_last_runs(client: Client, purge: PeriodicTask) -> None:
    run_of(PURGE, succeeded=False, error="OSError: the disk is away", started_at=timezone.now() - timedelta(hours=1))
    newest = run_of(PURGE, succeeded=True, result={"purged_files": 1234})
    run_of("uploads.tasks.expire_uploads", succeeded=True, result={"expired": 77})
    listed = client.get(TASKS).content.decode()
    assert "purged files: 1234" in listed and "the disk is away" not in listed
    page = client.get(page_of(purge)).content.decode()
    assert "purged files: 1234" in page and "the disk is away" in page and "expired: 77" not in page
    assert reverse("admin:audiotricks_taskrun_change", args=[newest.pk]) in page
    assert "every hour" in page


def test_a_task_that_never_ran_says_so(client: Client, purge: PeriodicTask) -> None:
    assert "It has not run yet." in client.get(page_of(purge)).content.decode()


def test_a_task_is_sent_when_somebody_asked_for_it_and_was_asked(
    client: Client, purge: PeriodicTask, sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        asked = client.get(f"{TASKS}{purge.pk}/run/")
        assert "is given to the workers now" in asked.content.decode()
        client.post(f"{TASKS}{purge.pk}/run/")
    assert sent == []
    with django_capture_on_commit_callbacks(execute=True):
        done = client.post(f"{TASKS}{purge.pk}/run/", {"confirmed": "yes"}, follow=True)
    assert sent == [(PURGE,)]
    assert "1 task was sent to the workers" in done.content.decode()


def test_a_selection_of_tasks_is_sent_each_once(
    client: Client, purge: PeriodicTask, sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    twin = PeriodicTask.objects.create(name="The same again", task=PURGE, interval=purge.interval)
    other = PeriodicTask.objects.get(task="uploads.tasks.expire_uploads")
    chosen = [task.pk for task in (purge, twin, other)]
    with django_capture_on_commit_callbacks(execute=True):
        client.post(TASKS, {"action": "run_now", "_selected_action": chosen})
    assert sorted(sent) == [("uploads.tasks.expire_uploads",), (PURGE,)]


def test_who_may_only_look_sends_and_changes_nothing(
    purge: PeriodicTask, sent: list[tuple[str, ...]], django_capture_on_commit_callbacks: Any
) -> None:
    viewer = staff_with("view_periodictask")
    with django_capture_on_commit_callbacks(execute=True):
        assert viewer.post(f"{TASKS}{purge.pk}/run/", {"confirmed": "yes"}).status_code == 403
        for action in ("run_now", "disable"):
            viewer.post(TASKS, {"action": action, "_selected_action": [purge.pk]})
        assert viewer.post(page_of(purge), form_of(purge, name="Mine")).status_code == 403
    purge.refresh_from_db()
    assert sent == [] and purge.enabled and purge.name == "Purge the trash"


def test_tasks_are_switched_off_and_on(client: Client, purge: PeriodicTask) -> None:
    for action, enabled in (("disable", False), ("enable", True)):
        done = client.post(TASKS, {"action": action, "_selected_action": [purge.pk]}, follow=True)
        assert "1 task was switched" in done.content.decode()
        purge.refresh_from_db()
        assert purge.enabled is enabled


def test_only_what_is_made_for_the_clock_can_be_scheduled(client: Client, purge: PeriodicTask) -> None:
    """Promise 40. A schedule is no way to have any task run with anything."""
    for task in ("uploads.tasks.process_upload", "celery.backend_cleanup", "os.system"):
        answer = client.post(page_of(purge), form_of(purge, task=task))
        assert "Select a valid choice" in answer.content.decode()
    forged = form_of(purge, args='["x"]', kwargs='{"a": 1}', queue="q", headers='{"a": 1}', total_run_count=99)
    assert client.post(page_of(purge), forged).status_code == 302
    purge.refresh_from_db()
    assert (purge.task, purge.args, purge.kwargs, purge.queue, purge.total_run_count) == (PURGE, "[]", "{}", None, 0)


@pytest.mark.parametrize("both", [True, False])
def test_a_task_has_an_interval_or_times_and_not_both(client: Client, purge: PeriodicTask, both: bool) -> None:
    crontab = CrontabSchedule.objects.create(minute="5")
    chosen = {"interval": purge.interval_id, "crontab": crontab.pk} if both else {"interval": "", "crontab": ""}
    answer = client.post(page_of(purge), form_of(purge, **chosen)).content.decode()
    assert answer.count("Choose either an interval or times of day.") == 1
    assert "must be set" not in answer
    client.post(page_of(purge), form_of(purge, interval="", crontab=crontab.pk))
    purge.refresh_from_db()
    assert (purge.interval, purge.crontab) == (None, crontab)


def test_the_name_of_a_task_is_its_own(client: Client, purge: PeriodicTask) -> None:
    answer = client.post(page_of(purge), form_of(purge, name="Expire files"))
    assert "already exists" in answer.content.decode()


def test_an_interval_that_would_outlast_the_calendar_is_refused(client: Client) -> None:
    add = "/admin/django_celery_beat/intervalschedule/add/"
    answer = client.post(add, {"every": 10**8, "period": "hours"})
    assert "at most a year" in answer.content.decode()
    assert client.post(add, {"every": 36, "period": "hours"}).status_code == 302
    assert IntervalSchedule.objects.filter(every=36).exists()


@pytest.mark.parametrize(
    ("every", "period", "words"),
    [(3600, "seconds", "every hour"), (90, "minutes", "every 90 minutes"), (48, "hours", "every 2 days")],
)
def test_an_interval_is_written_the_way_people_say_it(client: Client, every: int, period: str, words: str) -> None:
    IntervalSchedule.objects.create(every=every, period=period)
    assert words in client.get("/admin/django_celery_beat/intervalschedule/").content.decode()


def test_the_next_run_is_told_and_a_schedule_beyond_time_breaks_nothing(client: Client, purge: PeriodicTask) -> None:
    from audiotricks.admin.schedule import next_run_of

    now = timezone.now()
    purge.last_run_at = now - timedelta(minutes=20)
    due = next_run_of(purge)
    assert due is not None and abs(due - (now + timedelta(minutes=40))) < timedelta(seconds=5)
    purge.last_run_at = now - timedelta(hours=2)
    overdue = next_run_of(purge)
    assert overdue is not None and abs(overdue - now) < timedelta(seconds=5)
    purge.enabled = False
    assert next_run_of(purge) is None
    forever = IntervalSchedule.objects.create(every=2**31 - 1, period="days")
    PeriodicTask.objects.filter(pk=purge.pk).update(interval=forever)
    assert client.get(TASKS).status_code == 200


def test_runs_are_found_by_task_and_by_outcome(client: Client) -> None:
    done = run_of(PURGE, succeeded=True)
    failed = run_of(PURGE, succeeded=False, error="x")
    open_run = run_of("uploads.tasks.expire_uploads", finished_at=None)

    def found(**query: str) -> list[TaskRun]:
        return list(client.get("/admin/audiotricks/taskrun/", query).context["cl"].result_list)

    assert found(task=PURGE) == [failed, done]
    assert (found(outcome="done"), found(outcome="failed"), found(outcome="open")) == ([done], [failed], [open_run])
    assert client.post(f"/admin/audiotricks/taskrun/{done.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_worker_is_alive_as_long_as_it_was_seen_lately(client: Client, settings: Any) -> None:
    silent = timezone.now() - timedelta(seconds=settings.WORKER_SEEN_SECONDS + 5)
    WorkerHeartbeat.objects.create(name="silent", seen_at=silent)
    WorkerHeartbeat.objects.create(name="lively", seen_at=timezone.now())
    rows = client.get("/admin/audiotricks/workerheartbeat/").context["cl"].result_list
    assert {row.name: row.alive for row in rows} == {"silent": False, "lively": True}


def test_what_was_answered_to_somebody_is_not_shown(client: Client) -> None:
    key = IdempotencyKey.objects.create(
        user=UserFactory(),
        key="abc-123",
        method="POST",
        path="/api/v1/uploads/",
        state="done",
        response_status=201,
        response_body={"secret": "only for them"},
        claimed_at=timezone.now(),
        expires_at=timezone.now(),
    )
    assert list(client.get("/admin/audiotricks/idempotencykey/", {"q": "abc-123"}).context["cl"].result_list) == [key]
    page = client.get(f"/admin/audiotricks/idempotencykey/{key.pk}/change/").content.decode()
    assert "abc-123" in page and "only for them" not in page


def test_an_encryption_key_is_changed_only_while_nothing_was_written_with_it(client: Client) -> None:
    key = EncryptionKey.objects.create(provider="aws-kms", key_reference="first")
    page = f"/admin/audiotricks/encryptionkey/{key.pk}/change/"
    assert client.post(page, {"provider": "aws-kms", "key_reference": "second"}).status_code == 302
    store_upload(WorkspaceFactory(), encryption_key=key)
    assert client.get(page).status_code == 200
    assert client.post(page, {"provider": "aws-kms", "key_reference": "third"}).status_code == 403
    assert client.post(page.replace("change", "delete"), {"post": "yes"}).status_code == 403
    key.refresh_from_db()
    assert key.key_reference == "second"


def test_the_sidebar_holds_what_one_may_look_at(client: Client) -> None:
    everything = client.get("/admin/").context["sidebar_navigation"]
    assert [group["title"] for group in everything] == ["Files", "Workspaces", "People", "Operation", ""]
    few = staff_with("view_taskrun", "view_workspace").get("/admin/").context["sidebar_navigation"]
    titles = [(group["title"], [item["title"] for item in group["items"]]) for group in few]
    assert titles == [
        ("Workspaces", ["Workspaces"]),
        ("Operation", ["Task runs"]),
        ("", ["Back to the pages"]),
    ]


def figures_of(client: Client) -> dict[str, tuple[str, bool]]:
    return {figure.title: (figure.value, figure.alarming) for figure in client.get("/admin/").context["figures"]}


def test_the_first_page_tells_what_somebody_should_look_at(client: Client) -> None:
    calm = figures_of(client)
    assert calm["Files that failed"] == ("0", False)
    assert calm["Workers alive"] == ("0", True)
    workspace = WorkspaceFactory()
    many_uploads(workspace, 3, status=Status.FAILED)
    many_uploads(workspace, 2, legal_hold=True)
    many_uploads(workspace, 4, status=Status.UPLOADED)
    WorkerHeartbeat.objects.create(name="lively", seen_at=timezone.now())
    run_of(PURGE, succeeded=False)
    told = figures_of(client)
    assert told["Files that failed"] == ("3", True)
    assert told["Files on hold"] == ("2", False)
    assert told["Files being worked on"] == ("4", False)
    assert told["Workers alive"] == ("1", False)
    assert told["Task runs that failed"] == ("1", True)
    assert told["Free disk space"][0].endswith("B")


def test_each_figure_leads_to_the_rows_that_it_counted(client: Client) -> None:
    workspace = WorkspaceFactory()
    many_uploads(workspace, 3, status=Status.FAILED)
    many_uploads(workspace, 2, legal_hold=True)
    many_uploads(workspace, 1)
    for figure in client.get("/admin/").context["figures"]:
        if figure.link:
            assert len(client.get(figure.link).context["cl"].result_list) == int(figure.value), figure.title


def test_the_first_page_opens_when_the_storage_is_what_is_broken(client: Client, settings: Any) -> None:
    local = {**settings.STORAGES["local"], "BACKEND": f"{__name__}.BrokenDisk"}
    settings.STORAGES = {**settings.STORAGES, "local": local}
    assert figures_of(client)["Free disk space"] == ("unknown", True)


class BrokenDisk(LocalStorage):
    def space(self) -> Any:
        raise OSError("away")


def test_nothing_is_asked_of_another_host(client: Client) -> None:
    """The page's own policy would refuse it, and the page would stand there without its icons."""
    answer = client.get("/admin/")
    assert "default-src 'self'" in answer["Content-Security-Policy"]
    text = answer.content.decode()
    assert 'src="//' not in text and 'src="http' not in text and '<link href="http' not in text
    assert "/static/unfold/fonts/material-symbols/styles.css" in text and "/static/audiotricks/admin.css" in text

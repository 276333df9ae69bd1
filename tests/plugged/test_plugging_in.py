"""An app in INSTALLED_APPS adds one of each to the others, which know nothing of it."""

import sys
from collections.abc import Callable, Iterator
from importlib import import_module, reload
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.contrib import admin
from django.contrib.admin import sites
from django.contrib.contenttypes.models import ContentType
from django.core import checks
from django.core.checks.registry import registry
from django.test import Client, override_settings
from django.urls import clear_url_caches
from django_celery_beat.models import PeriodicTask

from audiotricks.celery import app as celery_app
from audiotricks.models import SeededTask, TaskRun
from audiotricks.plug import declared, in_order
from audiotricks.running.schedules import seed_periodic_tasks
from quotas.models import Workspace
from tests.factories import StorageQuotaFactory, UserFactory, WorkspaceFactory
from tests.uploads.life import arrive, steps
from uploads.api.views import UploadViewSet
from uploads.lifecycle.events import record_event
from uploads.models import AudioUpload, BulkAction, UploadEvent
from uploads.tasks import process_upload

pytestmark = pytest.mark.django_db(transaction=True)


def load_urls_again() -> None:
    """A new process reads them once, after all apps are there."""
    for urls in declared(lambda app: (*app.api_urls, *app.page_urls)):
        reload(import_module(urls))
    reload(import_module("audiotricks.urls"))
    clear_url_caches()


@pytest.fixture(scope="module", autouse=True)
def plugged() -> Iterator[None]:
    site = admin.site
    with override_settings(INSTALLED_APPS=[*django_settings.INSTALLED_APPS, "tests.plugged"]):
        # Unfold makes another site each time that apps are loaded, and only ours is registered with that.
        for model, model_admin in admin.site._registry.items():
            site.register(model, type(model_admin))
        admin.site = sites.site = site
        load_urls_again()
        yield
    site.unregister(ContentType)
    registry.registered_checks.remove(sys.modules["tests.plugged.checks"].check_plug)
    del UploadViewSet.applaud
    for name in ("admin", "checks"):
        del sys.modules[f"tests.plugged.{name}"]
    load_urls_again()


@pytest.fixture
def workspace() -> Workspace:
    return StorageQuotaFactory(workspace=WorkspaceFactory()).workspace


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(UserFactory(username="root", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def processed(workspace: Workspace) -> AudioUpload:
    upload = arrive(workspace)
    process_upload(str(upload.pk))
    upload.refresh_from_db()
    return upload


def page_of(client: Client, upload: AudioUpload) -> str:
    return client.get(f"/files/{upload.pk}/").content.decode()


def messages_of(tag: str) -> list[checks.CheckMessage]:
    return [message for message in checks.run_checks() if message.id == tag]


def test_a_processing_step_runs_behind_the_one_that_it_names(client: Client, processed: AudioUpload) -> None:
    assert processed.status == "completed" and processed.metadata["heard"] is True
    assert steps(processed)[:2] == ["uploads.processing.validation.validate", "tests.plugged.work.listen"]
    assert "Somebody listened." in page_of(client, processed)


def test_a_follow_up_task_is_sent_for_a_completed_file(processed: AudioUpload) -> None:
    sent = []
    with celery_app.connection_for_read() as broker:
        while message := broker.default_channel.basic_get("celery", no_ack=True):
            sent.append((message.headers["task"], message.headers["argsrepr"]))
    assert sent[-1] == ("plugged.follow_up", f"['{processed.pk}']")


def test_a_periodic_task_is_in_the_schedule_and_its_runs_are_kept(client: Client) -> None:
    SeededTask.objects.all().delete()
    assert "Wind the clock" in seed_periodic_tasks()
    task = PeriodicTask.objects.get(name="Wind the clock")
    assert (task.task, task.interval.every) == ("plugged.wind", 18_000)
    celery_app.tasks["plugged.wind"].apply()
    assert TaskRun.objects.get(task="plugged.wind").result == {"turns": 7}
    assert "Wind the clock" in client.get("/admin/audiotricks/taskrun/").content.decode()


def test_a_health_check_is_asked(client: Client) -> None:
    answer = client.get("/health").json()
    assert answer["checks"]["plug"] == {"ok": False, "detail": "The plug is out."}


def test_a_figure_and_a_table_are_in_the_administration(client: Client) -> None:
    index = client.get("/admin/")
    assert ("Plugs", "230") in [(figure.title, figure.value) for figure in index.context["figures"]]
    page = index.content.decode()
    assert "Plugged in" in page and 'href="/admin/contenttypes/contenttype/"' in page


def test_an_event_has_its_sentence(client: Client, workspace: Workspace) -> None:
    upload = arrive(workspace)
    record_event(upload, "plugged")
    record_event(upload, "plugged", actor=UserFactory(username="ada"))
    page = page_of(client, upload)
    assert "The plug was pulled." in page and "ada pulled the plug." in page


def test_a_panel_is_on_the_page_of_a_file(client: Client, workspace: Workspace) -> None:
    page = page_of(client, arrive(workspace, filename="talk.wav"))
    assert page.index("Facts</h2>") < page.index("<h2>A plug for talk.wav</h2>") < page.index("Rename</h2>")


def test_a_file_action_is_on_pages_in_the_api_and_in_the_administration(client: Client, workspace: Workspace) -> None:
    upload = arrive(workspace)
    assert "Applaud ticked files" in client.get("/").content.decode()
    assert f'action="/files/{upload.pk}/applaud/"' in page_of(client, upload)
    client.post(f"/files/{upload.pk}/applaud/")
    client.post("/selected/", {"action": "applaud", "file": str(upload.pk)})
    assert client.post(f"/api/v1/uploads/{upload.pk}/applaud/").json()["id"] == str(upload.pk)
    admin_list = "/admin/uploads/audioupload/"
    chosen = {"action": "applaud", "_selected_action": str(upload.pk)}
    assert "Clap hands" in client.get(f"{admin_list}{upload.pk}/change/").content.decode()
    asked = client.post(admin_list, chosen)
    assert "Clap for 1 file?" in asked.content.decode()
    client.post(admin_list, {**chosen, "confirmed": asked.context["expected"].mark})
    bulk = BulkAction.objects.get()
    assert (bulk.action, bulk.done, str(bulk)) == ("applaud", 1, "Clap hands")
    assert UploadEvent.objects.filter(upload_id=upload.pk, action="plugged").count() == 4


@pytest.mark.parametrize("address", ["/api/v1/plugged/", "/plugged/"])
def test_urls_are_served(client: Client, address: str) -> None:
    assert client.get(address).content == b"plugged in"


def test_a_system_check_is_run() -> None:
    assert messages_of("plugged.W001") and not messages_of("audiotricks.E005") and not messages_of("audiotricks.E006")


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("health_checks", {"disk": None}),
        ("periodic_tasks", {"Purge the trash": ("plugged.wind", None)}),
        ("event_sentences", {"deleted": ("", "")}),
        ("sidebar", {"quotas.workspace": ("Plugged in", "power")}),
    ],
)
def test_two_apps_that_declare_the_same_name_are_an_error(
    monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any
) -> None:
    monkeypatch.setattr(apps.get_app_config("plugged"), attribute, value)
    (message,) = messages_of("audiotricks.E005")
    (name,) = value
    assert f"plugged both declare {name!r}" in message.msg


def test_two_actions_of_the_same_name_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("tests.plugged.actions").APPLAUD, "name", "delete", raising=False)
    (message,) = messages_of("audiotricks.E005")
    assert "plugged both declare 'delete'" in message.msg


def test_two_apps_that_name_their_addresses_alike_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("tests.plugged.page_urls").urlpatterns[0], "name", "files")
    (message,) = messages_of("audiotricks.E005")
    assert "plugged both declare 'files'" in message.msg


def test_a_step_behind_one_that_nobody_declares_is_an_error(declare: Callable[..., None]) -> None:
    declare(file_panels={"a.b": "c.d"})
    (message,) = messages_of("audiotricks.E006")
    assert "c.d" in message.msg


def test_what_names_another_follows_it_directly_and_in_the_order_of_the_apps() -> None:
    declarations = [("first", ""), ("second", ""), ("x", "first"), ("y", "x"), ("z", "first")]
    assert in_order(declarations) == ["first", "x", "y", "z", "second"]

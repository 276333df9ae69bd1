import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.core.cache import cache
from django.test import Client, override_settings
from rest_framework.test import APIClient
from structlog.stdlib import ProcessorFormatter

from audiotricks.running import logs
from tests.factories import UserFactory


@pytest.fixture(scope="module", autouse=True)
def addresses(request: pytest.FixtureRequest) -> Iterator[None]:
    """Those of ``site.py``, or of ADDRESSES in the module. Not for each test: Django would compile them all again."""
    with override_settings(ROOT_URLCONF=getattr(request.module, "ADDRESSES", "tests.audiotricks.site")):
        yield


@pytest.fixture(autouse=True)
def site(settings: Any, tmp_path: Path) -> None:
    """No collected static files, throttles that start from nothing."""
    settings.STATIC_ROOT = tmp_path
    cache.clear()


@pytest.fixture
def user(db: None) -> Any:
    return UserFactory()


@pytest.fixture
def api(user: Any) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


@pytest.fixture
def visitor() -> Client:
    """Nobody; an exception that no handler takes becomes a 500, as in production."""
    return Client(raise_request_exception=False)


@pytest.fixture
def log_in_format() -> Iterator[Callable[[str], io.StringIO]]:
    """Set logging up in a format, and hand out what is written."""
    root = logging.getLogger()
    # pytest puts handlers of its own beside ours, others for each phase of a test.
    before = [handler for handler in root.handlers if isinstance(handler.formatter, ProcessorFormatter)]

    def set_up(format: str) -> io.StringIO:
        written = io.StringIO()
        structlog.contextvars.clear_contextvars()
        logs.configure({"level": "INFO", "format": format})
        (handler,) = root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(written)
        return written

    yield set_up
    for handler in [handler for handler in root.handlers if isinstance(handler.formatter, ProcessorFormatter)]:
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)

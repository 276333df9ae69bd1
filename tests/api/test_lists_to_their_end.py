"""Every list, paged to its end, shows each row once, whatever the page size and on either database."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from tests.api.paging import fill, lists, names_with_cursor, page_through_everything
from tests.prepared import migrated_sqlite
from tests.running.programs import ROOT, environment

ON_SQLITE = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection
assert connection.vendor == "sqlite"
from tests.api.paging import begin_sessions, fill, page_through_everything, write_times, write_times_of_before
user = fill()
write_times_of_before()
call_command("migrate", "uploads", "0012", verbosity=0)
call_command("migrate", verbosity=0)
# Older versions have none without a file.
begin_sessions(user)
page_through_everything(user)
from audiotricks.clock import Now
from uploads.models import AudioUpload
write_times(AudioUpload.objects.all(), Now())
page_through_everything(user)
print("done")
"""


@pytest.mark.django_db
def test_on_postgresql() -> None:
    """Promise 65."""
    page_through_everything(fill())


def test_on_sqlite_also_with_rows_that_an_older_version_wrote(tmp_path: Path) -> None:
    """Promise 65. SQLite compares times as text: all of them are written in one form."""
    done = subprocess.run(
        [sys.executable, "-c", ON_SQLITE],
        cwd=ROOT,
        env=environment(
            DJANGO_SETTINGS_MODULE="audiotricks.settings",
            VAR_DIR=migrated_sqlite(tmp_path),
            CELERY_BROKER_URL="memory://",
            ALLOWED_HOSTS="testserver",
        ),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]


@pytest.mark.django_db
def test_no_list_is_left_out() -> None:
    """A new list with a cursor needs its line in tests/api/paging.py."""
    known = {re.sub(r"[0-9a-f-]{36}", "{pk}", address.split("?")[0]) for address in lists(fill())}
    assert {re.sub(r"\{\w+\}", "{pk}", path) for path in names_with_cursor()} == known


def test_times_that_rows_get_are_written_by_our_own_now() -> None:
    """Django's Now() writes another form on SQLite than Python's times have."""
    sources = [path for app in ("audiotricks", "quotas", "uploads") for path in (settings.BASE_DIR / app).rglob("*.py")]
    others = [
        str(path)
        for path in sources
        if "migrations" not in path.parts
        and re.search(r"from django\.db\.models\.functions import .*\bNow\b", path.read_text())
    ]
    assert others == []

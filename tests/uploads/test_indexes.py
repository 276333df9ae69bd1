"""The indexes of files: SQLite finds with them what lists and sweeps ask for, and a lease is renewed beside them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.utils import ConnectionHandler
from django.utils import timezone

from quotas.models import Workspace
from tests.api.rows import many_uploads
from tests.factories import WorkspaceFactory
from tests.prepared import migrated_sqlite
from uploads.lifecycle.work import lease_of
from uploads.models import AudioUpload, AudioUploadQuerySet, Status
from uploads.models.states import IN_WORK

pytestmark = pytest.mark.django_db

Asked = Callable[[AudioUploadQuerySet, Workspace], Any]
#: What is asked of SQLite, and the index that answers: the order of a list comes out of it too.
ASKED: dict[str, tuple[Asked, str]] = {
    "a list": (lambda files, workspace: files.listed().filter(workspace=workspace), "listed"),
    "all files": (lambda files, workspace: files.listed(), "all"),
    "a list by name": (
        lambda files, workspace: files.listed().filter(workspace=workspace).order_by("original_filename", "id"),
        "by_name",
    ),
    "a list by size": (
        lambda files, workspace: files.listed().filter(workspace=workspace).order_by("-file_size", "-id"),
        "by_size",
    ),
    "a list by state": (
        lambda files, workspace: files.filter(workspace=workspace, status=Status.FAILED),
        "by_status",
    ),
    "all files by state": (lambda files, workspace: files.filter(status=Status.COMPLETED), "in_state"),
    "the trash": (
        lambda files, workspace: files.in_trash().filter(workspace=workspace).order_by("-deleted_at", "-id"),
        "trash_of",
    ),
    "duplicates": (lambda files, workspace: files.filter(duplicate_of__isnull=False), "duplicates"),
    "files on hold": (lambda files, workspace: files.filter(legal_hold=True), "held"),
}
#: The same, where the order is of no importance.
FOUND: dict[str, tuple[Asked, str]] = {
    "work of a dead worker": (
        lambda files, workspace: files.filter(status__in=IN_WORK, claimable_at__lt=timezone.now()),
        "in_state",
    ),
    "the same content": (
        lambda files, workspace: files.filter(workspace=workspace, checksum_sha256="0" * 64),
        "by_sha256",
    ),
    "a file by MD5": (lambda files, workspace: files.filter(checksum_md5="0" * 32), "by_md5"),
}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    name = Path(migrated_sqlite(tmp_path_factory.mktemp("indexes"))) / "audiotricks.sqlite3"
    yield ConnectionHandler({"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(name)}})["default"]


def plan_of(rows: Any, sqlite: Any) -> list[str]:
    statement, values = rows.query.get_compiler(connection=sqlite).as_sql()
    with sqlite.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        plan = [row[3] for row in cursor.fetchall()]
    sqlite.close()
    return plan


@pytest.mark.parametrize("what", ASKED)
def test_sqlite_takes_lists_from_an_index(what: str, sqlite: Any) -> None:
    asked, index = ASKED[what]
    (plan,) = plan_of(asked(AudioUpload.objects.all(), Workspace())[:50], sqlite)
    assert f"audio_uploads_{index}" in plan.split()


@pytest.mark.parametrize("what", FOUND)
def test_sqlite_finds_rows_by_an_index(what: str, sqlite: Any) -> None:
    asked, index = FOUND[what]
    plan = plan_of(asked(AudioUpload.objects.all(), Workspace()), sqlite)
    assert f"audio_uploads_{index}" in plan[0].split()


def test_a_renewal_of_a_lease_writes_into_no_index() -> None:
    (upload,) = many_uploads(WorkspaceFactory(), 1, status=Status.VALIDATING)
    before = hot_updates()
    assert lease_of(upload).extend()
    assert hot_updates() == before + 1


def hot_updates() -> int:
    """Of this transaction: those that left the indexes alone."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_get_xact_tuples_hot_updated('audio_uploads'::regclass)")
        return int(cursor.fetchone()[0])

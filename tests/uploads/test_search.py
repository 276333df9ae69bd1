"""Names are found however they are written: on both databases, over API, pages and administration."""

import json
import unicodedata
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from quotas.models import Workspace
from tests.factories import UserFactory, WorkspaceFactory
from tests.prepared import ran_on_sqlite
from tests.uploads.life import row
from uploads.models import AudioUpload, Status

FOUND = [
    ("Müller.mp3", unicodedata.normalize("NFD", "müLLER")),
    ("Müller.mp3", "MÜLLER"),
    ("ÉTUDE.mp3", "étude"),
    ("Straße.mp3", "STRASSE"),
    ("ΟΔΥΣΣΕΥΣ.mp3", "οδυσσευς"),
    ("Ёлка.mp3", "ёлка"),
    ("カタカナ.mp3", "ｶﾀｶﾅ"),
    ("ガギグ.mp3", unicodedata.normalize("NFD", "ガギグ")),
    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647.mp3", "\u0645\u06cc\u062e\u0648\u0627\u0647"),
    ("\U0001f468\u200d\U0001f469.mp3", "\U0001f468\u200d\U0001f469"),
    ("Übung.mp3", "ü"),
]


@pytest.fixture
def workspace(db: None) -> Workspace:
    return WorkspaceFactory()


@pytest.mark.parametrize(("name", "term"), FOUND)
def test_a_name_is_found_however_it_is_written(workspace: Workspace, name: str, term: str) -> None:
    row(workspace, Status.COMPLETED, original_filename=name)
    row(workspace, Status.COMPLETED, original_filename="other.wav")
    assert [upload.original_filename for upload in AudioUpload.objects.named(term)] == [name]


def test_a_renamed_file_is_found_by_its_new_name_only(workspace: Workspace) -> None:
    upload = row(workspace, Status.COMPLETED, original_filename="before.wav")
    AudioUpload.objects.filter(pk=upload.pk).update(original_filename="Größer.wav")
    assert AudioUpload.objects.named("GRÖSSER").get() == upload
    assert not AudioUpload.objects.named("before").exists()


def test_api_pages_and_administration_search_alike(workspace: Workspace) -> None:
    staff = UserFactory(is_staff=True, is_superuser=True)
    row(workspace, Status.COMPLETED, original_filename="Müller.mp3")
    row(workspace, Status.COMPLETED, original_filename="other.wav")
    term = unicodedata.normalize("NFD", "MÜLLER")
    api, pages = APIClient(), Client()
    api.force_authenticate(staff)
    pages.force_login(staff)
    found = api.get("/api/v1/uploads/", {"q": term}).json()["results"]
    assert [upload["original_filename"] for upload in found] == ["Müller.mp3"]
    assert "folded_filename" not in found[0]
    listed = [upload.original_filename for upload in pages.get("/", {"q": term}).context["uploads"]]
    assert listed == ["Müller.mp3"]
    changelist = pages.get("/admin/uploads/audioupload/", {"q": term}).context["cl"]
    assert [upload.original_filename for upload in changelist.result_list] == ["Müller.mp3"]


def test_the_search_of_postgresql_uses_its_index(workspace: Workspace) -> None:
    row(workspace, Status.COMPLETED, original_filename="Müller.mp3")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_indexscan = off")
    assert "audio_uploads_name_trigrams" in AudioUpload.objects.named("müller").order_by().explain()


LARGE = {"tags": {"title": "Title", "comment": ["x" * 50_000 for _ in range(10)], "artist": ["A", "B"]}, "source": "us"}


@pytest.mark.django_db(transaction=True)
def test_rows_of_the_version_before_are_searchable_and_bounded() -> None:
    """Promise 62. Names are folded and tags shortened; back and forth again nothing breaks."""
    workspace = WorkspaceFactory()
    call_command("migrate", "uploads", "0006", verbosity=0)
    insert_row(workspace, "Müller.mp3", LARGE)
    for number in range(3):
        insert_row(workspace, f"{number}.mp3", {"tags": {"title": "x"}})
    call_command("migrate", "uploads", verbosity=0)
    check_migrated()
    call_command("migrate", "uploads", "0006", verbosity=0)
    call_command("migrate", "uploads", verbosity=0)
    check_migrated()


def insert_row(workspace: Workspace, name: str, metadata: dict[str, Any]) -> None:
    """As the version before wrote it, whose columns are fewer."""
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "audio_uploads")]
        values = {
            "id": uuid.uuid4() if connection.vendor == "postgresql" else uuid.uuid4().hex,
            "workspace_id": workspace.pk if connection.vendor == "postgresql" else workspace.pk.hex,
            "original_filename": name, "file_size": 1, "retry_count": 0, "max_retries": 3, "legal_hold": False,
            "metadata": json.dumps(metadata), "status": "completed", "created_at": "2024-01-01 00:00:00+00",
            "uploaded_at": "2024-01-01 00:00:00+00", "claimable_at": "2024-01-01 00:00:00+00", "storage_provider": "x",
            "storage_path": f"audio/{name}",
        }  # fmt: skip
        empty = ("file_type", "mime_type", "codec", "storage_url", "storage_region", "storage_class",
                 "thumbnail_path", "checksum_md5", "checksum_sha256", "compression_type", "error_code",
                 "error_message")  # fmt: skip
        values |= dict.fromkeys(empty, "")
        names = [column for column in columns if column in values]
        places = ", ".join(["%s"] * len(names))
        statement = f"INSERT INTO audio_uploads ({', '.join(names)}) VALUES ({places})"
        cursor.execute(statement, [values[column] for column in names])


def check_migrated() -> None:
    upload = AudioUpload.objects.named("MÜLLER").get()
    assert upload.metadata["tags"]["title"] == "Title"
    assert upload.metadata["tags"]["artist"] == ["A", "B"]
    assert (upload.metadata["source"], upload.metadata["tags_cut"]) == ("us", True)
    assert len(json.dumps(upload.metadata)) <= 64 * 1024
    assert AudioUpload.objects.named("1.MP3").get().metadata == {"tags": {"title": "x"}}


ON_SQLITE = """
import django
django.setup()
from django.core.management import call_command
from django.db import connection
assert connection.vendor == "sqlite"
from tests.factories import WorkspaceFactory
from tests.uploads import test_search
from tests.uploads.life import row
from uploads.models import AudioUpload, Status
workspace = WorkspaceFactory()
for name, _ in test_search.FOUND:
    if not AudioUpload.objects.filter(original_filename=name).exists():
        row(workspace, Status.COMPLETED, original_filename=name)
for name, term in test_search.FOUND:
    found = [upload.original_filename for upload in AudioUpload.objects.named(term)]
    assert name in found and len(found) <= 2, (term, found)
AudioUpload.objects.all().delete()
call_command("migrate", "uploads", "0006", verbosity=0)
test_search.insert_row(workspace, "Müller.mp3", test_search.LARGE)
test_search.insert_row(workspace, "1.mp3", {"tags": {"title": "x"}})
call_command("migrate", verbosity=0)
test_search.check_migrated()
print("done")
"""


def test_sqlite_finds_and_migrates_the_same(tmp_path: Path) -> None:
    ran_on_sqlite(ON_SQLITE, tmp_path)

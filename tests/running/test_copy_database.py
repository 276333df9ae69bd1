"""A vault that began on SQLite goes on with PostgreSQL, and back again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.prepared import migrated_sqlite, new_postgres_database
from tests.running.programs import ROOT, environment
from tests.servers import unique_name

FILL = """
import django
django.setup()
from django.core.management import call_command
call_command("seed_demo", verbosity=0)
from django.contrib.auth.models import Permission, User
from audiotricks.models import EncryptionKey
from accounts.tokens import create_token
from uploads.lifecycle.trash import delete_upload
from uploads.models import AudioUpload, Vault
from uploads.processing.runner import process_upload
for upload in AudioUpload.objects.filter(status="uploaded"):
    process_upload(str(upload.pk))
person = User.objects.first()
person.user_permissions.add(Permission.objects.get(codename="change_heldremoval"))
create_token(person, name="mine", expires_in=None)
delete_upload(AudioUpload.objects.filter(status="completed").first(), actor=person, reason="Übung")
print(Vault.objects.get().pk, AudioUpload.objects.count())
"""

COPY = """
import sys
import django
django.setup()
from django.core.management import CommandError, call_command
from django.db import connection
assert connection.vendor == "postgresql"
source = sys.argv[1]
try:
    call_command("copy_database", source=source)
except CommandError as error:
    assert "same version" in str(error), error
else:
    raise AssertionError("it copied into a database without tables")
call_command("migrate", verbosity=0)
call_command("copy_database", source=source, verbosity=0)
call_command("check_storage", deep=True)
try:
    call_command("copy_database", source=source)
except CommandError as error:
    assert "not empty" in str(error), error
else:
    raise AssertionError("it copied twice")
from django.contrib.auth.models import Permission, User
from accounts.models import ApiToken
from uploads.actions.bulk import start
from uploads.models import AudioUpload, UploadEvent, Vault
from uploads.lifecycle.trash import undelete_upload
assert User.objects.get(user_permissions__codename="change_heldremoval") == User.objects.order_by("pk").first()
assert ApiToken.objects.filter(name="mine").exists()
upload = AudioUpload.objects.filter(status="deleted").order_by("deleted_at").last()
newest = UploadEvent.objects.order_by("-pk").first()
assert newest.reason == "Übung"
undelete_upload(upload, actor=None)
assert UploadEvent.objects.order_by("-pk").first().pk == newest.pk + 1
print(Vault.objects.get().pk, AudioUpload.objects.count())
"""


BACK = """
import sys
import django
django.setup()
from django.core.management import call_command
from django.db import connection
assert connection.vendor == "sqlite"
call_command("copy_database", source=sys.argv[1], verbosity=0)
call_command("check_storage", deep=True)
from accounts.models import ApiToken
from uploads.lifecycle.trash import delete_upload
from uploads.models import AudioUpload, UploadEvent, Vault
from uploads.objects.orphans import sweep_orphaned_objects
assert ApiToken.objects.filter(name="mine").exists()
assert UploadEvent.objects.filter(reason="Übung").exists()
newest = UploadEvent.objects.order_by("-pk").first()
delete_upload(AudioUpload.objects.filter(status="completed").first(), actor=None)
assert UploadEvent.objects.order_by("-pk").first().pk == newest.pk + 1
assert sweep_orphaned_objects()["noted"] == 0
print(Vault.objects.get().pk, AudioUpload.objects.count())
"""


def run(program: str, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment(DJANGO_SETTINGS_MODULE="audiotricks.settings", CELERY_BROKER_URL="memory://", **env),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def fresh_postgres() -> str:
    """The address of an empty database on the server of the tests."""
    return new_postgres_database(unique_name("copied"))


def test_a_vault_on_sqlite_goes_on_with_postgresql(tmp_path: Path, fresh_postgres: str) -> None:
    """Promise 54. Every row, the keys and the id of the vault come along, and the storage is well.

    So they do on the way back to SQLite.
    """
    var, again = migrated_sqlite(tmp_path / "var"), migrated_sqlite(tmp_path / "again")
    # A name with a blank needs quoting in its address.
    database = Path(var, "audiotricks.sqlite3").rename(Path(var, "audio tricks.sqlite3"))
    source = f"sqlite:///{database}"
    filled = run(FILL, VAR_DIR=var, DATABASE_URL=source)
    copied = run(COPY, source, VAR_DIR=var, DATABASE_URL=fresh_postgres)
    assert "All is well." in copied
    assert copied.splitlines()[-1] == filled.splitlines()[-1]
    back = run(BACK, fresh_postgres, VAR_DIR=var, DATABASE_URL=f"sqlite:///{again}/audiotricks.sqlite3")
    assert "All is well." in back
    assert back.splitlines()[-1] == filled.splitlines()[-1]

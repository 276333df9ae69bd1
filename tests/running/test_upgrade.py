"""A filled vault of the version before goes through all migrations since, back, and through them again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.running.programs import ROOT, environment
from tests.running.test_copy_database import fresh_postgres

__all__ = ["fresh_postgres"]

UPGRADE = """
import io
import json
import uuid
from datetime import timedelta
from urllib.request import urlopen
import django
django.setup()
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models.functions import Now
from django.test import Client
from django.utils import timezone
from knox.crypto import hash_token
from audiotricks.tasks import forget_expired
from objectstore.hashing import digest_of
from uploads.objects.marks import adopt, look_at_marks
from uploads.models import AudioUpload, StorageMark, StoredObject, UploadSession
from objectstore import audio_storages, default_alias, get_storage

BEFORE = [("audiotricks", "0003_words"), ("quotas", "0002_words"), ("uploads", "0005_upload_sessions")]
executor = MigrationExecutor(connection)
ours = {app for app, _ in BEFORE}
executor.migrate([*BEFORE, *(leaf for leaf in executor.loader.graph.leaf_nodes() if leaf[0] not in ours)])
old = MigrationExecutor(connection).loader.project_state(BEFORE).apps


def table(app, name):
    return old.get_model(app, name).objects


owner = table("auth", "User").create(username="owner", password="!")
table("auth", "User").create(username="staff", password="!", is_staff=True)
workspace = table("quotas", "Workspace").create(name="Vault", slug="vault")
table("quotas", "Membership").create(workspace=workspace, user_id=owner.pk, role="owner")
content = bytes(range(256)) * 8
digests = digest_of([content])
LONG_AGO = timezone.now() - timedelta(hours=5)
states = ("completed", "completed", "failed", "uploaded", "archived", "deleted", "receiving", "purged")
for number, status in enumerate(states):
    path = f"{number}/tone.mp3"
    if status not in ("receiving", "purged"):
        get_storage(default_alias()).save(path, ContentFile(content), content_type="audio/mpeg")
    made = table("uploads", "AudioUpload").create(
        id=uuid.uuid4(), workspace=workspace, owner_id=owner.pk, status=status,
        original_filename=f"Mu\\u0308ller {number}.mp3",
        file_size=len(content), file_type="mp3", mime_type="audio/mpeg", storage_provider=default_alias(),
        storage_path=path, checksum_sha256=digests.sha256, checksum_md5=digests.md5,
        metadata={"tags": {"title": "T", "comment": ["x" * 9000] * 12}} if number == 0 else {},
        claimable_at=timezone.now() + timedelta(days=1),
        uploaded_at=None if status == "receiving" else Now(),
        deleted_at=Now() if status in ("deleted", "purged") else None,
    )
    table("uploads", "UploadEvent").create(
        upload_id=made.pk, workspace=workspace, action="uploaded", actor_id=owner.pk, details={})
    if number == 0:
        original = made
        table("uploads", "AudioUpload").filter(pk=made.pk).update(thumbnail_path="0/tone.thumbnail.jpg")
        get_storage(default_alias()).save("0/tone.thumbnail.jpg", ContentFile(content), content_type="image/jpeg")
    if number == 1:
        # It shares the object of the first one, and its own was left behind.
        table("uploads", "AudioUpload").filter(pk=made.pk).update(storage_path="0/tone.mp3", duplicate_of=original)
        table("uploads", "OrphanedObject").create(
            storage_provider=default_alias(), storage_path=path, size=len(content), first_seen_at=LONG_AGO)
    if status == "receiving":
        receiving_session = table("uploads", "UploadSession").create(
            upload=made, kind="direct", method="parts", handle="secret", part_bytes=8,
            expires_at=timezone.now() + timedelta(hours=1)).pk
    if number == 2:
        arrived_session = table("uploads", "UploadSession").create(
            upload=made, kind="direct", method="parts", part_bytes=8,
            expires_at=timezone.now() + timedelta(hours=1)).pk
for name, expiry in (("forever", None), ("ended", timezone.now() - timedelta(days=1))):
    table("audiotricks", "ApiToken").create(
        user_id=owner.pk, name=name, token_key=name, digest=hash_token(name), expiry=expiry)
table("audiotricks", "IdempotencyKey").create(
    user_id=owner.pk, key="k", method="POST", path="/", state="done", response_status=201, response_body={},
    response_headers={}, claimed_at=timezone.now(), expires_at=timezone.now())
ids = set(table("uploads", "AudioUpload").values_list("pk", flat=True))


def check():
    assert set(AudioUpload.objects.values_list("pk", flat=True)) == ids
    assert look_at_marks() == {"held": 0, "unreadable": 0}
    assert set(StorageMark.objects.values_list("state", flat=True)) == {"ours"}
    bearer = {"Authorization": "Bearer forever"}
    client = Client()
    rows, address = [], "/api/v1/uploads/?page_size=1&q=M%C3%9CLLER"
    while address:
        page = client.get(address, headers=bearer).json()
        rows += page["results"]
        address = page["next"]
    assert sorted(row["original_filename"][-5] for row in rows) == ["0", "1", "2", "3", "4"], rows
    for row in rows:
        answer = client.get(f"/api/v1/uploads/{row['id']}/content/", headers=bearer)
        if row["status"] != "archived":
            if answer.status_code == 302:
                assert urlopen(answer["Location"]).read() == content, row["status"]
            else:
                assert b"".join(answer.streaming_content) == content, row["status"]
        assert client.get(f"/api/v1/uploads/{row['id']}/events/", headers=bearer).json()["results"]
    (first,) = [row for row in rows if row["original_filename"].endswith("0.mp3")]
    tags = client.get(f"/api/v1/uploads/{first['id']}/", headers=bearer).json()["metadata"]
    assert tags["tags"]["title"] == "T" and len(json.dumps(tags)) <= 64 * 1024
    assert client.patch(
        f"/api/v1/workspaces/{workspace.pk}/", {"name": "Vault"}, content_type="application/json", headers=bearer
    ).status_code == 200
    assert client.get("/api/v1/tokens/", headers={"Authorization": "Bearer ended"}).json()["code"] == "token_expired"
    said = io.StringIO()
    call_command("check_storage", deep=True, stdout=said)
    assert "All is well." in said.getvalue(), said.getvalue()


def check_ledger():
    for upload in AudioUpload.objects.select_related("stored_object", "thumbnail_object"):
        for field, columns in AudioUpload.OBJECT_COLUMNS.items():
            if stored := getattr(upload, field):
                assert {column: getattr(upload, column) for column in columns if column != "storage_url"} == {
                    column: getattr(stored, name) for column, name in columns.items() if column != "storage_url"}
        assert (upload.stored_object is None) == (upload.status == "purged")
        assert (upload.thumbnail_object is None) == (upload.pk != original.pk)
    assert StoredObject.objects.owned().count() == len(states) - 1
    states_of = dict(StoredObject.objects.values_list("storage_path", "state"))
    assert {name: state for name, state in states_of.items() if state != "stored"} == {
        "6/tone.mp3": "writing", "7/tone.mp3": "removing"}
    unneeded = dict(StoredObject.objects.unneeded().values_list("storage_path", "unneeded_since"))
    assert set(unneeded) == {"1/tone.mp3", "7/tone.mp3"} and unneeded["1/tone.mp3"] == LONG_AGO


def check_sessions():
    session = UploadSession.objects.get(pk=receiving_session)
    upload = session.upload
    assert (session.state, session.received_bytes, session.size_bytes) == ("open", 0, upload.file_size)
    assert (session.workspace_id, session.owner_id) == (upload.workspace_id, upload.owner_id)
    assert (session.storage_provider, session.storage_path) == (upload.storage_provider, upload.storage_path)
    arrived = UploadSession.objects.get(pk=arrived_session)
    assert (arrived.state, arrived.received_bytes, arrived.handle) == ("completed", arrived.upload.file_size, "")


call_command("migrate", verbosity=0)
check_ledger()
check_sessions()
check()
UploadSession.objects.create(
    kind="tus", state="ended", workspace_id=workspace.pk, storage_provider="local", storage_path="x", part_bytes=1,
    expires_at=timezone.now())
backward = MigrationExecutor(connection)
backward.migrate(BEFORE)
assert set(table("uploads", "AudioUpload").values_list("pk", flat=True)) == ids
assert table("audiotricks", "ApiToken").count() == 2
assert set(table("uploads", "UploadSession").values_list("pk", flat=True)) == {receiving_session, arrived_session}
(orphan,) = table("uploads", "OrphanedObject").all()
assert (orphan.storage_path, orphan.first_seen_at) == ("1/tone.mp3", LONG_AGO)
call_command("migrate", verbosity=0)
check_ledger()
check_sessions()
# The id of the vault went with its table: nothing is removed before staff say whose the storage is.
assert look_at_marks()["held"] == len(audio_storages())
for alias in audio_storages():
    adopt(alias)
check()
forget_expired()
print("done")
"""


@pytest.mark.parametrize(("database", "place"), [("sqlite", "local"), ("postgresql", "local"), ("sqlite", "s3")])
def test_a_filled_vault_of_the_version_before_goes_on(
    tmp_path: Path, request: pytest.FixtureRequest, database: str, place: str
) -> None:
    """Its storage is its own, every file is readable, and its tokens work."""
    url = f"sqlite:///{tmp_path / 'vault.sqlite3'}"
    if database == "postgresql":
        url = request.getfixturevalue("fresh_postgres")
    variables = {}
    if place != "local":
        server = request.getfixturevalue(f"{place}_server")
        variables = server.environment(server.empty_bucket())
    done = subprocess.run(
        [sys.executable, "-c", UPGRADE],
        cwd=ROOT,
        env=environment(
            DJANGO_SETTINGS_MODULE="audiotricks.settings",
            VAR_DIR=str(tmp_path),
            DATABASE_URL=url,
            CELERY_BROKER_URL="memory://",
            ALLOWED_HOSTS="testserver",
            **variables,
        ),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.stdout.strip().endswith("done"), done.stderr[-3000:]

"""A database with many uploads, as an installation would have them after years."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Of every hundred files so many failed, and so many are in the trash.
FAILED, TRASHED = 20, 5
FILE_BYTES = 10_000_000


PATH = "'audio/' || md5(%(workspace)s::text || number)::uuid || '/audio.mp3'"
OBJECT = f"(SELECT id FROM stored_objects AS o WHERE (o.storage_provider, o.storage_path) = ('local', {PATH}))"
SHA256 = "encode(sha256((%(workspace)s::text || number)::bytea), 'hex')"
FILL_LEDGER = f"""
    INSERT INTO stored_objects
        (storage_provider, storage_path, kind, state, size_bytes, original_size, checksum_sha256, checksum_md5,
        storage_class, storage_region, compression_type, written_at)
    SELECT 'local', {PATH}, 'audio', 'stored', {FILE_BYTES}, {FILE_BYTES}, {SHA256}, '{"0" * 32}', '', '', 'none', now()
    FROM generate_series(1, %(count)s) AS number
"""
FILL = """
    INSERT INTO audio_uploads ({columns})
    SELECT {values}
    FROM audio_uploads model, generate_series(1, %(count)s) AS number
    WHERE model.workspace_id = %(workspace)s AND model.original_filename = 'model.mp3'
"""
#: Those of a table, but for those of its constraints.
INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = %s
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)
"""
AGE = "now() - interval '1 day' * %(oldest_days)s + interval '1 second' * number"


def prepare(url: str, var: str) -> None:
    """Set Django up on this database, with one connection and no pool."""
    os.environ.update(
        DATABASE_URL=url,
        VAR_DIR=var,
        DJANGO_SETTINGS_MODULE="audiotricks.settings",
        LOG_LEVEL="ERROR",
        THROTTLE_USER="1000000/min",
    )
    import django
    from django.conf import settings

    settings.DATABASES["default"]["OPTIONS"].pop("pool")
    settings.ALLOWED_HOSTS = ["testserver"]
    django.setup()


def use_database(name: str) -> None:
    """The next query goes to this database of the same server."""
    from django.db import connection

    connection.close()
    connection.settings_dict["NAME"] = name


def make_database(name: str, rows: int) -> None:
    """Make a database with ``rows`` uploads, each a file of its own, and use it.

    ``little`` owns a thousandth of them, 100 at least, and ``three`` as many in each of three workspaces: the oldest.
    ``everything`` owns the rest. ``staff`` owns none and sees all.
    """
    from django.core.management import call_command
    from django.db import connection

    use_database("postgres")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    use_database(name)
    call_command("migrate", verbosity=0)
    share = max(rows // 1000, 100)
    with indexes_made_afterwards("audio_uploads"):
        fill("little", share, oldest_days=3000)
        for number in range(3):
            fill("three", share, oldest_days=2500 + number, slug=f"three-{number}")
        fill("everything", rows - 4 * share, oldest_days=1000)
    make_user("staff", is_staff=True, is_superuser=True)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


@contextmanager
def indexes_made_afterwards(table: str) -> Iterator[None]:
    """Takes the table's indexes away while it is filled, all but those of constraints: it is much faster."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(INDEXES, [table])
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield
        for _, definition in indexes:
            cursor.execute(definition)


def make_user(name: str, **fields: Any) -> Any:
    from django.contrib.auth import get_user_model

    user, _ = get_user_model().objects.get_or_create(username=name, defaults=fields)
    return user


def fill(username: str, count: int, *, oldest_days: int, slug: str = "") -> None:
    """``count`` uploads in a workspace of this user, a second apart from ``oldest_days`` ago on."""
    from django.db import connection
    from django.utils import timezone

    from quotas.models import Membership, Workspace
    from quotas.reservations import ensure_quota
    from tests.factories import give_object
    from uploads.models import AudioUpload, Status

    user = make_user(username)
    workspace = Workspace.objects.create(name=username, slug=slug or username)
    Membership.objects.create(user=user, workspace=workspace, role=Membership.Role.OWNER)
    ensure_quota(workspace)
    model = AudioUpload(
        workspace=workspace,
        owner=user,
        original_filename="model.mp3",
        file_size=FILE_BYTES,
        original_size=FILE_BYTES,
        file_type="mp3",
        mime_type="audio/mpeg",
        duration="251.342",
        sample_rate=44100,
        channels=2,
        bitrate=320,
        codec="mp3",
        metadata={
            "tags": {"title": "A song that has a name", "artist": "Somebody", "album": "An album", "track": "7/12"}
        },
        storage_provider="local",
        storage_path="audio/model",
        checksum_md5="0" * 32,
        status=Status.COMPLETED,
        uploaded_at=timezone.now(),
    )
    give_object(model)
    model.save()
    own = {
        "id": "gen_random_uuid()",
        "original_filename": "'recording ' || number || '.mp3'",
        "folded_filename": "'recording ' || number || '.mp3'",
        "stored_object_id": OBJECT,
        "storage_path": PATH,
        "storage_url": f"'local:///' || {PATH}",
        "checksum_sha256": SHA256,
        "created_at": AGE,
        "uploaded_at": AGE,
        "claimable_at": AGE,
        "status": f"CASE WHEN number %% 100 < {FAILED} THEN 'failed' "
        f"WHEN number %% 100 < {FAILED + TRASHED} THEN 'deleted' "
        "WHEN number %% 10000 = 99 THEN 'uploaded' ELSE 'completed' END",
        "deleted_at": f"CASE WHEN number %% 100 BETWEEN {FAILED} AND {FAILED + TRASHED - 1} THEN now() END",
    }
    columns = [field.column for field in AudioUpload._meta.concrete_fields]
    statement = FILL.format(
        columns=", ".join(columns), values=", ".join(own.get(column, f"model.{column}") for column in columns)
    )
    with connection.cursor() as cursor:
        given = {"count": count, "workspace": workspace.pk, "oldest_days": oldest_days}
        cursor.execute(FILL_LEDGER, given)
        cursor.execute(statement, given)
    model.delete()

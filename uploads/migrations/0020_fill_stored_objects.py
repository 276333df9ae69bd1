"""Each object that a file names gets its row, and the file its foreign keys: in batches, and again from where it ended."""

from django.db import migrations
from django.db.models import Q

BATCH = 5_000

FILL = (
    # An object that was noted as an orphan although a file needs it begins anew, with all that is known of it.
    """
    DELETE FROM stored_objects WHERE unneeded_since IS NOT NULL AND (storage_provider, storage_path) IN (
        SELECT storage_provider, storage_path FROM audio_uploads
        WHERE id BETWEEN %s AND %s AND status <> 'purged' AND storage_path <> ''
        UNION SELECT storage_provider, thumbnail_path FROM audio_uploads
        WHERE id BETWEEN %s AND %s AND status <> 'purged' AND thumbnail_path <> '')
    """,
    # One row for each object, however many files share it. A tombstone's object is on its way out.
    """
    INSERT INTO stored_objects (
        storage_provider, storage_path, kind, state, size_bytes, checksum_sha256, checksum_md5, storage_class,
        storage_region, encryption_key_id, compression_type, original_size, written_at, verified_at)
    SELECT storage_provider, storage_path, 'audio',
        CASE status WHEN 'receiving' THEN 'writing' ELSE 'stored' END,
        COALESCE(compressed_size, file_size), checksum_sha256, checksum_md5, storage_class,
        storage_region, encryption_key_id, compression_type, original_size, uploaded_at, verified_at
    FROM audio_uploads
    WHERE id BETWEEN %s AND %s AND storage_path <> '' AND status <> 'purged' AND stored_object_id IS NULL
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO stored_objects (
        storage_provider, storage_path, kind, state, size_bytes, checksum_sha256, checksum_md5, storage_class,
        storage_region, compression_type, written_at)
    SELECT storage_provider, thumbnail_path, 'thumbnail', 'stored', 0, '', '', '', '', 'none', uploaded_at
    FROM audio_uploads
    WHERE id BETWEEN %s AND %s AND thumbnail_path <> '' AND status <> 'purged' AND stored_object_id IS NULL
    ON CONFLICT DO NOTHING
    """,
    """
    UPDATE audio_uploads SET
        stored_object_id = (
            SELECT id FROM stored_objects AS o
            WHERE o.storage_provider = audio_uploads.storage_provider AND o.storage_path = audio_uploads.storage_path),
        thumbnail_object_id = (
            SELECT id FROM stored_objects AS o
            WHERE audio_uploads.thumbnail_path <> '' AND o.storage_provider = audio_uploads.storage_provider
                AND o.storage_path = audio_uploads.thumbnail_path)
    WHERE id BETWEEN %s AND %s AND status <> 'purged' AND storage_path <> '' AND stored_object_id IS NULL
    """,
)


def fill(apps, schema_editor):
    connection = schema_editor.connection
    uploads = apps.get_model("uploads", "AudioUpload")
    rows = uploads.objects.using(connection.alias).order_by("pk")
    first = rows.values_list("pk", flat=True).first()
    while first is not None:
        batch = rows.filter(pk__gte=first).values_list("pk", flat=True)
        last = (list(batch[BATCH - 1 : BATCH]) or [rows.values_list("pk", flat=True).last()])[0]
        bounds = [uploads._meta.pk.get_db_prep_value(pk, connection) for pk in (first, last)]
        with connection.cursor() as cursor:
            for statement in FILL:
                cursor.execute(statement, bounds * (statement.count("%s") // 2))
        first = rows.filter(pk__gt=last).values_list("pk", flat=True).first()


def note_tombstones(apps, schema_editor):
    """What a purge that was interrupted has still to remove, unless another file needs it."""
    alias = schema_editor.connection.alias
    uploads = apps.get_model("uploads", "AudioUpload").objects.using(alias)
    objects = apps.get_model("uploads", "StoredObject").objects.using(alias)
    for upload in uploads.filter(status="purged").iterator():
        for name, kind in ((upload.thumbnail_path, "thumbnail"), (upload.storage_path, "audio")):
            if not name:
                continue
            row, made = objects.get_or_create(
                storage_provider=upload.storage_provider,
                storage_path=name,
                defaults={
                    "kind": kind,
                    "state": "removing",
                    "size_bytes": upload.file_size if kind == "audio" else 0,
                    "unneeded_since": upload.purged_at or upload.created_at,
                },
            )
            if not made and row.unneeded_since is not None:
                objects.filter(pk=row.pk).update(state="removing")


def name_pictures(apps, schema_editor):
    objects = apps.get_model("uploads", "StoredObject").objects.using(schema_editor.connection.alias)
    pictures = Q(storage_path__contains="/thumbnail.") | Q(storage_path__contains=".thumbnail.")
    objects.filter(pictures, unneeded_since__isnull=False).update(kind="thumbnail")


def rename_permissions(before, after):
    def rename(apps, schema_editor):
        permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
        for action in ("add", "change", "delete", "view"):
            for permission in permissions.filter(codename=f"{action}_{before}", content_type__app_label="uploads"):
                renamed = permissions.filter(content_type=permission.content_type_id, codename=f"{action}_{after}")
                if not renamed.exists():
                    permissions.filter(pk=permission.pk).update(codename=f"{action}_{after}")

    return rename


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
        ("uploads", "0019_owners_of_objects"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunPython(note_tombstones, migrations.RunPython.noop),
        migrations.RunPython(name_pictures, migrations.RunPython.noop),
        # Who could see orphaned objects sees stored ones.
        migrations.RunPython(
            rename_permissions("orphanedobject", "storedobject"), rename_permissions("storedobject", "orphanedobject")
        ),
    ]

import django.db.models.deletion
from django.db import migrations, models

IN_LISTS = models.Q(uploaded_at__isnull=False, deleted_at__isnull=True)
OF_KEY = "audio_uploads_encryption_key_id_79d8bd09"


class Migration(migrations.Migration):
    dependencies = [
        ("audiotricks", "0007_token_scopes_and_sign_in_counters"),
        ("uploads", "0014_processing_turns"),
    ]

    operations = [
        *(
            migrations.RemoveIndex("audioupload", f"audio_uploads_{name}")
            for name in (
                *("listed", "newest", "in_state", "open_work", "by_sha256", "by_md5"),
                *("by_workspace", "by_name", "by_size", "by_format", "by_storage"),
            )
        ),
        migrations.SeparateDatabaseAndState(
            # AlterField would copy the whole table on SQLite.
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX {OF_KEY}",
                    f"CREATE INDEX {OF_KEY} ON audio_uploads (encryption_key_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "audioupload",
                    "encryption_key",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="audiotricks.encryptionkey",
                        verbose_name="encryption key",
                    ),
                )
            ],
        ),
        *(
            migrations.AddIndex(
                "audioupload", models.Index(fields=fields, name=f"audio_uploads_{name}", condition=condition)
            )
            for name, fields, condition in (
                ("in_state", ["status", "-uploaded_at", "-id"], None),
                ("by_sha256", ["checksum_sha256", "workspace"], None),
                ("by_md5", ["checksum_md5"], None),
                ("listed", ["workspace", "-uploaded_at", "-id"], IN_LISTS),
                ("by_name", ["workspace", "original_filename", "id"], IN_LISTS),
                ("by_size", ["workspace", "file_size", "id", "status"], IN_LISTS),
                ("by_key", ["encryption_key"], models.Q(encryption_key__isnull=False)),
            )
        ),
    ]

"""``orphaned_objects`` grows into ``stored_objects``; the objects that it holds keep their grace period."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("audiotricks", "0003_words"),
        ("uploads", "0016_bulk_action_choices"),
    ]

    operations = [
        migrations.RemoveIndex("orphanedobject", "orphaned_objects_newest"),
        migrations.RemoveConstraint("orphanedobject", "orphaned_objects_once"),
        migrations.RenameModel("OrphanedObject", "StoredObject"),
        migrations.AlterModelTable("storedobject", "stored_objects"),
        migrations.AlterModelOptions(
            "storedobject",
            {"ordering": ["-id"], "verbose_name": "stored object", "verbose_name_plural": "stored objects"},
        ),
        migrations.RenameField("storedobject", "size", "size_bytes"),
        migrations.RenameField("storedobject", "first_seen_at", "unneeded_since"),
        migrations.AlterField(
            "storedobject",
            "storage_provider",
            models.CharField(editable=False, max_length=50, verbose_name="storage provider"),
        ),
        migrations.AlterField(
            "storedobject", "storage_path", models.TextField(editable=False, verbose_name="storage path")
        ),
        migrations.AlterField(
            "storedobject",
            "size_bytes",
            models.BigIntegerField(editable=False, help_text="Bytes.", verbose_name="size"),
        ),
        migrations.AlterField(
            "storedobject",
            "unneeded_since",
            models.DateTimeField(
                editable=False, help_text="Empty while a file needs it.", null=True, verbose_name="unneeded since"
            ),
        ),
        migrations.AddField(
            "storedobject",
            "kind",
            models.CharField(
                choices=[("audio", "Audio"), ("thumbnail", "Picture")],
                default="audio",
                editable=False,
                max_length=20,
                verbose_name="kind",
            ),
            preserve_default=False,
        ),
        # What was known as an orphan lies in its storage.
        migrations.AddField(
            "storedobject",
            "state",
            models.CharField(
                choices=[("writing", "Being written"), ("stored", "Stored"), ("removing", "Being removed")],
                default="stored",
                editable=False,
                max_length=20,
                verbose_name="state",
            ),
        ),
        migrations.AlterField(
            "storedobject",
            "state",
            models.CharField(
                choices=[("writing", "Being written"), ("stored", "Stored"), ("removing", "Being removed")],
                default="writing",
                editable=False,
                max_length=20,
                verbose_name="state",
            ),
        ),
        migrations.AddField(
            "storedobject",
            "checksum_sha256",
            models.CharField(blank=True, default="", editable=False, max_length=64, verbose_name="checksum sha256"),
            preserve_default=False,
        ),
        migrations.AddField(
            "storedobject",
            "checksum_md5",
            models.CharField(blank=True, default="", editable=False, max_length=32, verbose_name="checksum md5"),
            preserve_default=False,
        ),
        migrations.AddField(
            "storedobject",
            "storage_class",
            models.CharField(blank=True, default="", editable=False, max_length=50, verbose_name="storage class"),
            preserve_default=False,
        ),
        migrations.AddField(
            "storedobject",
            "storage_region",
            models.CharField(blank=True, default="", editable=False, max_length=50, verbose_name="storage region"),
            preserve_default=False,
        ),
        migrations.AddField(
            "storedobject",
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
        ),
        migrations.AddField(
            "storedobject",
            "compression_type",
            models.CharField(default="none", editable=False, max_length=20, verbose_name="compression type"),
        ),
        migrations.AddField(
            "storedobject",
            "original_size",
            models.BigIntegerField(editable=False, null=True, verbose_name="original size"),
        ),
        migrations.AddField(
            "storedobject",
            "written_at",
            models.DateTimeField(editable=False, null=True, verbose_name="written at"),
        ),
        migrations.AddField(
            "storedobject",
            "verified_at",
            models.DateTimeField(
                editable=False,
                help_text="When the stored bytes were last read again, and found whole.",
                null=True,
                verbose_name="verified at",
            ),
        ),
        migrations.AddConstraint(
            "storedobject",
            models.UniqueConstraint(fields=("storage_provider", "storage_path"), name="stored_objects_once"),
        ),
        migrations.AddConstraint(
            "storedobject",
            models.CheckConstraint(
                condition=Q(state__in=["writing", "stored", "removing"]), name="stored_objects_state_known"
            ),
        ),
        migrations.AddConstraint(
            "storedobject",
            models.CheckConstraint(condition=Q(size_bytes__gte=0), name="stored_objects_size_not_negative"),
        ),
        migrations.AddConstraint(
            "storedobject",
            models.CheckConstraint(
                condition=~Q(state="removing") | Q(unneeded_since__isnull=False),
                name="stored_objects_removing_unneeded",
            ),
        ),
        migrations.AddIndex(
            "storedobject",
            models.Index(
                fields=["-unneeded_since", "-id"],
                name="stored_objects_unneeded",
                condition=Q(unneeded_since__isnull=False),
            ),
        ),
    ]

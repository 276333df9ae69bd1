from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("uploads", "0020_fill_stored_objects")]

    operations = [
        migrations.RemoveIndex("audioupload", "audio_uploads_by_object"),
        migrations.AddIndex(
            "audioupload",
            models.Index(
                fields=["stored_object", "uploaded_at", "id"],
                name="audio_uploads_by_object",
                condition=Q(stored_object__isnull=False),
            ),
        ),
        migrations.AddIndex(
            "audioupload",
            models.Index(
                fields=["thumbnail_object"],
                name="audio_uploads_by_thumbnail",
                condition=Q(thumbnail_object__isnull=False),
            ),
        ),
        migrations.AddIndex(
            "storedobject",
            models.Index(fields=["checksum_sha256"], name="stored_objects_by_sha256", condition=~Q(checksum_sha256="")),
        ),
        migrations.AddConstraint(
            "audioupload",
            models.CheckConstraint(
                condition=Q(status="purged") | Q(stored_object__isnull=False), name="audio_uploads_owns_object"
            ),
        ),
    ]

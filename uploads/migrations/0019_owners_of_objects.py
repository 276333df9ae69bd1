import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("uploads", "0018_only_orphans_remain")]

    operations = [
        migrations.AddField(
            "audioupload",
            name,
            models.ForeignKey(
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name=related_name,
                to="uploads.storedobject",
                verbose_name=verbose_name,
            ),
        )
        for name, related_name, verbose_name in (
            ("stored_object", "uploads", "stored object"),
            ("thumbnail_object", "pictured_uploads", "stored picture"),
        )
    ]

from django.db import migrations

import uploads.models.names


class Migration(migrations.Migration):
    dependencies = [("uploads", "0005_upload_sessions")]

    operations = [
        migrations.AddField(
            model_name="audioupload",
            name="folded_filename",
            field=uploads.models.names.FoldedNameField(
                default="", editable=False, verbose_name="name as it is searched"
            ),
        ),
    ]

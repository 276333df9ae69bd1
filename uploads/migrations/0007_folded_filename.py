from django.db import migrations

import uploads.models.names


class Migration(migrations.Migration):
    dependencies = [("uploads", "0006_part_md5s")]

    operations = [
        migrations.AddField(
            model_name="audioupload",
            name="folded_filename",
            field=uploads.models.names.FoldedNameField(
                default="", editable=False, verbose_name="name as it is searched"
            ),
        ),
    ]

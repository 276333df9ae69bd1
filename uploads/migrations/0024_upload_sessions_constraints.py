import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("quotas", "0002_words"),
        ("uploads", "0023_fill_upload_sessions"),
    ]

    operations = [
        migrations.AlterField(
            model_name='uploadsession',
            name='storage_path',
            field=models.TextField(editable=False, verbose_name='storage path'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='storage_provider',
            field=models.CharField(editable=False, max_length=50, verbose_name='storage provider'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='workspace',
            field=models.ForeignKey(db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='upload_sessions', to='quotas.workspace', verbose_name='workspace'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['open', 'completed', 'ended'])), name='upload_sessions_state_known'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(('received_bytes__gte', 0)), name='upload_sessions_received_not_negative'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(('size_bytes__isnull', True), ('received_bytes__lte', models.F('size_bytes')), _connector='OR'), name='upload_sessions_received_within_size'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(('is_partial', False), ('upload__isnull', True), _connector='OR'), name='upload_sessions_partial_has_no_file'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(('is_partial', True), models.Q(('state', 'open'), _negated=True), ('upload__isnull', False), _connector='OR'), name='upload_sessions_open_has_file'),
        ),
        migrations.AddConstraint(
            model_name='uploadsession',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'completed'), _negated=True), ('handle', ''), _connector='OR'), name='upload_sessions_completed_has_no_handle'),
        ),
    ]

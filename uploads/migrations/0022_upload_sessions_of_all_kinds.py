import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("quotas", "0002_words"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("uploads", "0021_indexes_of_owners"),
    ]

    operations = [
        migrations.CreateModel(
            name='UploadPart',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(verbose_name='number')),
                ('size_bytes', models.BigIntegerField(help_text='Bytes.', verbose_name='size')),
                ('tag', models.TextField(blank=True, help_text="The storage's name for exactly these bytes.", verbose_name='tag')),
                ('is_stored', models.BooleanField(default=False, verbose_name='stored')),
                ('writer', models.UUIDField(null=True, verbose_name='writer')),
                ('claimable_at', models.DateTimeField(null=True, verbose_name='claimable at')),
            ],
            options={
                'verbose_name': 'part of an upload',
                'verbose_name_plural': 'parts of uploads',
                'db_table': 'upload_session_parts',
                'ordering': ['session', 'number'],
            },
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='client_metadata',
            field=models.JSONField(blank=True, default=list, editable=False, help_text='Pairs of a key and its value in base64.', verbose_name='metadata of the client'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='error_code',
            field=models.CharField(blank=True, editable=False, help_text='Why it ended without a file.', max_length=50, verbose_name='error code'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='final',
            field=models.ForeignKey(db_index=False, editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='partials', to='uploads.uploadsession', verbose_name='joined into'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='final_place',
            field=models.PositiveSmallIntegerField(editable=False, null=True, verbose_name='place'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='is_partial',
            field=models.BooleanField(default=False, editable=False, help_text='Its bytes become a part of another upload.', verbose_name='partial'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='owner',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='upload_sessions', to=settings.AUTH_USER_MODEL, verbose_name='owner'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='received_bytes',
            field=models.BigIntegerField(default=0, editable=False, help_text='Bytes.', verbose_name='received'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='reservation',
            field=models.OneToOneField(editable=False, help_text='Of a partial upload; others have that of their file.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='session', to='quotas.quotareservation', verbose_name='reservation'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='size_bytes',
            field=models.BigIntegerField(editable=False, help_text='Bytes; empty while the client has not declared it.', null=True, verbose_name='size'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='state',
            field=models.CharField(choices=[('open', 'Open'), ('completed', 'Completed'), ('ended', 'Ended')], default='open', editable=False, max_length=20, verbose_name='state'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='storage_path',
            field=models.TextField(null=True, editable=False, verbose_name='storage path'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='storage_provider',
            field=models.CharField(null=True, editable=False, max_length=50, verbose_name='storage provider'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='tail',
            field=models.TextField(blank=True, editable=False, help_text='Where the bytes lie that are too few for a part.', verbose_name='object of the last bytes'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='workspace',
            field=models.ForeignKey(null=True, db_index=False, editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='upload_sessions', to='quotas.workspace', verbose_name='workspace'),
        ),
        migrations.AddField(
            model_name='uploadsession',
            name='writer',
            field=models.UUIDField(editable=False, null=True, verbose_name='writer'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='claimable_at',
            field=models.DateTimeField(editable=False, help_text='Until then somebody writes to it or completes it; empty where nobody does.', null=True, verbose_name='claimable at'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='kind',
            field=models.CharField(choices=[('direct', 'Direct to the bucket'), ('tus', 'Resumable (tus)'), ('chunks', 'Numbered chunks')], editable=False, max_length=20, verbose_name='kind'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='method',
            field=models.CharField(blank=True, choices=[('parts', 'Parts'), ('session', 'Resumable session'), ('staged', 'Staged object')], editable=False, max_length=20, verbose_name='method'),
        ),
        migrations.AlterField(
            model_name='uploadsession',
            name='upload',
            field=models.OneToOneField(editable=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='session', to='uploads.audioupload', verbose_name='upload'),
        ),
        migrations.AddIndex(
            model_name='uploadsession',
            index=models.Index(condition=models.Q(('state', 'open')), fields=['owner', '-created_at', '-id'], name='upload_sessions_open_of_owner'),
        ),
        migrations.AddIndex(
            model_name='uploadsession',
            index=models.Index(fields=['workspace', '-created_at'], name='upload_sessions_of_workspace'),
        ),
        migrations.AddIndex(
            model_name='uploadsession',
            index=models.Index(condition=models.Q(('final__isnull', False)), fields=['final'], name='upload_sessions_of_final'),
        ),
        migrations.AddField(
            model_name='uploadpart',
            name='session',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='parts', to='uploads.uploadsession', verbose_name='session'),
        ),
        migrations.AddConstraint(
            model_name='uploadpart',
            constraint=models.UniqueConstraint(fields=('session', 'number'), name='upload_session_parts_once'),
        ),
        migrations.AddConstraint(
            model_name='uploadpart',
            constraint=models.CheckConstraint(condition=models.Q(('number__gte', 1)), name='upload_session_parts_from_one'),
        ),
    ]

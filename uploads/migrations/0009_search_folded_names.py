from django.db import migrations

NEW = "CREATE INDEX audio_uploads_name_trigrams ON audio_uploads USING gin (name_trigrams(folded_filename))"
OLD = "CREATE INDEX audio_uploads_name_trigrams ON audio_uploads USING gin (name_trigrams(upper(original_filename)))"
DROP = "DROP INDEX audio_uploads_name_trigrams"


def index_folded_names(apps, schema_editor):
    """SQLite has no such index, and reads the names."""
    if schema_editor.connection.vendor == "postgresql":
        for statement in (DROP, NEW, "ANALYZE audio_uploads"):
            schema_editor.execute(statement)


def index_names(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for statement in (DROP, OLD, "ANALYZE audio_uploads"):
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("uploads", "0008_fold_names_and_bound_tags")]

    operations = [migrations.RunPython(index_folded_names, index_names)]

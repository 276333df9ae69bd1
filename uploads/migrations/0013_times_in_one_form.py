"""SQLite compares times as text, and those that Django's Now() wrote have no microseconds: give all the same form."""

from django.db import migrations, models

APPS = ("audiotricks", "quotas", "uploads")
BATCH = 10_000


def write_microseconds(apps, schema_editor):
    connection = schema_editor.connection
    if connection.vendor != "sqlite":
        return
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        for model in (model for app in APPS for model in apps.get_app_config(app).get_models()):
            columns = [field.column for field in model._meta.local_fields if isinstance(field, models.DateTimeField)]
            if not columns:
                continue
            table = quote(model._meta.db_table)
            cursor.execute(f"SELECT COALESCE(MAX(rowid), 0) FROM {table}")  # noqa: S608 - names of the schema
            last = cursor.fetchone()[0]
            # "2026-01-31 12:00:00.123" becomes "....123000", and ".000" goes, as str() of a datetime has it.
            changes = ", ".join(
                f"{column} = CASE WHEN LENGTH({column}) = 23 THEN REPLACE({column} || '000', '.000000', '') "
                f"ELSE {column} END"
                for column in map(quote, columns)
            )
            found = " OR ".join(f"LENGTH({quote(column)}) = 23" for column in columns)
            for start in range(0, last + 1, BATCH):
                cursor.execute(
                    f"UPDATE {table} SET {changes} WHERE rowid BETWEEN %s AND %s AND ({found})",  # noqa: S608
                    [start, start + BATCH - 1],
                )


class Migration(migrations.Migration):
    dependencies = [
        ("audiotricks", "0003_words"),
        ("quotas", "0002_words"),
        ("uploads", "0012_event_right"),
    ]

    operations = [migrations.RunPython(write_microseconds, migrations.RunPython.noop, elidable=True)]

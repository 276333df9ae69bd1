"""Names as they are searched are written for all files, and tags that are too large are shortened, in batches.

Both may be killed and begun again. Back again, the column goes, and tags stay as they are: what was cut can be read
from the file once more.
"""

import json

from django.db import migrations

from uploads.models.folding import fold

BATCH = 2_000
MAX_BYTES = 62 * 1024
MAX_VALUE_LENGTH = 8_000
FIRST = ("title", "artist", "album", "albumartist", "composer", "track", "disc", "date", "genre", "language")


def batches(rows):
    last = None
    while True:
        batch = list((rows if last is None else rows.filter(pk__gt=last)).order_by("pk")[:BATCH])
        if not batch:
            return
        yield batch
        last = batch[-1][0]


def fold_names(apps, schema_editor):
    uploads = apps.get_model("uploads", "AudioUpload")
    connection = schema_editor.connection
    for batch in batches(uploads.objects.values_list("pk", "original_filename", "folded_filename")):
        changes = [
            (folded, uploads._meta.pk.get_db_prep_value(pk, connection))
            for pk, name, before in batch
            if (folded := fold(name)) != before
        ]
        with connection.cursor() as cursor:
            cursor.executemany("UPDATE audio_uploads SET folded_filename = %s WHERE id = %s", changes)


def bound_tags(apps, schema_editor):
    uploads = apps.get_model("uploads", "AudioUpload")
    size = "octet_length(metadata::text)" if schema_editor.connection.vendor == "postgresql" else "length(metadata)"
    large = uploads.objects.extra(where=[f"{size} > {MAX_BYTES}"])
    for pk in list(large.values_list("pk", flat=True)):
        metadata = uploads.objects.values_list("metadata", flat=True).get(pk=pk)
        tags = metadata.get("tags")
        if isinstance(tags, dict):
            others = {name: value for name, value in metadata.items() if name != "tags"}
            uploads.objects.filter(pk=pk).update(metadata={**others, "tags": bounded(tags), "tags_cut": True})


def bounded(tags):
    """The tags that fit, those that people look for first; texts are shortened."""
    room = MAX_BYTES
    kept = {}
    for key in sorted(tags, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST)):
        values = tags[key] if isinstance(tags[key], list) else [tags[key]]
        shortened = [str(value)[:MAX_VALUE_LENGTH] for value in values]
        value = shortened if isinstance(tags[key], list) else shortened[0]
        cost = len(json.dumps({key: value}))
        if cost <= room:
            kept[key] = value
            room -= cost
    return kept


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("uploads", "0007_folded_filename")]

    operations = [
        migrations.RunPython(fold_names, migrations.RunPython.noop),
        migrations.RunPython(bound_tags, migrations.RunPython.noop),
    ]
